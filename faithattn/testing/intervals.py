"""Bounds of a mean and of a paired difference.

Stands in for the functions of these names in ``faithattn.statistics``, with their signatures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
Clusters = NDArray[np.int64] | None
_POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """Paired difference of two means.

    Attributes:
        mean: Mean of ``a - b`` over the pairs that both have a value.
        low: Lower end of its 95 % interval.
        high: Upper end.
        effect: Mean over standard deviation of the differences (Cohen's d_z);
            nan where they do not vary.
        n: Number of pairs with two values.
        undefined: Pairs without.
    """

    mean: float
    low: float
    high: float
    effect: float
    n: int
    undefined: int


def mean_interval(
    values: Values, *, clusters: Clusters = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval (BCa) of the mean of the defined values."""
    return _bootstrap(values, clusters, confidence, "two-sided")


def mean_bound(
    values: Values,
    side: Literal["lower", "upper"],
    *,
    clusters: Clusters = None,
    confidence: float = 0.95,
) -> float:
    """One-sided bootstrap bound (BCa) of the mean of the defined values."""
    low, high = _bootstrap(values, clusters, confidence, "greater" if side == "lower" else "less")
    return low if side == "lower" else high


def compare_means(
    a: Values, b: Values, *, paired: bool = True, clusters: Clusters = None
) -> Difference:
    """How much larger the values of ``a`` are, pair by pair."""
    if not paired:
        raise ValueError("paired must be True; got False. Give both values of each instance.")
    change = np.asarray(a, float) - np.asarray(b, float)
    known = change[~np.isnan(change)]
    if not len(known):
        nan = math.nan
        return Difference(nan, nan, nan, nan, 0, len(change))
    spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    mean = float(known.mean())
    low, high = mean_interval(change, clusters=clusters)
    effect = mean / spread if spread > 0 else math.nan
    return Difference(mean, low, high, effect, len(known), len(change) - len(known))


def minimum_detectable_effect(values: Values, *, clusters: Clusters = None) -> float:
    """Smallest difference of the mean from a value that the sample shows with power .8."""
    known = values[~np.isnan(values)]
    low, high = mean_interval(values, clusters=clusters)
    error = (high - low) / (2 * stats.norm.ppf(0.975))
    return float(error * (stats.norm.ppf(0.975) + stats.norm.ppf(_POWER))) if len(known) else low


def _bootstrap(
    values: Values,
    clusters: Clusters,
    confidence: float,
    alternative: Literal["two-sided", "less", "greater"],
) -> tuple[float, float]:
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    kept = values[known]
    sums: Values = kept
    counts: Values = np.ones_like(kept)
    if clusters is not None and len(kept):
        _, place = np.unique(clusters[known], return_inverse=True)
        sums = np.bincount(place, kept).astype(np.float64)
        counts = np.bincount(place).astype(np.float64)
    if len(sums) < 2:
        return math.nan, math.nan
    if np.ptp(kept) <= 1e-12 * np.abs(kept).max():  # float noise has no distribution
        return float(kept.min()), float(kept.max())

    def ratio(one: Any, other: Any, axis: int = -1) -> Any:
        return one.sum(axis=axis) / other.sum(axis=axis)

    interval = stats.bootstrap(
        (sums, counts),
        ratio,
        n_resamples=2000,
        paired=True,
        vectorized=True,
        batch=max(1, 2**20 // len(sums)),
        confidence_level=confidence,
        alternative=alternative,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)
