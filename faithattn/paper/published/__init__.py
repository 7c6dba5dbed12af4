"""The figures of Jain and Wallace (2019), to show beside a reproduction."""

from faithattn.paper.published.datasets import PublishedDataset, published_datasets
from faithattn.paper.published.figures import PublishedFigure, published, published_row

__all__ = [
    "PublishedDataset",
    "PublishedFigure",
    "published",
    "published_datasets",
    "published_row",
]
