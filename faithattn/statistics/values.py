"""Per-instance values as arrays, and as sums over the clusters they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Values = NDArray[np.float64]
Numbers = ArrayLike | Tensor
Clusters = Sequence[Any] | NDArray[Any] | Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """Values whose mean is asked for, in units that were drawn independently.

    Attributes:
        sums: Sum of the values of each unit ``(G,)``; the values where there are no clusters.
        sizes: How many values each unit has ``(G,)``.
        clustered: Whether some unit has several values.
    """

    sums: Values
    sizes: Values
    clustered: bool

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def mean(self) -> float:
        """Mean of all values: a ratio of sums."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def influence(self) -> Values:
        """How far each unit pulls the mean, times G: the deviations of values without clusters."""
        deviations: Values = self.sums - self.mean * self.sizes
        return deviations * float(len(self) / self.sizes.sum())

    @property
    def spread(self) -> float:
        """Standard error of the mean by leaving out one unit after the other."""
        count = len(self)
        left = (self.sums.sum() - self.sums) / (self.sizes.sum() - self.sizes)
        return float(left.std() * np.sqrt(count - 1))


def as_values(name: str, values: Numbers) -> Values:
    """One value an instance, ``(N,)`` float64."""
    given = values.detach().cpu().double() if isinstance(values, Tensor) else values
    array: Values = np.asarray(given, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must have one dimension; got the shape {array.shape}. "
            "Give one value an instance."
        )
    return array


def as_clusters(clusters: Clusters, count: int) -> NDArray[np.int64]:
    """The clusters of ``count`` values, numbered from 0; a negative number is a cluster of one."""
    names = np.asarray(clusters.detach().cpu() if isinstance(clusters, Tensor) else clusters)
    if names.shape != (count,):
        raise ValueError(
            f"clusters must name the cluster of each of the {count} values; got the shape "
            f"{names.shape}. Give one name or whole number a value."
        )
    numbers = np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if names.dtype.kind in "if":
        alone = names < 0
        numbers[alone] = count + np.arange(alone.sum())
        numbers = np.unique(numbers, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers


def sample_of(values: Values, clusters: Clusters | None = None) -> Sample:
    """The defined values, summed up by cluster where clusters are given."""
    defined = ~np.isnan(values)
    if clusters is None:
        kept = values[defined]
        return Sample(kept, np.ones(len(kept)), clustered=False)
    numbers = as_clusters(clusters, len(values))[defined]
    sizes = np.bincount(numbers).astype(np.float64)
    sums = np.zeros(len(sizes))
    np.add.at(sums, numbers, values[defined])
    there = sizes > 0
    if (sizes <= 1).all():
        return sample_of(values)
    return Sample(sums[there], sizes[there], clustered=True)


def require_share(name: str, value: float, *, least: float = 0.0) -> float:
    """Returns a number strictly between ``least`` and 1."""
    if not least < value < 1:
        raise ValueError(
            f"{name} must be above {least:g} and below 1; got {value!r}. "
            "The usual value of a confidence is 0.95."
        )
    return float(value)
