"""Attention turned into scores of positions: the mathematics, without a model."""
