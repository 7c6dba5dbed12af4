"""Sees and replaces attention while a model runs."""
