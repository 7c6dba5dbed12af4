"""From evidence to verdicts: one rule a test, and a paragraph over all of them."""
