"""Outputs under other attention without running the whole model again."""
