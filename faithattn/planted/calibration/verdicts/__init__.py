"""Verdicts on models whose answer is known."""
