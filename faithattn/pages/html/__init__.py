"""A document as one HTML page that needs nothing else."""

from faithattn.pages.html.page import html

__all__ = ["html"]
