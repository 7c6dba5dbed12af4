"""The best of all rows on one position, or on two that meet an end of a slab: never all pairs.

The bound that prunes: by convexity the divergence of a pair is at most that of
the chord between its ends, which is a line in the plane of score and divergence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.measures.adversary.gains import HALF_LN2, NONE, gain, xlogx
from faithattn.measures.adversary.picking import pick
from faithattn.measures.adversary.vertices import Slab, Vertices

_EVERY = 64  # up to so many positions, all pairs take less time than choosing among them
_FIRST_LOOK = 8  # positions of either side that are paired at once; few more can matter
_LIST = 16  # ... where several vertices are asked for
_BLOCK = 32  # ... where more can matter
_PAIRS = 1 << 20  # pairs that are compared at a time, where still more can
_FARTHEST = 1e30  # score above a level: an excluded class has the largest number that there is
_MOST = 1 << 23  # pairs of one instance that are held at once
_BYTES = 24  # held for each


class _Problems(NamedTuple):
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

    def take(self, rows: Tensor | slice) -> _Problems:
        return _Problems(*(each[rows] for each in self))


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


def best_vertices(slab: Slab, count: int, *, single: bool = False) -> Vertices:
    """The best vertex, then each time the best on the positions that are not used yet, (B, K).

    Vertices of the simplex cut by two parallel planes lie on one position, or
    on two whose mixture lies on a plane. Those of an instance share no
    position: their divergence from each other is the largest there is. Where
    the unused positions hold no vertex, the value is minus infinity.

    With ``single``, pairs are compared in single precision, which takes half
    the time; what is returned of the best is in double precision all the same.
    """
    singles, alone = _singles(slab)
    problems = _problems(slab, alone, torch.float32 if single else torch.float64)
    if singles.shape[1] <= _EVERY:
        found = _picked(problems, singles, problems.left, problems.right, count)
    elif count == 1:
        best = _solved(problems, singles.max(-1).values.repeat(2))
        found = Vertices(*(each[:, None] for each in _ends_joined(singles, best)))
    else:
        found = _several(slab, singles, problems, count)
    return _sharpened(slab, found) if single else found


def _picked(
    problems: _Problems, singles: Tensor, left: Tensor, right: Tensor, count: int
) -> Vertices:
    """The best of all pairs between some positions; on the CPU, wherever the problems are."""
    size = len(singles)
    numbers = (problems.weights[:size], problems.scores, singles, problems.mass[:size, 0])
    weights, above, alone, mass = (each.to(problems.scores.dtype).cpu().numpy() for each in numbers)
    sides = left.cpu().numpy(), right.cpu().numpy()
    found = pick(weights, above, sides, alone, mass, count)
    device = singles.device
    return Vertices(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in found))


def _several(slab: Slab, singles: Tensor, problems: _Problems, count: int) -> Vertices:
    """Several vertices of long rows: of the pairs that could be as good as the last of them.

    What is picked from a few promising positions says how good that is.
    """
    width, least = max(_LIST, 2 * count), singles.max(-1).values.clamp_min(0)
    for _ in range(2):
        first, second = _leading(problems, least.repeat(2).to(problems.alone.dtype), width)
        left = torch.zeros_like(problems.left).scatter_(1, first, True) & problems.left
        right = torch.zeros_like(problems.right).scatter_(1, second, True) & problems.right
        rough = _picked(problems, singles, left, right, count)
        least = rough.value.amin(1).clamp_min(0)
    below, above = _slopes(problems, least.repeat(2).to(problems.alone.dtype))
    steepest, flattest = above.amax(-1, keepdim=True), below.amin(-1, keepdim=True)
    left, right = problems.left & (below <= steepest), problems.right & (above >= flattest)
    return _in_groups(slab, singles, problems, left, right, count)


def _in_groups(
    slab: Slab, singles: Tensor, problems: _Problems, left: Tensor, right: Tensor, count: int
) -> Vertices:
    """Picks from the given positions, instances of like numbers of pairs together."""
    size = len(singles)
    widest = [side.sum(-1).view(2, size).amax(0) for side in (left, right)]
    order = (widest[0] * widest[1]).argsort(descending=True)
    lengths = torch.stack([each[order] for each in widest]).tolist()
    found, start = [], 0
    while start < size:
        # Lists are as long as the longest of a group.
        pairs = 2 * max(1, max(lengths[0][start:])) * max(1, max(lengths[1][start:]))
        end = min(size, start + chunk_size(pairs, bytes_per_element=_BYTES))
        rows, twice = order[start:end], torch.cat([order[start:end], order[start:end] + size])
        if pairs > _MOST:
            found.append(_one_by_one(slab.take(rows[:1]), count))
            start += 1
            continue
        some = problems.take(twice)
        found.append(_picked(some, singles[rows], left[twice], right[twice], count))
        start = end
    back = order.argsort()
    dtype = singles.dtype
    parts = (torch.cat([p.to(dtype) if p.is_floating_point() else p for p in each])[back]
             for each in zip(*found, strict=True))  # fmt: skip
    return Vertices(*parts)


def _sharpened(slab: Slab, found: Vertices) -> Vertices:
    """Shares and values in double precision, each pair at the end of the slab it is nearest to."""
    first, second = (slab.scores.gather(1, each) for each in (found.first, found.second))
    mass = slab.mass[:, None]
    now = found.share * first + (1 - found.share) * second
    low, high = slab.low[:, None] / mass, slab.high[:, None] / mass
    level = torch.where((now - low).abs() <= (high - now).abs(), low, high)
    pair = found.first != found.second
    share = ((second - level) / torch.where(pair, second - first, 1)).clamp(0, 1)
    share = torch.where(pair, share, 1)
    weights = [slab.weights.gather(1, each) for each in (found.first, found.second)]
    other = torch.where(pair, gain((1 - share) * mass, weights[1]), 0)
    value = mass * HALF_LN2 + gain(share * mass, weights[0]) + other
    return found._replace(share=share, value=torch.where(found.value > NONE, value, NONE))


def _with_used(used: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return used.scatter(1, first[:, None], True).scatter_(1, second[:, None], True)


def _one_by_one(slab: Slab, count: int) -> Vertices:
    """The same, where each is the best of all on the positions that are left."""
    found = []
    for _ in range(count):
        found.append(best_vertices(slab, 1))
        first, second = found[-1].first[:, 0], found[-1].second[:, 0]
        used = _with_used(torch.zeros_like(slab.mask), first, second)
        slab = slab._replace(mask=slab.mask & ~used)
    return Vertices(*(torch.cat(each, 1) for each in zip(*found, strict=True)))


def _singles(slab: Slab) -> tuple[Tensor, Tensor]:
    """Divergence of all mass on one position: where the slab allows it, and anywhere."""
    mass = slab.mass[:, None]
    alone = mass * HALF_LN2 + gain(mass.expand_as(slab.weights), slab.weights)
    alone = alone.masked_fill(~slab.mask, NONE)
    sums = slab.scores * mass
    inside = (sums >= slab.low[:, None]) & (sums <= slab.high[:, None])
    return alone.masked_fill(~inside, NONE), alone


def _problems(slab: Slab, alone: Tensor, dtype: torch.dtype) -> _Problems:
    ends = torch.stack([slab.low, slab.high]) / slab.mass
    met = (ends.isfinite()[..., None] & slab.mask).flatten(0, 1)
    # From the level on: nothing is lost where scores are large and near to it.
    above = (slab.scores - ends[..., None]).clamp_(-_FARTHEST, _FARTHEST).flatten(0, 1)
    above = above.masked_fill_(~met, 0).to(dtype)
    twice = [each.to(dtype).repeat(2, 1) for each in (slab.weights, alone, slab.mass[:, None])]
    return _Problems(twice[0], above, twice[1], above < 0, above > 0, twice[2])


def _ends_joined(singles: Tensor, pairs: Vertices) -> Vertices:
    """The best of the single positions and of the pairs at both ends."""
    value, place = singles.max(-1)
    single = Vertices(value, place, place, torch.ones_like(value))
    lower, upper = (
        Vertices(*part) for part in zip(*(each.chunk(2) for each in pairs), strict=True)
    )
    return single.better_of(lower.better_of(upper))


def _solved(problems: _Problems, known: Tensor) -> Vertices:
    """The best pair of each problem, if it is better than what is known."""
    known = known.to(problems.alone.dtype)
    first = _leading(problems, known, _FIRST_LOOK)
    value = torch.maximum(known, _table(problems, *first).best().value)
    table = _table(problems, *_leading(problems, value, _FIRST_LOOK))
    return _completed(problems, table, known)


def _completed(problems: _Problems, table: _Table, known: Tensor) -> Vertices:
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
            _table(some, *_leading(some, least, width)).best()
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


def _undecided(problems: _Problems, value: Tensor, table: _Table | None) -> Tensor:
    """Problems ``(2 B,)`` in which a pair beyond the table, or a block, could beat the value."""
    left, right = _slopes(problems, value)
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


def _slopes(problems: _Problems, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of the lines from each position to (level, value) in the plane of score and divergence.

    The divergence of a pair is at most that of the chord between its ends at
    the level. It can exceed ``value`` only if the chord passes above that
    point: if the slope on the right is at least the one on the left.
    """
    value = value[:, None].clamp_min(0)
    slope = (problems.alone - value) / problems.scores
    left = slope.masked_fill(~problems.left, math.inf)
    return left, slope.masked_fill(~problems.right, NONE)


