"""A beam search for the best and the worst order, where there are too many subsets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Drop = Callable[[Tensor, Tensor], Tensor]  # rows (n,), marks (n, L) to values (n,)


@dataclass(frozen=True)
class _Beam:
    """Sets that orders have come to.

    Attributes:
        rows: The row ``(m,)`` of each.
        signs: 1 where the largest sum is sought, -1 where the least, ``(m,)``.
        marks: What each holds, ``(m, L)`` bool.
        sums: Sum ``(m,)`` of the values on the way there.
    """

    rows: Tensor
    signs: Tensor
    marks: Tensor
    sums: Tensor


def beam_bounds(drop: Drop, mask: Tensor, chosen: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Least and largest sum of values over an order's sets of 1 to T - 1 positions, as found.

    Every step keeps the ``width`` best sets of each row, by the sum so far;
    a set that is reached in several ways counts once, by the best of them. Of
    equal sums the one whose set was made first is kept.

    Args:
        drop: Values of sets.
        mask: ``(B, L)`` bool.
        chosen: Rows ``(n,)`` to search, in ascending order, each with two positions or more.
        width: How many sets are kept.

    Returns:
        Two sums ``(n,)``; nan where a value that was met is.
    """
    lengths = mask.sum(-1)
    beam = _start(mask, chosen)
    low, high = (torch.full(chosen.shape, torch.nan, dtype=torch.float64) for _ in range(2))
    low, high = low.to(mask.device), high.to(mask.device)
    undefined = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    size = 0
    while len(beam.rows):
        beam, size = _step(beam, drop, mask, width), size + 1
        undefined.index_put_((beam.rows,), beam.sums.isnan(), accumulate=True)
        done = lengths[beam.rows] - 1 == size
        for sums, sign in ((low, -1), (high, 1)):
            ended = done & (beam.signs == sign)
            best = torch.full((len(mask),), -torch.inf, dtype=torch.float64, device=mask.device)
            best.scatter_reduce_(0, beam.rows[ended], sign * beam.sums[ended], "amax")
            at = lengths[chosen] - 1 == size
            sums[at] = sign * best[chosen[at]]
        beam = _kept(beam, ~done)
    lost = undefined[chosen]
    return low.masked_fill(lost, torch.nan), high.masked_fill(lost, torch.nan)


def _start(mask: Tensor, chosen: Tensor) -> _Beam:
    """The empty set of each row, once for either direction."""
    rows = chosen.repeat_interleave(2)
    signs = torch.tensor([-1, 1], device=mask.device).repeat(len(chosen))
    sums = torch.zeros(len(rows), dtype=torch.float64, device=mask.device)
    return _Beam(rows, signs, torch.zeros_like(mask[rows]), sums)


def _step(beam: _Beam, drop: Drop, mask: Tensor, width: int) -> _Beam:
    """Adds one position to each set in every way, and keeps the best."""
    parent, position = (mask[beam.rows] & ~beam.marks).nonzero(as_tuple=True)
    marks = beam.marks[parent]
    marks[torch.arange(len(parent), device=parent.device), position] = True
    rows, signs = beam.rows[parent], beam.signs[parent]
    sets, where = _distinct(rows, marks)
    values = drop(sets[:, 0], sets[:, 1:] == 1).double()
    # Both directions may come to one set, by ways of their own.
    way = 2 * where + (signs == 1)
    arrived = torch.full((2 * len(sets),), -torch.inf, dtype=torch.float64, device=way.device)
    arrived.scatter_reduce_(0, way, signs * beam.sums[parent], "amax")
    ways = arrived.isneginf().logical_not_().nonzero()[:, 0]
    at, side = ways // 2, 2 * (ways % 2) - 1
    found = _Beam(sets[at, 0], side, sets[at, 1:] == 1, side * arrived[ways] + values[at])
    return _kept(found, _best(found, width))


def _distinct(rows: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct sets as (m, 1 + L) of row and marks, and which one each is."""
    table = torch.cat([rows[:, None], marks.long()], 1)
    sets, where = torch.unique(table, dim=0, return_inverse=True)
    return sets, where


def _best(beam: _Beam, width: int) -> Tensor:
    """Which sets (m,) are among the best of their row and direction."""
    order = (beam.signs * beam.sums).argsort(descending=True, stable=True)
    group = 2 * beam.rows + (beam.signs == 1)
    order = order[group[order].argsort(stable=True)]
    sizes = group.bincount()
    start = (sizes.cumsum(0) - sizes)[group[order]]
    place = torch.arange(len(order), device=order.device) - start
    kept = torch.zeros_like(beam.signs, dtype=torch.bool)
    kept[order] = place < width
    return kept


def _kept(beam: _Beam, which: Tensor) -> _Beam:
    return _Beam(beam.rows[which], beam.signs[which], beam.marks[which], beam.sums[which])
