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
from faithattn.measures.adversary.short import pick
from faithattn.measures.adversary.vertices import Slab, Vertices
from faithattn.measures.draws import spans

_EVERY = 64  # up to so many positions, all pairs take less time than choosing among them
_FIRST_LOOK = 8
_LIST = 16  # positions of either side that are paired at once; few more can matter
_BLOCK = 32  # ... where more can matter
_PAIRS = 1 << 20  # pairs that are compared at a time, where still more can
_FARTHEST = 1e30  # score above a level: an excluded class has the largest number that there is
_BYTES = 128  # held for each position of a problem where several vertices are looked at at once


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

    def without(self, used: Tensor) -> _Problems:
        return self._replace(left=self.left & ~used, right=self.right & ~used)


class _Table(NamedTuple):
    """All pairs between two lists of positions, ``(2 B, n, n)``, and the lists ``(2 B, n)``."""

    value: Tensor
    share: Tensor
    first: Tensor
    second: Tensor

    def best(self) -> Vertices:
        top = _largest(self.value)
        first = self.first.gather(1, top.row[:, None])[:, 0]
        second = self.second.gather(1, top.column[:, None])[:, 0]
        return Vertices(top.value, first, second, _at(self.share, top))


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
    dtype = torch.float32 if single else torch.float64
    if singles.shape[1] <= _EVERY:
        vertices = _short(slab, singles, dtype, count)
    else:
        vertices = _long(slab, singles, _problems(slab, alone, dtype), count)
    return _sharpened(slab, vertices) if single else vertices


def _short(slab: Slab, singles: Tensor, dtype: torch.dtype, count: int) -> Vertices:
    """All pairs at once; on the CPU, wherever the slab is."""
    ends = torch.stack([slab.low, slab.high]) / slab.mass
    met = ends.isfinite()[..., None] & slab.mask
    # From the level on: nothing is lost where scores are large and near to it.
    above = (slab.scores - ends[..., None]).clamp_(-_FARTHEST, _FARTHEST).masked_fill_(~met, 0)
    parts = (each.to(dtype).cpu().numpy() for each in (slab.weights, above, singles, slab.mass))
    weights, scores, alone, mass = parts
    found = pick(weights, scores, met.cpu().numpy(), alone, mass, count)
    device = singles.device
    return Vertices(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in found))


def _long(slab: Slab, singles: Tensor, problems: _Problems, count: int) -> Vertices:
    """Only the pairs that a bound leaves."""
    best, table = _solved(problems, singles.max(-1).values.repeat(2), wide=count > 1)
    if count > 1:
        return _proven(slab, problems, table, _picked(singles, table, count))
    return Vertices(*(each[:, None] for each in _ends_joined(singles, best)))


def _picked(singles: Tensor, table: _Table, count: int) -> Vertices:
    """From all single positions and all pairs of a table, the best and then others, (B, K)."""
    size, length = singles.shape
    value, alone = table.value.clone(), singles.to(table.value.dtype)  # what is used is struck out
    positions = torch.arange(length, device=singles.device)
    found = []
    for _ in range(count):
        best, single = _largest(value), alone.max(-1)
        # Of each instance the lower end, the upper one, and a position by itself.
        values = torch.cat([best.value, single.values]).view(3, size)
        top = values.max(0)
        parts = (
            torch.cat([mine, other]).view(3, size).gather(0, top.indices[None])[0]
            for mine, other in (
                (table.first.gather(1, best.row[:, None])[:, 0], single.indices),
                (table.second.gather(1, best.column[:, None])[:, 0], single.indices),
                (_at(table.share, best), torch.ones_like(single.values)),
            )
        )
        one, other, share = parts
        found.append(Vertices(top.values, one, other, share))
        if len(found) < count:
            alone.add_(_struck(positions, one[:, None], other[:, None]))
            ends = [each[:, None].repeat(2, 1) for each in (one, other)]
            value.add_(_struck(table.first, *ends)[:, :, None])
            value.add_(_struck(table.second, *ends)[:, None])
    return Vertices(*(torch.stack(each, 1) for each in zip(*found, strict=True)))


class _Largest(NamedTuple):
    """Of each matrix its largest entry, and where it is."""

    value: Tensor
    row: Tensor
    column: Tensor


def _largest(values: Tensor) -> _Largest:
    """Rows first: their maxima are vectorised, and a maximum with its place is not."""
    top = values.amax(-1).max(-1)
    row = top.indices[:, None, None].expand(-1, 1, values.shape[2])
    return _Largest(top.values, top.indices, values.gather(1, row)[:, 0].argmax(-1))


def _at(values: Tensor, place: _Largest) -> Tensor:
    """Entries ``(2 B,)`` at places."""
    return values.flatten(1).gather(1, (place.row * values.shape[2] + place.column)[:, None])[:, 0]


def _struck(places: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """What is added to the values at places: minus infinity at two. Adding is vectorised."""
    return torch.where((places == one) | (places == other), NONE, 0.0)


def _proven(slab: Slab, problems: _Problems, table: _Table, found: Vertices) -> Vertices:
    """The same where no pair beyond the table can be better, else one vertex after the other."""
    count = found.value.shape[1]
    rows = _unproven(problems, found, table).nonzero()[:, 0]
    if not len(rows):
        return found
    careful = _one_by_one(slab.take(rows), count)
    return Vertices(
        *(
            mine.index_copy(0, rows, other.to(mine.dtype))
            for mine, other in zip(found, careful, strict=True)
        )
    )


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
            used = _with_used(used, vertices.first[:, number], vertices.second[:, number])
            gone.append(used.repeat(2, 1))
        every = _Problems(*(_repeated(each, end - start) for each in problems))
        first, second = (_repeated(each, end - start) for each in (table.first, table.second))
        least = vertices.value[:, start + 1 : end + 1].repeat(2, 1).T.flatten()
        lists = table._replace(first=first, second=second)
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


def _solved(problems: _Problems, known: Tensor, *, wide: bool) -> tuple[Vertices, _Table]:
    """The best pair of each problem, if it is better than what is known."""
    known = known.to(problems.alone.dtype)
    first = _leading(problems, known, _FIRST_LOOK)
    value = torch.maximum(known, _table(problems, *first).best().value)
    table = _table(problems, *_leading(problems, value, _LIST if wide else _FIRST_LOOK))
    return _completed(problems, table, known), table


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
