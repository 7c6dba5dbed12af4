"""Attention far from the original at almost the same output: what can be computed without a model."""
