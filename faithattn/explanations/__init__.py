"""Scores of positions that are held up as the reason of an output."""
