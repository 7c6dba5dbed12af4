"""What the output does when many positions go: curves, their bounds, soft removal, agreement."""
