"""Shares of instances, whose interval is not to come from their spread alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from faithattn.results.shares import share_interval
from faithattn.statistics import Statistics, describe
from faithattn.statistics.values import Clusters, as_clusters

Values = NDArray[np.float64]


def share_of(
    values: Values, pvalues: Values | None = None, clusters: Clusters | None = None
) -> Statistics:
    """Statistics of values that are 0 or 1, with Wilson's interval of their share.

    Twenty values of 1 do not show that all are 1, as a bootstrap would say. Of
    clusters the interval is the bootstrap's, but where their shares do not vary it is
    Wilson's of as many instances as there are clusters.

    Args:
        values: 0, 1 or nan, ``(N,)``.
        pvalues: As many, where there are some.
        clusters: What instances have in common, ``(N,)``.

    Examples:
        >>> round(share_of(np.ones(20)).low, 2)
        0.84
        >>> round(share_of(np.ones(20), clusters=np.arange(20) % 2).low, 2)
        0.34
    """
    found = describe(values, pvalues, clusters=clusters)
    known = ~np.isnan(values)
    count = units = int(known.sum())
    if clusters is not None:
        units = len(np.unique(as_clusters(clusters, len(values))[known]))
        if units < min(count, 2) or (units < count and found.low < found.high):
            return found
    ones = round(found.mean * units) if count else 0
    low, high = share_interval((torch.arange(units) < ones).double())
    return replace(found, low=low, high=high)
