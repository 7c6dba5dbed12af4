"""From rows of scores to counts of pairs, and from those to tau-b and top-k distances."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from faithattn.measures.kendall.inversions import discordant_pairs, pair_codes, stable_order
from faithattn.measures.kendall.null import PairCounts, TieSums, tau_b, tie_sums
from faithattn.measures.kendall.row_ranks import RowRanks, dense_ranks, group_sizes, row_ranks
from faithattn.measures.kendall.rows import Rows

Tolerance: TypeAlias = "float | Literal['auto']"

_RELATIVE_TOLERANCE = 1e-6  # "auto": above the noise of float32, below differences that mean much


def tau_and_pvalue(rows: Rows, tolerances: tuple[Tolerance, Tolerance]) -> tuple[Tensor, Tensor]:
    """Returns tau-b and its p-value for each row, in float64 on the CPU."""
    x = row_ranks(rows.x, rows.mask, _largest_gap(tolerances[0], rows.x, rows.mask))
    y = row_ranks(rows.y, rows.mask, _largest_gap(tolerances[1], rows.y, rows.mask))
    # A few numbers a row from here: on the CPU, since not every device has float64.
    statistic, pvalue = tau_b(_pair_counts(x, y, rows).cpu())
    defined = (x.defined & y.defined).cpu()
    return statistic.where(defined, math.nan), pvalue.where(defined, math.nan)


def top_k_distances(rows: Rows, k: int) -> Tensor:
    """Returns the normalised Kendall distance of top-k lists for each row, on the CPU."""
    lists, lengths = top_k_lists(rows, k), rows.lengths()
    cut = lists.cut
    # A pair that is in one list but not in the other is tied there, and costs 1/2.
    missing = cut - lists.shared()
    cost = discordant_pairs(pair_codes(lists.x_places, lists.y_places), y_tied=True)
    cost = cost + missing * (missing - 1) // 2
    largest = cut * (cut - 1) // 2 + cut * torch.minimum(cut, lengths - cut)
    return (cost.cpu().double() / largest.cpu()).where(lists.defined.cpu(), math.nan)


class TopLists(NamedTuple):
    """The lists of each row's k largest values in x and in y."""

    x_places: Tensor  # (rows, positions) places in the list from 0; ``cut`` if not in it
    y_places: Tensor
    cut: Tensor  # (rows,) length of both lists
    defined: Tensor  # (rows,) False where a position that takes part is nan

    def shared(self) -> Tensor:
        """Counts the positions that are in both lists of each row."""
        cut = self.cut[:, None]
        return ((self.x_places < cut) & (self.y_places < cut)).sum(1)


def top_k_lists(rows: Rows, k: int) -> TopLists:
    """Ranks positions from the largest value down, equal values by position, and cuts at k."""
    x, y = (row_ranks(-values, rows.mask) for values in (rows.x, rows.y))
    cut = rows.lengths().clamp(max=k)
    return TopLists(_list_places(x, cut), _list_places(y, cut), cut, x.defined & y.defined)


def _largest_gap(tolerance: Tolerance, values: Tensor, mask: Tensor | None) -> Tensor | float:
    """Returns the largest gap of a tie, one for all rows or (rows, 1)."""
    if tolerance != "auto":
        return tolerance
    counted = values.isfinite() if mask is None else values.isfinite() & mask
    return values.abs().where(counted, 0).amax(1, keepdim=True) * _RELATIVE_TOLERANCE


def _pair_counts(x: RowRanks, y: RowRanks, rows: Rows) -> PairCounts:
    """Counts discordant and tied pairs of each row."""
    lengths = rows.lengths()
    x_tied = bool((x.distinct < lengths).any())
    y_tied = bool((y.distinct < lengths).any())
    codes = pair_codes(x.ranks, y.ranks)
    none = TieSums(*[torch.zeros_like(lengths)] * 3)
    joint = tie_sums(group_sizes(dense_ranks(codes), None)) if x_tied and y_tied else none
    return PairCounts(
        positions=lengths,
        discordant=discordant_pairs(codes, y_tied=y_tied),
        x_ties=tie_sums(group_sizes(x.ranks, rows.mask)) if x_tied else none,
        y_ties=tie_sums(group_sizes(y.ranks, rows.mask)) if y_tied else none,
        joint_pairs=joint.pairs,
    )


def _list_places(ranks: RowRanks, cut: Tensor) -> Tensor:
    """Returns each position's place in its row's list, and ``cut`` where it is not in it."""
    order = stable_order(ranks.ranks)
    places = torch.arange(order.shape[1], dtype=order.dtype, device=order.device)
    place = torch.empty_like(order).scatter_(1, order.long(), places.expand_as(order))
    return place.minimum(cut[:, None].to(order.dtype))
