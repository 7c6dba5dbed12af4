"""P-values of means, and what is left of many after correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from torch import Tensor

from faithattn.statistics import bootstrap
from faithattn.statistics.values import (
    Clusters,
    Numbers,
    Sample,
    as_values,
    require_share,
    sample_of,
)

SIGNIFICANCE = 0.05
# In single precision 1/20 lies just above .05 in double.
SLACK = 1 + 1e-6


def mean_pvalue(
    values: Numbers, against: float = 0.0, *, clusters: Clusters | None = None
) -> float:
    """Two-sided p-value of the mean being ``against``: Student's t, corrected for skewness.

    Hall's cubic transformation of the t statistic takes out what skewness
    does to it, so that no resamples limit how small the p-value can be. Its
    size, measured, is in ``docs/statistics.md``. It is not read off the
    interval: near 5 % the two can disagree.

    Args:
        values: One value an instance, ``(N,)``; nan is left out.
        against: The mean under the null hypothesis.
        clusters: As for :func:`faithattn.mean_interval`; the degrees of
            freedom are then those of the clusters.

    Returns:
        The p-value, 0 to 1; nan where fewer than two values, or clusters, are
        defined, or one is infinite. Where nothing varies: 1 if the values are
        ``against``, else that of the sign test, 2 ** (1 - N).

    References:
        Hall (1992), "On the removal of skewness by transformation".

    Examples:
        >>> print(f"{mean_pvalue([0.1, 0.4, 0.3, 0.6, 0.2, 0.5]):.4f}")
        0.0059
    """
    return studentised([sample_of(as_values("values", values), clusters)], against)


def studentised(samples: Sequence[Sample], against: float) -> float:
    """The p-value of one mean, or of the difference of two."""
    if not bootstrap.is_defined(samples):
        return math.nan
    away = bootstrap.difference(samples) - against
    if bootstrap.is_constant(samples):
        size = max(abs(sample.mean) for sample in samples) + abs(against)
        count = min(len(sample) for sample in samples)
        return 1.0 if abs(away) <= 1e-12 * size else 2.0 ** (1 - count)
    skewness = bootstrap.cumulants(samples)[1]
    statistic = away / bootstrap.standard_error(samples)
    statistic += skewness * (statistic**2 / 3 + 1 / 6) + skewness**2 * statistic**3 / 27
    return float(2 * special.stdtr(bootstrap.degrees(samples), -abs(statistic)))


def benjamini_hochberg(
    pvalues: ArrayLike | Tensor, *, level: float = SIGNIFICANCE
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of many tests to call significant, so that few of those are chance.

    All p-values are one family, whatever the shape: instances, heads, or
    layers by heads. The expected share of false among the rejected stays
    below ``level`` if the tests are independent or positively dependent.

    Args:
        pvalues: Of any shape; nan is left out of the family.
        level: Largest share of false discoveries.

    Returns:
        ``rejected`` and ``adjusted``, in the shape of ``pvalues``: whether
        the test is significant, and the smallest level at which it would be.
        Where the p-value is nan the first is False and the second nan, so
        ``np.isnan(adjusted).sum()`` counts what was left out.

    Raises:
        ValueError: If a p-value is not between 0 and 1, or ``level`` is not.

    References:
        Benjamini and Hochberg (1995), "Controlling the false discovery rate".

    Examples:
        >>> rejected, adjusted = benjamini_hochberg([0.01, 0.04, float("nan"), 0.03])
        >>> rejected.tolist(), adjusted.round(3).tolist()
        ([True, True, False, True], [0.03, 0.04, nan, 0.04])
    """
    require_share("level", level)
    given = np.asarray(
        pvalues.detach().cpu().double() if isinstance(pvalues, Tensor) else pvalues, np.float64
    )
    known = ~np.isnan(given)
    family = given[known]
    if ((family < 0) | (family > 1)).any():
        raise ValueError(
            f"pvalues must be between 0 and 1; got {family.min():.4g} to {family.max():.4g}. "
            "Leave undefined ones nan."
        )
    adjusted = np.full(given.shape, np.nan)
    if len(family):
        adjusted[known] = stats.false_discovery_control(family, method="bh")
    return np.less_equal(adjusted, level * SLACK, where=known, out=np.zeros_like(known)), adjusted
