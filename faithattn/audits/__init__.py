"""Whole data sets: from a model and batches to a verdict."""
