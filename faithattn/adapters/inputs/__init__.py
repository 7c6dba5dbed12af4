"""What a model takes: its structure, its mask, and how positions are taken out."""
