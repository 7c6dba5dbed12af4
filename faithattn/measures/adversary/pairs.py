"""The best of all rows on one position, or on two that meet an end of a slab."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.measures.adversary.chords import Problems, best_pair, leading, problems_of, slopes
from faithattn.measures.adversary.gains import HALF_LN2, NONE, gain
from faithattn.measures.adversary.picking import pick
from faithattn.measures.adversary.vertices import Slab, Vertices

_EVERY = 64  # up to so many positions, all pairs take less time than choosing among them
_LIST = 16  # positions of either side that are looked at first, where several are asked for
_MOST = 1 << 23  # pairs of one instance that are held at once
_BYTES = 24  # held for each


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
    problems = problems_of(slab, alone, torch.float32 if single else torch.float64)
    if singles.shape[1] <= _EVERY:
        found = _picked(problems, singles, problems.left, problems.right, count)
    elif count == 1:
        best = best_pair(problems, singles.max(-1).values.repeat(2))
        found = Vertices(*(each[:, None] for each in _ends_joined(singles, best)))
    else:
        found = _several(slab, singles, problems, count)
    return _sharpened(slab, found) if single else found


def _picked(
    problems: Problems, singles: Tensor, left: Tensor, right: Tensor, count: int
) -> Vertices:
    """The best of all pairs between some positions; on the CPU, wherever the problems are."""
    size = len(singles)
    numbers = (problems.weights[:size], problems.scores, singles, problems.mass[:size, 0])
    weights, above, alone, mass = (each.to(problems.scores.dtype).cpu().numpy() for each in numbers)
    sides = left.cpu().numpy(), right.cpu().numpy()
    found = pick(weights, above, sides, alone, mass, count)
    device = singles.device
    return Vertices(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in found))


def _several(slab: Slab, singles: Tensor, problems: Problems, count: int) -> Vertices:
    """Several vertices of long rows: of the pairs that could be as good as the last of them.

    What is picked from a few promising positions says how good that is.
    """
    width, least = max(_LIST, 2 * count), singles.max(-1).values.clamp_min(0)
    for _ in range(2):
        first, second = leading(problems, least.repeat(2).to(problems.alone.dtype), width)
        left = torch.zeros_like(problems.left).scatter_(1, first, True) & problems.left
        right = torch.zeros_like(problems.right).scatter_(1, second, True) & problems.right
        found = _picked(problems, singles, left, right, count)
        least = found.value.amin(1).clamp_min(0)
    found = _at_least(slab, singles, problems, least, count)
    # Among more positions the first picks may be others, and leave less to the last ones.
    for share in (1, 0):
        reached = found.value.amin(1).clamp_min(0)
        rows = (reached < least).nonzero()[:, 0]
        if not len(rows):
            break
        least = least.index_copy(0, rows, share * reached[rows].to(least.dtype))
        twice = torch.cat([rows, rows + len(singles)])
        again = _at_least(slab.take(rows), singles[rows], problems.take(twice), least[rows], count)
        found = Vertices(
            *(a.index_copy(0, rows, b.to(a.dtype)) for a, b in zip(found, again, strict=True))
        )
    return found


def _at_least(
    slab: Slab, singles: Tensor, problems: Problems, least: Tensor, count: int
) -> Vertices:
    """Picks from all pairs that the bound lets be as good as ``least`` ``(B,)``."""
    below, above = slopes(problems, least.repeat(2).to(problems.alone.dtype))
    steepest, flattest = above.amax(-1, keepdim=True), below.amin(-1, keepdim=True)
    left, right = problems.left & (below <= steepest), problems.right & (above >= flattest)
    return _in_groups(slab, singles, problems, left, right, count)


def _in_groups(
    slab: Slab, singles: Tensor, problems: Problems, left: Tensor, right: Tensor, count: int
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


def _ends_joined(singles: Tensor, pairs: Vertices) -> Vertices:
    """The best of the single positions and of the pairs at both ends."""
    value, place = singles.max(-1)
    single = Vertices(value, place, place, torch.ones_like(value))
    lower, upper = (
        Vertices(*part) for part in zip(*(each.chunk(2) for each in pairs), strict=True)
    )
    return single.better_of(lower.better_of(upper))
