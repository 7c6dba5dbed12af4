"""How a position is taken away."""
