"""Metrics scored on pairs whose order is known: which of the two is more faithful."""
