"""Dense ranks of many rows, with near-ties merged and masked positions set aside."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.measures.kendall.inversions import argsort


class RowRanks(NamedTuple):
    """Ranks of each row's positions from 0, tied positions alike."""

    ranks: Tensor  # (rows, positions); masked positions take the last ranks, in order
    distinct: Tensor  # (rows,) how many ranks the positions that take part have
    defined: Tensor  # (rows,) False where a position that takes part is nan


def row_ranks(values: Tensor, mask: Tensor | None, tolerance: Tensor | float = 0) -> RowRanks:
    """Ranks ``values`` (rows, positions >= 2); neighbours within ``tolerance`` (rows, 1) tie."""
    if mask is not None:
        # Infinity, not nan: NumPy sorts rows with nan by a slower route.
        values = values.masked_fill(~mask, math.inf)
    order = argsort(values)
    ascending = values.gather(1, order)
    ascending_ranks = dense_ranks(ascending, tolerance)
    ranks = torch.empty_like(ascending_ranks).scatter_(1, order, ascending_ranks)
    defined = ~ascending[:, -1].isnan()
    if mask is None:
        return RowRanks(ranks, ascending_ranks[:, -1].long() + 1, defined)
    distinct = ranks.where(mask, -1).amax(1).long() + 1
    last = mask.sum(1, keepdim=True) - 1 + (~mask).cumsum(1)
    return RowRanks(torch.where(mask, ranks, last.to(ranks.dtype)), distinct, defined)


def dense_ranks(ascending: Tensor, tolerance: Tensor | float = 0) -> Tensor:
    """Ranks sorted rows (rows, positions >= 2) from 0; a gap above ``tolerance`` is a new rank."""
    # The comparison is False for nan and for two infinities, so neither starts a new rank.
    rises = ascending[:, 1:] - ascending[:, :-1] > tolerance
    # 32 bits take half the time of 64 and hold more ranks than memory holds positions.
    ranks = torch.zeros_like(ascending, dtype=torch.int32)
    torch.cumsum(rises, 1, dtype=torch.int32, out=ranks[:, 1:])
    return ranks


def group_sizes(ranks: Tensor, mask: Tensor | None) -> Tensor:
    """Counts the positions that have each rank, (rows, positions) -> (rows, ranks)."""
    ones = torch.ones_like(ranks) if mask is None else mask.to(ranks.dtype)
    return torch.zeros_like(ranks).scatter_add_(1, ranks.long(), ones)


def centred_ranks(ranks: Tensor, mask: Tensor | None) -> Tensor:
    """Returns twice each position's distance from the mean rank, tied positions averaged.

    The dense ``ranks`` of the positions that take part become whole numbers
    between ``1 - T`` and ``T - 1`` that sum to 0; elsewhere they are 0.
    """
    sizes = group_sizes(ranks, mask).long()
    ends = sizes.cumsum(1)
    # The mean rank of a group from 1, doubled, is 2 end - size + 1; that of the row is T + 1.
    centred = (2 * ends - sizes - ends[:, -1:]).gather(1, ranks.long())
    return centred if mask is None else centred.masked_fill(~mask, 0)
