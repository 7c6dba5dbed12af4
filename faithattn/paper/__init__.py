"""The published study end to end: its data, its models, its training and its figures."""
