"""Does one member of a set stand out from the others? An exact test over matched sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_SAME = 1e-7  # relative: sums this near in probability count as equally likely


def matched_pvalue(
    case: NDArray[np.bool_], controls: NDArray[np.int64], n_controls: NDArray[np.int64]
) -> float:
    """Exact two-sided p-value that cases have a mark as often as their controls.

    In each set one member is the case. Were that chance, it would have the
    mark with probability q, the share of the set's members that have it; the
    number of marked cases is then a sum of independent draws, each with its
    set's q. Two-sided: the probability of all sums that are no more likely than
    the one seen. With one control to a set it is McNemar's exact test.

    Args:
        case: Whether the case has the mark, ``(N,)``.
        controls: How many of its controls have it, ``(N,)``.
        n_controls: How many controls it has, ``(N,)``, at least 1.

    Returns:
        The p-value in 0..1; 1 where each set's members are all alike. The
        smallest normal number stands for all that are smaller.

    References:
        McNemar (1947), "Note on the sampling error of the difference between
        correlated proportions or percentages"; Mantel & Haenszel (1959),
        "Statistical aspects of the analysis of data from retrospective studies".

    Examples:
        >>> case = np.array([True] * 6 + [False])
        >>> round(matched_pvalue(case, ~case, np.ones(7, int)), 6)  # 6 sets against 1
        0.125
    """
    marked, size = case.astype(np.int64) + controls, 1 + n_controls
    mixed = (marked > 0) & (marked < size)
    kinds, counts = np.unique(np.stack([marked[mixed], size[mixed]], 1), axis=0, return_counts=True)
    chance = np.ones(1)
    for (few, many), count in zip(kinds.tolist(), counts.tolist(), strict=True):
        chance = np.convolve(chance, stats.binom.pmf(np.arange(count + 1), count, few / many))
    seen = chance[int(case[mixed].sum())]
    pvalue = chance[chance <= seen * (1 + _SAME)].sum()
    return float(np.clip(pvalue, np.finfo(float).tiny, 1))
