"""The best pair of positions at one end of a slab: a bound leaves few of them to compare.

By convexity the divergence of a pair is at most that of the chord between its
ends, which is a line in the plane of score and divergence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.measures.adversary.gains import HALF_LN2, NONE, xlogx
from faithattn.measures.adversary.vertices import Slab, Vertices

_FIRST_LOOK = 8  # positions of either side that are paired at once; few more can matter
_BLOCK = 32  # ... where more can matter
_PAIRS = 1 << 20  # pairs that are compared at a time, where still more can
_FARTHEST = 1e30  # score above a level: an excluded class has the largest number that there is


class Problems(NamedTuple):
    """One problem for each instance and each end of the slab, ``(2 B, L)``.

    Attributes:
        weights: The original attention.
        scores: What each position adds, above the level that must be met.
        alone: Divergence of all weight on one position.
        left: Positions below the level.
        right: Positions above it.
        mass: ``(2 B, 1)``.
    """

    weights: Tensor
    scores: Tensor
    alone: Tensor
    left: Tensor
    right: Tensor
    mass: Tensor

    def take(self, rows: Tensor | slice) -> Problems:
        """Some of them."""
        return Problems(*(each[rows] for each in self))


class _Table(NamedTuple):
    """All pairs between two lists of positions, ``(2 B, n, n)``, and the lists ``(2 B, n)``."""

    value: Tensor
    share: Tensor
    first: Tensor
    second: Tensor

    def best(self) -> Vertices:
        width = self.value.shape[2]
        top = self.value.flatten(1).max(-1)
        row, column = top.indices // width, top.indices % width
        return Vertices(
            top.values,
            self.first.gather(1, row[:, None])[:, 0],
            self.second.gather(1, column[:, None])[:, 0],
            self.share.flatten(1).gather(1, top.indices[:, None])[:, 0],
        )


def problems_of(slab: Slab, alone: Tensor, dtype: torch.dtype) -> Problems:
    """The problems at the lower ends of a slab, then those at the upper ends, (2 B, L)."""
    ends = torch.stack([slab.low, slab.high]) / slab.mass
    met = (ends.isfinite()[..., None] & slab.mask).flatten(0, 1)
    # From the level on: nothing is lost where scores are large and near to it.
    above = (slab.scores - ends[..., None]).clamp_(-_FARTHEST, _FARTHEST).flatten(0, 1)
    above = above.masked_fill_(~met, 0).to(dtype)
    twice = [each.to(dtype).repeat(2, 1) for each in (slab.weights, alone, slab.mass[:, None])]
    return Problems(twice[0], above, twice[1], above < 0, above > 0, twice[2])


def best_pair(problems: Problems, known: Tensor) -> Vertices:
    """The best pair of each problem, if it is better than what is known."""
    known = known.to(problems.alone.dtype)
    first = leading(problems, known, _FIRST_LOOK)
    value = torch.maximum(known, _table(problems, *first).best().value)
    table = _table(problems, *leading(problems, value, _FIRST_LOOK))
    return _completed(problems, table, known)


def _completed(problems: Problems, table: _Table, known: Tensor) -> Vertices:
    """The best pair of a table, or of others where the bound does not exclude them."""
    best = table.best()
    for width in (_BLOCK, None):
        value = torch.maximum(known, best.value)
        listed = table if width else None
        rows = _undecided(problems, value, listed).nonzero()[:, 0]
        if not len(rows):
            return best
        some, least = problems.take(rows), value[rows]
        more = (
            _table(some, *leading(some, least, width)).best()
            if width
            else _searched_each(some, least)
        )
        kept = Vertices(*(each[rows] for each in best))
        best = Vertices(
            *(
                mine.index_copy(0, rows, other)
                for mine, other in zip(best, kept.better_of(more), strict=True)
            )
        )
    return best


def _undecided(problems: Problems, value: Tensor, table: _Table | None) -> Tensor:
    """Problems ``(2 B,)`` in which a pair beyond the table, or a block, could beat the value."""
    left, right = slopes(problems, value)
    steepest, flattest = right.amax(-1, keepdim=True), left.amin(-1, keepdim=True)
    below, above = left <= steepest, right >= flattest
    if table is None:
        return ((below.sum(-1) > _BLOCK) | (above.sum(-1) > _BLOCK)) & _finite(flattest, steepest)
    below.scatter_(1, table.first, False)
    above.scatter_(1, table.second, False)
    return (below.any(-1) | above.any(-1)) & _finite(flattest, steepest)


def _finite(flattest: Tensor, steepest: Tensor) -> Tensor:
    """Whether both sides have a position at all."""
    return (flattest < math.inf)[:, 0] & (steepest > NONE)[:, 0]


def slopes(problems: Problems, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of the lines from each position to (level, value) in the plane of score and divergence.

    The divergence of a pair is at most that of the chord between its ends at
    the level. It can exceed ``value`` only if the chord passes above that
    point: if the slope on the right is at least the one on the left.
    """
    value = value[:, None].clamp_min(0)
    slope = (problems.alone - value) / problems.scores
    left = slope.masked_fill(~problems.left, math.inf)
    return left, slope.masked_fill(~problems.right, NONE)


