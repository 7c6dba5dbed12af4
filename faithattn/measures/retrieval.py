"""How well scores find the positions that matter: average precision and discounted gain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from faithattn._checks import require_count, require_flags, require_floating
from faithattn.measures.kendall.row_ranks import RowRanks, group_sizes, row_ranks
from faithattn.measures.kendall.rows import Rows, checked_rows, chunks, shaped_like

__all__ = ["average_precision", "ndcg"]


def average_precision(scores: Tensor, relevant: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Average precision of each row: how far ahead the relevant positions are scored.

    The mean over relevant positions of the share of relevant ones among all
    positions that score at least as high. Positions of equal score thus count
    together, whatever their order, as in scikit-learn's
    ``average_precision_score``; nothing is interpolated. Scores without any
    relation to relevance give about the share of relevant positions.

    Args:
        scores: Scores such as attention, shape ``(..., positions)``, floating
            point. Infinities are ordered like any value.
        relevant: True at the positions to be found, shape of ``scores``.
        mask: True where a position takes part, same shape. Values elsewhere
            are never looked at. All positions if None.

    Returns:
        Precisions, above 0 and at most 1 (all relevant positions ahead of all
        others), shape ``scores.shape[:-1]``, dtype of ``scores`` (float32 for
        half precision). A row without a relevant position, with fewer than two
        positions or with a nan is nan. There is no gradient.

    Raises:
        TypeError: If the scores are not floating point, or the flags or the
            mask not boolean.
        ValueError: If shapes or devices differ.

    References:
        Buckley & Voorhees (2000), "Evaluating evaluation measure stability".

    Examples:
        >>> import torch
        >>> attention = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])
        >>> relevant = torch.tensor([[True, False, True], [True, False, False]])
        >>> average_precision(attention, relevant)
        tensor([0.8333, 0.5000])
    """
    require_floating("scores", scores)
    flags = require_flags("relevant", relevant, "scores", scores, "relevant").to(scores.dtype)
    rows = checked_rows("scores", scores, "relevant", flags, mask)
    return shaped_like(scores, [_average_precision(chunk) for chunk in chunks(rows)])


def ndcg(
    scores: Tensor, relevance: Tensor, *, k: int | None = None, mask: Tensor | None = None
) -> Tensor:
    """Normalised discounted cumulative gain of each row: whether what matters is scored first.

    The gain of a position is its relevance divided by ``log2(1 + place)``,
    where place 1 has the largest score; the sum is divided by the largest that
    any scores could reach. Positions of equal score share their places: each
    gets the mean over all orders, as in scikit-learn's ``ndcg_score``.

    Args:
        scores: Scores such as attention, shape ``(..., positions)``, floating
            point. Infinities are ordered like any value.
        relevance: How much each position matters, finite and not negative;
            same shape, dtype and device.
        k: How many places have a gain, at least 1. All if None.
        mask: True where a position takes part, same shape. Values elsewhere
            are never looked at. All positions if None.

    Returns:
        Gains in 0..1, shape ``scores.shape[:-1]``, dtype of ``scores``
        (float32 for half precision). A row where all relevance is 0, with
        fewer than two positions or with a nan is nan. There is no gradient.

    Raises:
        TypeError: If an input is not floating point, the mask not boolean or
            ``k`` not an int.
        ValueError: If shapes, dtypes or devices differ, ``k`` is below 1, or
            relevance is negative or infinite where the mask is True.

    References:
        Järvelin & Kekäläinen (2002), "Cumulated gain-based evaluation of IR
        techniques"; McSherry & Najork (2008), "Computing information retrieval
        performance measures efficiently in the presence of tied scores".

    Examples:
        >>> import torch
        >>> attention = torch.tensor([0.5, 0.3, 0.2])
        >>> importance = torch.tensor([1.0, 3.0, 0.0])
        >>> ndcg(attention, importance)
        tensor(0.7967)
        >>> ndcg(attention, importance, k=1)
        tensor(0.3333)
    """
    rows = checked_rows("scores", scores, "relevance", relevance, mask)
    if k is not None:
        require_count("k", k)
    _require_gains(rows)
    return shaped_like(scores, [_ndcg(chunk, k) for chunk in chunks(rows)])


def _require_gains(rows: Rows) -> None:
    """Requires relevance that can be added up; a nan is left to make its row undefined."""
    wrong = (rows.y < 0) | rows.y.isinf()
    if rows.mask is not None:
        wrong &= rows.mask
    if wrong.any():
        raise ValueError(
            "relevance must be finite and not negative; "
            f"got {rows.y[wrong][0].item():g} at a position. Use the absolute value, or mask it."
        )


def _average_precision(rows: Rows) -> Tensor:
    """Returns the average precision of each row, in float64."""
    ranks = row_ranks(-rows.x, rows.mask)  # from the largest score down
    found = _sum_by_rank(ranks, rows.y, rows.mask)
    at_least = group_sizes(ranks.ranks, rows.mask).cumsum(1).clamp(min=1)
    # 0 / 0 is the nan that is due without a relevant position.
    mean = (found * found.cumsum(1) / at_least).sum(1) / found.sum(1)
    return mean.where(_is_defined(ranks, rows), math.nan)


def _ndcg(rows: Rows, k: int | None) -> Tensor:
    """Returns the normalised gain of each row, in float64."""
    ranks = row_ranks(-rows.x, rows.mask)
    positions = rows.x.shape[1]
    places = torch.arange(positions, device=rows.x.device, dtype=torch.float64)
    discounts = 1 / torch.log2(places + 2)
    if k is not None:
        discounts[k:] = 0
    sizes = group_sizes(ranks.ranks, rows.mask)
    ends = sizes.cumsum(1)
    # Each group has the mean gain of its positions at each of its places.
    until = torch.cat([discounts.new_zeros(1), discounts.cumsum(0)])
    shares = (until[ends] - until[ends - sizes]) / sizes.clamp(min=1)
    gain = (_sum_by_rank(ranks, rows.y, rows.mask) * shares).sum(1)
    real = rows.y if rows.mask is None else rows.y.masked_fill(~rows.mask, 0)
    largest = (real.double().sort(dim=1, descending=True).values * discounts).sum(1)
    # Rounding can lift a perfect order above 1; 0 / 0 is the nan that is due without relevance.
    return (gain / largest).clamp(max=1).where(_is_defined(ranks, rows), math.nan)


def _sum_by_rank(ranks: RowRanks, values: Tensor, mask: Tensor | None) -> Tensor:
    """Sums the values of the positions that have each rank, in float64."""
    wide = values.double()
    if mask is not None:
        wide = wide.masked_fill(~mask, 0)
    return torch.zeros_like(wide).scatter_add_(1, ranks.ranks.long(), wide)


def _is_defined(ranks: RowRanks, rows: Rows) -> Tensor:
    """Says which rows have two positions and no nan among their scores."""
    return ranks.defined & (rows.lengths() >= 2)
