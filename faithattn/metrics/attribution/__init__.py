"""Captum's attributions with all that is known of them, and Captum's own metrics."""
