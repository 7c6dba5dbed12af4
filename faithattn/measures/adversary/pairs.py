"""The best of all rows on one position, or on two that meet an end of a slab: never all pairs.

The bound that prunes: by convexity the divergence of a pair is at most that of
the chord between its ends, which is a line in the plane of score and divergence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.measures.adversary.vertices import HALF_LN2, NONE, Slab, Vertices, gain, xlogx
from faithattn.measures.draws import spans

_EVERY = 64  # up to so many positions, all pairs take less time than choosing among them
_FIRST_LOOK = 8
_LIST = 16  # positions of either side that are paired at once; few more can matter
_BLOCK = 32  # ... where more can matter
_PAIRS = 1 << 20  # pairs that are compared at a time, where still more can
_CACHED = 1 << 15  # ... where all are: what stays in the cache takes a third of the time
_BYTES = 128  # held for each position of a problem where several vertices are looked at at once


class _Problems(NamedTuple):
    """One problem for each instance and each end of the slab, ``(2 B, L)``.

    Attributes:
        weights: The original attention.
        scores: What each position adds.
        level: The sum over the positions that must be met, ``(2 B, 1)``.
        alone: Divergence of all weight on one position.
        left: Positions below the level.
        right: Positions above it.
        mass: ``(2 B, 1)``.
    """

    weights: Tensor
    scores: Tensor
    level: Tensor
    alone: Tensor
    left: Tensor
    right: Tensor
    mass: Tensor

    def take(self, rows: Tensor | slice) -> _Problems:
        return _Problems(*(each[rows] for each in self))

    def without(self, used: Tensor) -> _Problems:
        return self._replace(left=self.left & ~used, right=self.right & ~used)


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

    def without(self, used: Tensor) -> _Table:
        gone = used.gather(1, self.first)[:, :, None] | used.gather(1, self.second)[:, None]
        return self._replace(value=self.value.masked_fill(gone, NONE))


def best_vertices(slab: Slab, count: int) -> Vertices:
    """The best vertex, then each time the best on the positions that are not used yet, (B, K).

    Vertices of the simplex cut by two parallel planes lie on one position, or
    on two whose mixture lies on a plane. Those of an instance share no
    position: their divergence from each other is the largest there is. Where
    the unused positions hold no vertex, the value is minus infinity.
    """
    singles, alone = _singles(slab)
    problems = _problems(slab, alone)
    best, table = _solved(problems, singles.max(-1).values.repeat(2), wide=count > 1)
    found, used = [_ends_joined(singles, best)], torch.zeros_like(slab.mask)
    for _ in range(count - 1):
        used = _with_used(used, found[-1])
        singles = singles.masked_fill(used, NONE)
        table = table.without(used.repeat(2, 1))
        found.append(_ends_joined(singles, table.best()))
    vertices = Vertices(*(torch.stack(each, 1) for each in zip(*found, strict=True)))
    if count > 1 and singles.shape[1] > _EVERY:
        rows = _unproven(problems, vertices, table).nonzero()[:, 0]
        if len(rows):
            careful = _one_by_one(slab.take(rows), count)
            for mine, other in zip(vertices, careful, strict=True):
                mine[rows] = other
    return vertices


def _with_used(used: Tensor, found: Vertices) -> Tensor:
    used = used.scatter(1, found.first[:, None], True)
    return used.scatter_(1, found.second[:, None], True)


def _unproven(problems: _Problems, vertices: Vertices, table: _Table) -> Tensor:
    """Instances in which a pair beyond the table could beat one of vertices (B, K) but the first.

    Looked at a few vertices at a time, as the budget allows.
    """
    size, count = vertices.value.shape
    used = torch.zeros_like(problems.left[:size])
    doubtful = torch.zeros_like(used[:, 0])
    step = chunk_size(problems.scores.numel(), bytes_per_element=_BYTES)
    for start, end in spans(count - 1, step):
        gone = []
        for number in range(start, end):
            used = _with_used(used, Vertices(*(each[:, number] for each in vertices)))
            gone.append(used.repeat(2, 1))
        every = _Problems(*(_repeated(each, end - start) for each in problems))
        lists = table._replace(
            first=_repeated(table.first, end - start), second=_repeated(table.second, end - start)
        )
        least = vertices.value[:, start + 1 : end + 1].repeat(2, 1).T.flatten()
        beaten = _undecided(every.without(torch.cat(gone)), least, lists)
        doubtful |= beaten.view(-1, size).any(0)
    return doubtful


def _repeated(values: Tensor, count: int) -> Tensor:
    return values.repeat(count, *[1] * (values.ndim - 1))


def _one_by_one(slab: Slab, count: int) -> Vertices:
    """The same, where each is the best of all on the positions that are left."""
    found = []
    for _ in range(count):
        found.append(best_vertices(slab, 1))
        first = Vertices(*(each[:, 0] for each in found[-1]))
        used = _with_used(torch.zeros_like(slab.mask), first)
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


def _problems(slab: Slab, alone: Tensor) -> _Problems:
    level = torch.cat([slab.low, slab.high]) / slab.mass.repeat(2)
    scores, mask = slab.scores.repeat(2, 1), slab.mask.repeat(2, 1)
    met, level = level.isfinite()[:, None] & mask, level[:, None]
    left, right = met & (scores < level), met & (scores > level)
    twice = (slab.weights.repeat(2, 1), alone.repeat(2, 1), slab.mass.repeat(2)[:, None])
    return _Problems(twice[0], scores, level, twice[1], left, right, twice[2])


def _ends_joined(singles: Tensor, pairs: Vertices) -> Vertices:
    """The best of the single positions and of the pairs at both ends."""
    value, place = singles.max(-1)
    single = Vertices(value, place, place, torch.ones_like(value))
    lower, upper = (
        Vertices(*part) for part in zip(*(each.chunk(2) for each in pairs), strict=True)
    )
    return single.better_of(lower.better_of(upper))


def _solved(problems: _Problems, known: Tensor, *, wide: bool) -> tuple[Vertices, _Table]:
    """The best pair of each problem, if it is better than what is known."""
    if problems.scores.shape[1] <= _EVERY:
        table = _table(problems, *_sides(problems))
        return table.best(), table
    first = _leading(problems, known, _FIRST_LOOK)
    value = torch.maximum(known, _table(problems, *first).best().value)
    table = _table(problems, *_leading(problems, value, _LIST if wide else _FIRST_LOOK))
    return _completed(problems, table, known), table


def _sides(problems: _Problems) -> tuple[Tensor, Tensor]:
    """All positions on the left, and all on the right, in lists as short as the batch allows."""
    order = problems.scores.masked_fill(~problems.left, math.inf).argsort(-1)
    other = problems.scores.masked_fill(~problems.right, NONE).argsort(-1, descending=True)
    most = [max(1, int(side.sum(-1).max())) for side in (problems.left, problems.right)]
    return order[:, : most[0]], other[:, : most[1]]


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
    slope = (value - problems.alone) / (problems.level - problems.scores)
    left = slope.masked_fill(~problems.left, math.inf)
    return left, slope.masked_fill(~problems.right, NONE)


def _leading(problems: _Problems, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most promising positions on either side."""
    left, right = _slopes(problems, value)
    count = min(count, left.shape[1])
    return left.topk(count, largest=False).indices, right.topk(count).indices


