"""A model in, attention and logits out."""