def leading(problems: Problems, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most promising positions on either side."""
    left, right = slopes(problems, value)
    count = min(count, left.shape[1])
    return left.topk(count, largest=False).indices, right.topk(count).indices


def _table(problems: Problems, first: Tensor, second: Tensor) -> _Table:
    """All pairs between two lists; of positions on the other side, the value is minus infinity."""
    mass = problems.mass[..., None]
    sides = (problems.left.gather(1, first), problems.right.gather(1, second))
    low, high = (problems.scores.gather(1, each) for each in (first, second))
    low, high = torch.where(sides[0], low, -1)[:, :, None], torch.where(sides[1], high, 1)[:, None]
    share = (high / (high - low)).clamp_(0, 1)
    weights = [problems.weights.gather(1, each) for each in (first, second)]
    own = [
        torch.where(side, xlogx(each) / 2 - each * HALF_LN2, NONE)
        for side, each in zip(sides, weights, strict=True)
    ]
    value = own[0][:, :, None] + (own[1] + problems.mass * HALF_LN2)[:, None]
    for part, weight in (
        (share * mass, weights[0][:, :, None]),
        ((1 - share) * mass, weights[1][:, None]),
    ):
        value.sub_(xlogx((part + weight).mul_(0.5))).add_(xlogx(part), alpha=0.5)
    return _Table(value, share, first, second)


def _searched_each(problems: Problems, value: Tensor) -> Vertices:
    each = [
        _searched(problems.take(slice(row, row + 1)), value[row : row + 1])
        for row in range(len(value))
    ]
    return Vertices(*(torch.cat(parts) for parts in zip(*each, strict=True)))


def _searched(problem: Problems, value: Tensor) -> Vertices:
    """The best of all pairs of one problem that the bound leaves, a slice at a time."""
    places = torch.zeros(value.shape, dtype=torch.long, device=value.device)
    best = Vertices(torch.full_like(value, NONE), places, places, torch.ones_like(value))
    sides = [_extreme(problem, side) for side in (problem.left[0], problem.right[0])]
    left, right = (each[0, side] for each, side in zip(slopes(problem, value), sides, strict=True))
    firsts, seconds = sides[0][left.argsort()], sides[1][right.argsort(descending=True)]
    step = max(1, _PAIRS // max(1, len(seconds)))
    for chunk in torch.split(firsts, step):
        value = torch.maximum(value, best.value)
        left, right = (each[0] for each in slopes(problem, value))
        chunk = chunk[left[chunk] <= right[seconds].max()]
        partners = seconds[right[seconds] >= left[chunk].min()] if len(chunk) else seconds[:0]
        if len(partners):
            best = best.better_of(_table(problem, chunk[None], partners[None]).best())
    return best


def _extreme(problem: Problems, side: Tensor) -> Tensor:
    """Of positions with the same weight, the two whose scores lie at the ends.

    For a fixed partner the divergence is convex in the share, which rises with
    the score: no position between the ends is better than both.
    """
    places = side.nonzero()[:, 0]
    by_score = places[problem.scores[0, places].argsort(stable=True)]
    order = by_score[problem.weights[0, by_score].argsort(stable=True)]
    weights = problem.weights[0, order]
    change = weights[1:] != weights[:-1]
    edge = torch.ones(1, dtype=torch.bool, device=order.device)
    return order[torch.cat([edge, change]) | torch.cat([change, edge])]
