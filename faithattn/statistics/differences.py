"""Two sets of per-instance values compared: of two models, views or explanations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from faithattn.statistics import bootstrap
from faithattn.statistics.pvalues import studentised
from faithattn.statistics.values import (
    Clusters,
    Numbers,
    Values,
    as_values,
    require_share,
    sample_of,
)


@dataclass(frozen=True)
class Difference:
    """How much larger one set of values is than another.

    Attributes:
        mean: Mean of the first less mean of the second; where paired, over
            the pairs that are defined.
        low: Lower end of its bootstrap interval (BCa).
        high: Upper end.
        pvalue: Two-sided, of no difference; see :func:`faithattn.statistics.mean_pvalue`.
        effect: The difference in standard deviations, with Hedges' correction
            for few values: of the differences where paired (Cohen's d_z), else
            of the values within both sets (Cohen's d). Nan where they do not vary.
        superiority: Probability that a value of the first is larger than its
            partner, or than one drawn from the second; ties count half. Chance is .5.
        n: Pairs that count; values of both sets together if not paired.
        undefined: Pairs, or values, left out because of a nan.
        paired: Whether instances were compared with themselves.

    Examples:
        >>> found = compare_means([0.5, 0.9, 0.4], [0.3, 0.4, 0.5], paired=True)
        >>> print(f"{found.mean:.2f}, superiority {found.superiority:.2f}, delta {found.delta:.2f}")
        0.20, superiority 0.67, delta 0.33
    """

    mean: float
    low: float
    high: float
    pvalue: float
    effect: float
    superiority: float
    n: int
    undefined: int
    paired: bool

    @property
    def delta(self) -> float:
        """Cliff's delta, -1 to 1: superiority less inferiority."""
        return 2 * self.superiority - 1


def compare_means(
    a: Numbers,
    b: Numbers,
    *,
    paired: bool,
    clusters: Any = None,
    confidence: float = 0.95,
) -> Difference:
    """The difference of two means, with its interval, p-value and effect sizes.

    Args:
        a: One value an instance, ``(N,)``; nan is undefined.
        b: As many of the same instances where ``paired``, else any number of others.
        paired: Whether ``a[i]`` and ``b[i]`` belong to the same instance. Pairs
            are told apart much better than two sets of instances.
        clusters: What instances have in common, one name or whole number each,
            as for :func:`mean_interval`; two such sequences, of ``a`` and of ``b``, where not
            ``paired``, whose clusters are taken to be unrelated.
        confidence: Of the interval.

    Returns:
        The difference ``a - b``; nan, not an error, where there are fewer
        than two pairs, or values of one set.

    Raises:
        ValueError: If paired values are not as many, or clusters do not match.

    References:
        Efron and Tibshirani (1993), "An introduction to the bootstrap"; Hedges (1981),
        "Distribution theory for Glass's estimator of effect size"; Vargha
        and Delaney (2000), "A critique and improvement of the CL common language
        effect size statistics", for superiority.

    Examples:
        >>> import numpy as np
        >>> generator = np.random.default_rng(0)
        >>> before = generator.normal(0.3, 0.2, 100)
        >>> after = before + generator.normal(0.05, 0.1, 100)
        >>> found = compare_means(after, before, paired=True)
        >>> print(f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}], d_z {found.effect:.2f}")
        0.045 [0.026, 0.063], d_z 0.46
        >>> print(f"{compare_means(after, before, paired=False).effect:.2f}")
        0.22
    """
    require_share("confidence", confidence)
    first, second = as_values("a", a), as_values("b", b)
    if paired:
        return _pairs(first, second, clusters, confidence)
    return _sets(first, second, clusters, confidence)


def _pairs(a: Values, b: Values, clusters: Clusters | None, confidence: float) -> Difference:
    if len(a) != len(b):
        raise ValueError(
            f"b must have a partner for each of the values of a; got {len(a)} and {len(b)}. "
            "Pass paired=False for different instances."
        )
    with np.errstate(invalid="ignore"):  # two infinite values do not differ by a number
        apart = a - b
    kept = apart[~np.isnan(apart)]
    samples = [sample_of(apart, clusters)]
    low, high = bootstrap.interval(samples, confidence)
    return Difference(
        mean=float(kept.mean()) if len(kept) else math.nan,
        low=low,
        high=high,
        pvalue=studentised(samples, 0.0),
        effect=_standardised(kept, len(kept) - 1),
        superiority=float((kept > 0).mean() + (kept == 0).mean() / 2) if len(kept) else math.nan,
        n=len(kept),
        undefined=len(apart) - len(kept),
        paired=True,
    )


def _sets(a: Values, b: Values, clusters: Any, confidence: float) -> Difference:
    if clusters is not None and len(clusters) != 2:
        raise ValueError(
            f"clusters must be a pair, those of a and those of b; got {len(clusters)} of them. "
            "Pass clusters=(of_a, of_b), or paired=True."
        )
    of_a, of_b = (None, None) if clusters is None else clusters
    samples = [sample_of(a, of_a), sample_of(b, of_b)]
    first, second = a[~np.isnan(a)], b[~np.isnan(b)]
    there = min(len(first), len(second)) > 0
    with np.errstate(invalid="ignore"):
        mean = float(first.mean() - second.mean()) if there else math.nan
    low, high = bootstrap.interval(samples, confidence)
    return Difference(
        mean=mean,
        low=low,
        high=high,
        pvalue=studentised(samples, 0.0),
        effect=_between(first, second, mean),
        superiority=_superiority(first, second) if there else math.nan,
        n=len(first) + len(second),
        undefined=len(a) + len(b) - len(first) - len(second),
        paired=False,
    )


def _between(a: Values, b: Values, mean: float) -> float:
    """A difference of means in standard deviations within both sets."""
    if not math.isfinite(mean):
        return math.nan
    centred = np.concatenate([a - a.mean(), b - b.mean()])
    return _standardised(centred, len(centred) - 2, mean)


def _standardised(values: Values, freedom: int, mean: float | None = None) -> float:
    """A mean in standard deviations, less the bias of few values (Hedges' exact factor)."""
    if freedom < 2 or not np.isfinite(values).all():
        return math.nan
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return math.nan
    centre = float(values.mean()) if mean is None else mean
    deviation = math.sqrt(float(((values - values.mean()) ** 2).sum()) / freedom)
    half = freedom / 2
    factor = math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
    return centre / deviation * factor


def _superiority(a: Values, b: Values) -> float:
    """Share of all pairs in which the first is larger, by ranks (Mann and Whitney)."""
    ranks = stats.rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.mean() - (len(a) + 1) / 2) / len(b))
