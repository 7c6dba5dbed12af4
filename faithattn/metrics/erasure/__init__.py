"""Attention weights taken away: one of them, or one after the other until the decision flips."""
