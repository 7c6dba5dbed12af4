"""Other agreement between two rankings of the same positions: Spearman, weighted tau, overlap."""

from __future__ import annotations

import math

import torch
from scipy.special import stdtr
from scipy.stats import weightedtau
from torch import Tensor

from faithattn._checks import require_count
from faithattn.measures.kendall.pairs import top_k_lists
from faithattn.measures.kendall.row_ranks import centred_ranks, row_ranks
from faithattn.measures.kendall.rows import Rows, checked_rows, chunks, shaped_like
from faithattn.measures.rank import RankCorrelation

__all__ = ["spearman_correlation", "top_k_overlap", "weighted_kendall_tau"]


def spearman_correlation(x: Tensor, y: Tensor, *, mask: Tensor | None = None) -> RankCorrelation:
    """Spearman's rank correlation of each row and its p-value, as SciPy's ``spearmanr``.

    Pearson's correlation of the ranks, tied positions sharing their mean rank.
    The p-value is that of Student's t with T - 2 degrees of freedom, which is
    an approximation and a poor one for few positions. Values are compared as
    they are, never rounded. Infinities are ordered like any value. The result
    carries no gradient.

    Args:
        x: Scores, shape ``(..., positions)``, floating point.
        y: Scores to compare; same shape, dtype and device as ``x``.
        mask: True where a position takes part, shape of ``x``. Values
            elsewhere are never looked at. All positions if None.

    Returns:
        Statistic and p-value, shape ``x.shape[:-1]``, computed in float64 and
        given in the dtype of ``x`` (float32 for half precision). A row that is
        constant in ``x`` or ``y``, has fewer than two positions or has a nan
        is undefined: both are nan. Two positions have a statistic, 1 or -1,
        but no p-value.

    Raises:
        TypeError: If an input is not floating point or the mask not boolean.
        ValueError: If shapes, dtypes or devices differ.

    References:
        Spearman (1904), "The proof and measurement of association between two
        things"; Kendall (1970), "Rank Correlation Methods", for the p-values.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
        >>> y = torch.tensor([[4.0, 2.0, 3.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
        >>> statistic, pvalue = spearman_correlation(x, y)
        >>> statistic
        tensor([0.8000,    nan])
        >>> pvalue
        tensor([0.2000,    nan])
    """
    rows = checked_rows("x", x, "y", y, mask)
    parts = [_spearman(chunk) for chunk in chunks(rows)]
    return RankCorrelation(*(shaped_like(x, [part[i] for part in parts]) for i in range(2)))


