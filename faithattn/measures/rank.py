"""Agreement between two rankings of the same positions."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from faithattn._checks import require_count
from faithattn.measures.kendall.pairs import Tolerance, tau_and_pvalue, top_k_distances
from faithattn.measures.kendall.rows import Rows, checked_rows, chunks, shaped_like

__all__ = [
    "RankCorrelation",
    "Tolerance",
    "kendall_tau",
    "rank_correlation",
    "tolerance_pair",
    "top_k_kendall",
]


class RankCorrelation(NamedTuple):
    """A rank correlation and its significance, one value per row.

    Attributes:
        statistic: The correlation in -1..1; nan where undefined.
        pvalue: Two-sided p-value in 0..1; nan where undefined.

    Examples:
        >>> import torch
        >>> statistic, pvalue = kendall_tau(torch.arange(5.0), torch.arange(5.0))
        >>> statistic, pvalue
        (tensor(1.), tensor(0.0167))
    """

    statistic: Tensor
    pvalue: Tensor


def kendall_tau(x: Tensor, y: Tensor, *, mask: Tensor | None = None) -> RankCorrelation:
    """Kendall's tau-b of each row and its p-value, as SciPy's ``kendalltau``.

    The p-value is exact for rows without ties that have at most 33 positions
    or at most one pair out of order (or in order), else from the normal
    approximation with tie correction: SciPy's rule. Values are compared as
    they are, never rounded; ``rank_correlation`` merges near-ties. Infinities
    are ordered like any value. The result carries no gradient. A row takes
    O(T log T) time, 8 to 13 ns times T log2 T from 300 to 256,000 positions.

    Args:
        x: Scores, shape ``(..., positions)``, floating point.
        y: Scores to compare; same shape, dtype and device as ``x``.
        mask: True where a position takes part, shape of ``x``. Values
            elsewhere are never looked at. All positions if None.

    Returns:
        Statistic and p-value, shape ``x.shape[:-1]``, computed in float64 and
        given in the dtype of ``x`` (float32 for half precision). A row that is
        constant in ``x`` or ``y``, has fewer than two positions or has a nan
        is undefined: both are nan.

    Raises:
        TypeError: If an input is not floating point or the mask not boolean.
        ValueError: If shapes, dtypes or devices differ.

    References:
        Kendall (1945), "The treatment of ties in ranking problems"; Kendall
        (1970), "Rank Correlation Methods", for the p-values.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
        >>> y = torch.tensor([[4.0, 2.0, 3.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
        >>> statistic, pvalue = kendall_tau(x, y)
        >>> statistic
        tensor([0.6667,    nan])
        >>> pvalue
        tensor([0.3333,    nan])
    """
    return _correlate(x, checked_rows("x", x, "y", y, mask), (0.0, 0.0))


def rank_correlation(
    explanation: Tensor,
    importance: Tensor,
    *,
    mask: Tensor | None = None,
    tie_tolerance: Tolerance | tuple[Tolerance, Tolerance] = "auto",
) -> RankCorrelation:
    """Kendall's tau-b of each row after near-ties are merged into ties.

    Values that are equal in exact arithmetic (a word that occurs twice, in a
    model without context) differ by float noise, which would order them at
    random. So neighbours in sorted order whose gap is at most the tolerance
    are tied, and with them the whole chain of such neighbours; values are
    not rounded to a grid, which would split some near-ties. Positions are
    then compared as ``kendall_tau`` does.

    Args:
        explanation: Scores such as attention, shape ``(..., positions)``,
            floating point.
        importance: Scores to compare; same shape, dtype and device.
        mask: True where a position takes part, same shape. Values elsewhere
            are never looked at. All positions if None.
        tie_tolerance: The largest gap of a tie, in units of the values, zero
            or more; or "auto", 1e-6 of the row's largest finite absolute
            value; or one of these for each input, as a pair. Zero is
            ``kendall_tau`` exactly.

    Returns:
        Statistic and p-value as of ``kendall_tau``; nan also where merging
        leaves a row constant.

    Raises:
        TypeError: If an input is not floating point, the mask not boolean or
            the tolerance of another type.
        ValueError: If shapes, dtypes or devices differ, or a tolerance is
            negative or not finite.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", for the
        correlation; merging near-ties is an addition.

    Examples:
        >>> import torch
        >>> attention = torch.tensor([0.5, 0.3, 0.2])
        >>> gradient = torch.tensor([1.0, 0.5000001, 0.5])
        >>> rank_correlation(attention, gradient).statistic
        tensor(0.8165)
        >>> rank_correlation(attention, gradient, tie_tolerance=0).statistic
        tensor(1.)
    """
    rows = checked_rows("explanation", explanation, "importance", importance, mask)
    return _correlate(explanation, rows, tolerance_pair(tie_tolerance))


def top_k_kendall(x: Tensor, y: Tensor, *, k: int, mask: Tensor | None = None) -> Tensor:
    """Kendall distance between the lists of each row's k largest values, normalised.

    Over the pairs of positions that are in either list, a pair costs 1 if the
    lists order it differently (a position in a list is ahead of any that is
    not), and 1/2 if one list has both and the other neither, as their order
    there is unknown. The sum is divided by its largest possible value,
    ``k (k - 1) / 2 + k min(k, T - k)`` for ``T`` positions that take part.
    With ``k = T`` and no ties this is ``(1 - tau) / 2``.

    Args:
        x: Scores, shape ``(..., positions)``, floating point.
        y: Scores to compare; same shape, dtype and device as ``x``.
        k: Length of the lists, at least 1. Rows with fewer positions are
            compared over all of them. Of equal values, the lower position is
            ahead, also at the cut.
        mask: True where a position takes part, shape of ``x``. Values
            elsewhere are never looked at. All positions if None.

    Returns:
        Distances in 0..1, shape ``x.shape[:-1]``, dtype of ``x`` (float32 for
        half precision): 0 for the same lists, 1 for the most different ones.
        A row with fewer than two positions or a nan is nan.

    Raises:
        TypeError: If an input is not floating point, the mask not boolean or
            ``k`` not an int.
        ValueError: If shapes, dtypes or devices differ, or ``k`` is below 1.

    References:
        Fagin, Kumar & Sivakumar (2003), "Comparing top k lists", with p = 1/2.

    Examples:
        >>> import torch
        >>> x = torch.tensor([0.4, 0.3, 0.2, 0.1])
        >>> y = torch.tensor([0.3, 0.4, 0.1, 0.2])
        >>> top_k_kendall(x, y, k=2)
        tensor(0.2000)
    """
    rows = checked_rows("x", x, "y", y, mask)
    require_count("k", k)
    return shaped_like(x, [top_k_distances(chunk, k) for chunk in chunks(rows)])


def _correlate(x: Tensor, rows: Rows, tolerances: tuple[Tolerance, Tolerance]) -> RankCorrelation:
    """Correlates rows in chunks and gives the results the shape of ``x``."""
    parts = [tau_and_pvalue(chunk, tolerances) for chunk in chunks(rows)]
    return RankCorrelation(*(shaped_like(x, [part[i] for part in parts]) for i in range(2)))


def tolerance_pair(value: object) -> tuple[Tolerance, Tolerance]:
    """Returns the tolerance of each input."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                "tie_tolerance must be one tolerance or a pair; "
                f"got {len(value)} of them. Give one for each input."
            )
        return _tolerance(value[0]), _tolerance(value[1])
    return _tolerance(value), _tolerance(value)


def _tolerance(value: object) -> Tolerance:
    """Returns one tolerance, checked."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f'tie_tolerance must be "auto", a number or a pair of these; got {value!r}. '
            "Use 0 to tie equal values only."
        )
    if not 0 <= value < math.inf:
        raise ValueError(
            f"tie_tolerance must be finite and not negative; got {value}. "
            "Use 0 to tie equal values only."
        )
    return float(value)
