"""Scores to hold an explanation against: gradient and leave-one-out."""
