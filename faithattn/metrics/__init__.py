"""Thin functions that run a model and measure."""