def _table(problems: _Problems, first: Tensor, second: Tensor) -> _Table:
    """All pairs between two lists of positions."""
    step = max(1, _CACHED // max(1, first.shape[1] * second.shape[1]))
    if len(first) <= step:
        return _small_table(problems, first, second)
    chunks = [slice(start, start + step) for start in range(0, len(first), step)]
    parts = [_small_table(problems.take(each), first[each], second[each]) for each in chunks]
    return _Table(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _small_table(problems: _Problems, first: Tensor, second: Tensor) -> _Table:
    mass = problems.mass[..., None]
    sides = (problems.left.gather(1, first), problems.right.gather(1, second))
    impossible = ~(sides[0][:, :, None] & sides[1][:, None])
    low = problems.scores.gather(1, first)[:, :, None]
    high = problems.scores.gather(1, second)[:, None]
    share = ((high - problems.level[..., None]) / (high - low)).masked_fill_(impossible, 0.5)
    share.clamp_(0, 1)
    weights = [problems.weights.gather(1, each) for each in (first, second)]
    own = [xlogx(each) / 2 - each * HALF_LN2 for each in weights]
    value = own[0][:, :, None] + (own[1] + problems.mass * HALF_LN2)[:, None]
    for part, weight in (
        (share * mass, weights[0][:, :, None]),
        ((1 - share) * mass, weights[1][:, None]),
    ):
        value.sub_(xlogx((part + weight).mul_(0.5))).add_(xlogx(part), alpha=0.5)
    return _Table(value.masked_fill_(impossible, NONE), share, first, second)


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
