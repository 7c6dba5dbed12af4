"""adapt() and what it is made of."""
