"""What rank correlations are by chance, and groups of instances by length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from faithattn._checks import require_count
from faithattn.statistics.moments import cornish_fisher
from faithattn.statistics.values import Numbers, Values, as_values, require_share

_BERNOULLI = {2: 1 / 6, 4: -1 / 30, 6: 1 / 42}


def null_spread(length: float) -> float:
    """Standard deviation of Kendall's tau between independent rankings of ``length`` items."""
    if length < 2:
        return math.nan
    return math.sqrt(2 * (2 * length + 5) / (9 * length * (length - 1)))


def null_band(lengths: Numbers, *, confidence: float = 0.95) -> tuple[float, float]:
    """Where the mean Kendall tau of instances lies if each compares unrelated rankings.

    The number of discordant pairs is a sum of independent uniform numbers,
    which gives all cumulants of tau; the band is their Cornish-Fisher
    quantile, exact to .01 from three instances of four positions on. Of one or two short
    rows tau has few values, and no band has exactly this confidence. Ties
    among the ranked scores change the spread of tau-b, which is not part of it.

    Args:
        lengths: Positions of each instance, ``(N,)``; nan and lengths below 2,
            which have no tau, are left out. Give those of the instances that
            have a defined tau.
        confidence: Probability of the mean to lie inside.

    Returns:
        Lower and upper end, -1 to 1, symmetric; nan where no instance has a tau.

    Raises:
        ValueError: If ``lengths`` has not one dimension or ``confidence`` is
            not between 0 and 1.

    References:
        Kendall (1938), "A new measure of rank correlation".

    Examples:
        >>> low, high = null_band([12] * 200)
        >>> print(f"{low:.4f} {high:.4f}")
        -0.0306 0.0306
    """
    require_share("confidence", confidence)
    given = as_values("lengths", lengths)
    kept, counts = np.unique(given[given >= 2], return_counts=True)
    if len(kept) == 0:
        return math.nan, math.nan
    of_each = list(zip(kept.tolist(), counts.tolist(), strict=True))
    second, fourth, sixth = (
        sum(count * _cumulant(int(length), order) for length, count in of_each)
        for order in (2, 4, 6)
    )
    quantile = float(special.ndtri((1 + confidence) / 2))
    reach = cornish_fisher(quantile, 0.0, fourth / second**2, 0.0, sixth / second**3)
    high = min(1.0, reach * math.sqrt(second) / int(counts.sum()))
    return -high, high


@dataclass(frozen=True, eq=False)
class LengthBins:
    """Neighbouring lengths, about as many instances in each bin.

    Attributes:
        uppers: Largest length of each bin, ascending, ``(bins,)``.
        labels: What each bin holds, such as ``"8-12"``.
    """

    uppers: Values
    labels: tuple[str, ...]

    def place(self, lengths: Numbers) -> NDArray[np.int64]:
        """The bin of each length, from 0; the last for longer ones, -1 for nan."""
        given = as_values("lengths", lengths)
        found = np.minimum(np.searchsorted(self.uppers, given), len(self.uppers) - 1)
        return np.where(np.isnan(given), -1, found).astype(np.int64)


def length_bins(lengths: Numbers, count: int = 4) -> LengthBins:
    """At most ``count`` bins of whole lengths, at their quantiles.

    Args:
        lengths: Positions of each instance, ``(N,)``; nan is left out.
        count: Number of bins; fewer where few lengths occur.

    Returns:
        The bins, none of them empty; no bins if no length is known.

    Raises:
        ValueError: If ``lengths`` has not one dimension or ``count`` is below 1.

    Examples:
        >>> bins = length_bins([3, 4, 5, 8, 9, 12, 20, 31])
        >>> bins.labels, bins.place([4, 31, float("nan")]).tolist()
        (('3-4', '5-8', '9-12', '13-31'), [0, 3, -1])
    """
    given = as_values("lengths", lengths)
    known = given[~np.isnan(given)]
    steps = np.arange(1, require_count("count", count) + 1) / count
    if len(known) == 0:
        return LengthBins(np.empty(0), ())
    uppers = np.unique(np.quantile(known, steps, method="inverted_cdf"))
    lowers = np.concatenate([[known.min()], uppers[:-1] + 1])
    labels = (
        f"{low:g}" if low == high else f"{low:g}-{high:g}"
        for low, high in zip(lowers, uppers, strict=True)
    )
    return LengthBins(uppers, tuple(labels))


def null_bands_by_length(
    lengths: Numbers, bins: LengthBins, *, confidence: float = 0.95
) -> Mapping[str, tuple[float, float]]:
    """The :func:`null_band` of the instances of each bin.

    Examples:
        >>> lengths = [5] * 50 + [40] * 50
        >>> bands = null_bands_by_length(lengths, length_bins(lengths, 2))
        >>> {name: round(high, 3) for name, (_, high) in bands.items()}
        {'5': 0.113, '6-40': 0.03}
    """
    given = as_values("lengths", lengths)
    places = bins.place(given)
    return {
        label: null_band(given[places == place], confidence=confidence)
        for place, label in enumerate(bins.labels)
    }


def _cumulant(length: int, order: int) -> float:
    """An even cumulant of tau between independent rankings of ``length`` items.

    Discordant pairs are the sum over i of uniform whole numbers below i, whose cumulant is
    B_order (i ** order - 1) / order; tau is 1 less 4 / (n (n - 1)) of it.
    """
    powers = np.arange(1.0, length + 1) ** order - 1
    scale = 4 / (length * (length - 1))
    return float(scale**order * _BERNOULLI[order] / order * powers.sum())
