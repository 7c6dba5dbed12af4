"""Explanations beside each other, by every metric: values, text, figure."""
