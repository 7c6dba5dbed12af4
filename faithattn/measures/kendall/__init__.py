"""Kendall's tau, in integers."""