def _leading(problems: _Problems, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most promising positions on either side."""
    left, right = _slopes(problems, value)
    count = min(count, left.shape[1])
    return left.topk(count, largest=False).indices, right.topk(count).indices


def _table(problems: _Problems, first: Tensor, second: Tensor) -> _Table:
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


def _searched_each(problems: _Problems, value: Tensor) -> Vertices:
    each = [
        _searched(problems.take(slice(row, row + 1)), value[row : row + 1])
        for row in range(len(value))
    ]
    return Vertices(*(torch.cat(parts) for parts in zip(*each, strict=True)))


def _searched(problem: _Problems, value: Tensor) -> Vertices:
    """The best of all pairs of one problem that the bound leaves, a slice at a time."""
    places = torch.zeros(value.shape, dtype=torch.long, device=value.device)
    best = Vertices(torch.full_like(value, NONE), places, places, torch.ones_like(value))
    sides = [_extreme(problem, side) for side in (problem.left[0], problem.right[0])]
    left, right = (each[0, side] for each, side in zip(_slopes(problem, value), sides, strict=True))
    firsts, seconds = sides[0][left.argsort()], sides[1][right.argsort(descending=True)]
    step = max(1, _PAIRS // max(1, len(seconds)))
    for chunk in torch.split(firsts, step):
        value = torch.maximum(value, best.value)
        left, right = (each[0] for each in _slopes(problem, value))
        chunk = chunk[left[chunk] <= right[seconds].max()]
        partners = seconds[right[seconds] >= left[chunk].min()] if len(chunk) else seconds[:0]
        if len(partners):
            best = best.better_of(_table(problem, chunk[None], partners[None]).best())
    return best


def _extreme(problem: _Problems, side: Tensor) -> Tensor:
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
