"""The figures of Jain and Wallace (2019), to show beside a reproduction."""

from faithattn.paper.published.figures import PublishedFigure, published, published_row

__all__ = ["PublishedFigure", "published", "published_row"]
