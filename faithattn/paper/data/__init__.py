"""Texts and questions: generated or read, tokenised, collated."""
