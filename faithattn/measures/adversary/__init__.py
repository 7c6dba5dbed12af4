"""Attention far from the original at almost the same output: the mathematics."""
