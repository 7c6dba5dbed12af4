"""Captum's attributions, on the positions that can be explained."""