def weighted_kendall_tau(x: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Weighted tau of each row, as SciPy's ``weightedtau`` with its defaults.

    Kendall's tau in which a pair of positions weighs ``1 / (r + 1) + 1 / (s + 1)``
    for their ranks ``r`` and ``s`` from 0, largest value first, so that an
    exchange among the largest values costs most. It is the mean of the tau that
    ranks by ``x`` and, where that ties, by ``y``, and of the tau that ranks by
    ``y`` and then ``x``. No distribution under independence is known, so that
    there is no p-value. Computed row by row on the CPU; no gradient.

    Args:
        x: Scores, shape ``(..., positions)``, floating point.
        y: Scores to compare; same shape, dtype and device as ``x``.
        mask: True where a position takes part, shape of ``x``. Values
            elsewhere are never looked at. All positions if None.

    Returns:
        Correlations in -1..1, shape ``x.shape[:-1]``, dtype of ``x`` (float32
        for half precision). A row that is constant in ``x`` or ``y``, has
        fewer than two positions or has a nan is nan.

    Raises:
        TypeError: If an input is not floating point or the mask not boolean.
        ValueError: If shapes, dtypes or devices differ.

    References:
        Vigna (2015), "A weighted correlation index for rankings with ties".

    Examples:
        The largest two are exchanged, then the smallest two:

        >>> import torch
        >>> x = torch.tensor([0.4, 0.3, 0.2, 0.1])
        >>> weighted_kendall_tau(x, torch.tensor([3.0, 4.0, 2.0, 1.0]))
        tensor(0.5200)
        >>> weighted_kendall_tau(x, torch.tensor([4.0, 3.0, 1.0, 2.0]))
        tensor(0.8133)
    """
    rows = checked_rows("x", x, "y", y, mask)
    values = [_weighted_tau(chunk) for chunk in chunks(rows)]
    return shaped_like(x, values)


def top_k_overlap(x: Tensor, y: Tensor, *, k: int, mask: Tensor | None = None) -> Tensor:
    """Share of each row's k largest positions in ``x`` that are among those in ``y``.

    The order inside the lists does not count; ``top_k_kendall`` sees it.
    Independent rankings share ``k / T`` of ``T`` positions on average.

    Args:
        x: Scores, shape ``(..., positions)``, floating point.
        y: Scores to compare; same shape, dtype and device as ``x``.
        k: Length of the lists, at least 1. Rows with fewer positions are
            compared over all of them, and share them all. Of equal values,
            the lower position is ahead, also at the cut.
        mask: True where a position takes part, shape of ``x``. Values
            elsewhere are never looked at. All positions if None.

    Returns:
        Shares in 0..1, shape ``x.shape[:-1]``, dtype of ``x`` (float32 for
        half precision). A row with fewer than two positions or a nan is nan.

    Raises:
        TypeError: If an input is not floating point, the mask not boolean or
            ``k`` not an int.
        ValueError: If shapes, dtypes or devices differ, or ``k`` is below 1.

    Examples:
        >>> import torch
        >>> x = torch.tensor([0.4, 0.3, 0.2, 0.1])
        >>> y = torch.tensor([0.4, 0.1, 0.3, 0.2])
        >>> top_k_overlap(x, y, k=2)
        tensor(0.5000)
    """
    rows = checked_rows("x", x, "y", y, mask)
    require_count("k", k)
    return shaped_like(x, [_overlap(chunk, k) for chunk in chunks(rows)])


def _spearman(rows: Rows) -> tuple[Tensor, Tensor]:
    """Returns the correlation of ranks and its p-value for each row, in float64 on the CPU."""
    x, y = (row_ranks(values, rows.mask) for values in (rows.x, rows.y))
    a, b = (centred_ranks(ranks.ranks, rows.mask) for ranks in (x, y))
    # Sums of whole numbers, hence exact: a row without agreement is 0 and not float noise.
    products, x_squares, y_squares = ((c * d).sum(1).cpu() for c, d in ((a, b), (a, a), (b, b)))
    # One root of the product, so that equal sums give exactly 1; a constant row is 0 / 0, nan.
    statistic = products / (x_squares.double() * y_squares).sqrt()
    defined = (x.defined & y.defined).cpu()
    freedom = rows.lengths().cpu().double() - 2
    size = statistic.abs() * (freedom / ((1 + statistic) * (1 - statistic))).sqrt()
    pvalue = 2 * torch.from_numpy(stdtr(freedom.numpy(), -size.numpy()))
    return statistic.where(defined, math.nan), pvalue.where(defined, math.nan)


def _weighted_tau(rows: Rows) -> Tensor:
    """Returns the weighted tau of each row, in float64 on the CPU."""
    x, y = (row_ranks(values, rows.mask) for values in (rows.x, rows.y))
    defined = (x.defined & y.defined & (rows.lengths() >= 2)).cpu()
    mask = torch.ones_like(rows.x, dtype=torch.bool) if rows.mask is None else rows.mask
    results = torch.full(defined.shape, math.nan, dtype=torch.float64)
    # Of ranks, since SciPy warns of opposite infinities: it adds the values up to look for nan.
    x_ranks, y_ranks, kept = (part.cpu().numpy() for part in (x.ranks, y.ranks, mask))
    for row in defined.nonzero()[:, 0].tolist():
        keep = kept[row]
        results[row] = float(weightedtau(x_ranks[row, keep], y_ranks[row, keep]).statistic)
    return results


def _overlap(rows: Rows, k: int) -> Tensor:
    """Returns the shared part of the top-k lists of each row, in float64 on the CPU."""
    lists = top_k_lists(rows, k)
    share = lists.shared().cpu().double() / lists.cut.cpu()
    enough = lists.defined & (rows.lengths() >= 2)
    return share.where(enough.cpu(), math.nan)
