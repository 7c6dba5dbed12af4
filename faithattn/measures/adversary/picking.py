"""The best of all pairs between listed positions, in NumPy, whose small steps cost least."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faithattn.measures.adversary.gains import HALF_LN2, NONE

_CACHED = 1 << 15  # pairs at a time: what stays in the cache takes a third of the time

Values = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]


class Picked(NamedTuple):
    """Vertices ``(B, K)``: value, positions, and the share of the first.

    Attributes:
        value: Divergence from the original; minus infinity where there is no vertex.
        first: A position.
        second: Another, or the same.
        share: Part of the mass on the first.
    """

    value: Values
    first: Places
    second: Places
    share: Values


class _Pairs(NamedTuple):
    """All pairs of a position on either side of a level, ``(2 B, n, m)``, in lists ``(2 B, n)``."""

    value: Values
    share: Values
    first: Places
    second: Places


def pick(
    weights: Values,
    above: Values,
    sides: tuple[Flags, Flags],
    singles: Values,
    mass: Values,
    count: int,
) -> Picked:
    """The best vertex, then each time the best on the positions that are not used yet.

    Args:
        weights: The original attention, ``(B, L)``.
        above: What each position adds, above the lower and then the upper end, ``(2 B, L)``.
        sides: Which positions to pair: those below the end, and those above, ``(2 B, L)``.
        singles: Value of all mass on one position, minus infinity where that is not
            allowed, ``(B, L)``.
        mass: What a vertex distributes, ``(B,)``.
        count: Number K of vertices.
    """
    size = len(weights)
    pairs = _all_pairs(np.concatenate([weights, weights]), above, sides, np.concatenate([mass] * 2))
    alone, every, both = singles.copy(), np.arange(size), np.arange(2 * size)
    value, found = pairs.value, []
    flat = value.reshape(2 * size, -1)  # a view: maxima along a short axis would take turns
    for _ in range(count):
        best = flat.argmax(-1)
        row, column = np.divmod(best, value.shape[2])
        single = alone.argmax(-1)
        # Of each instance the lower end, the upper one, and a position by itself.
        values = np.concatenate([flat[both, best], alone[every, single]]).reshape(3, size)
        first = np.concatenate([pairs.first[both, row], single]).reshape(3, size)
        second = np.concatenate([pairs.second[both, column], single]).reshape(3, size)
        share = np.concatenate([pairs.share[both, row, column], np.ones(size)]).reshape(3, size)
        way = values.argmax(0)
        one = Picked(*(each[way, every] for each in (values, first, second, share)))
        found.append(one)
        if len(found) < count:
            ends = [np.concatenate([each, each])[:, None] for each in (one.first, one.second)]
            value[(pairs.first == ends[0]) | (pairs.first == ends[1])] = NONE
            # Columns by adding: an index would take turns with every row.
            gone = (pairs.second == ends[0]) | (pairs.second == ends[1])
            np.add(value, np.where(gone, NONE, 0).astype(value.dtype)[:, None], out=value)
            alone[every, one.first] = NONE
            alone[every, one.second] = NONE
    return Picked(*(np.stack(each, 1) for each in zip(*found, strict=True)))


def _all_pairs(weights: Values, above: Values, sides: tuple[Flags, Flags], mass: Values) -> _Pairs:
    left, right = sides
    first, second = _listed(above, left), _listed(-above, right)
    step = max(1, _CACHED // (first.shape[1] * second.shape[1]))
    parts = [
        _some_pairs(
            weights[a : a + step], above[a : a + step], mass[a : a + step, None],
            (first[a : a + step], second[a : a + step]), (left[a : a + step], right[a : a + step]),
        )
        for a in range(0, len(weights), step)
    ]  # fmt: skip
    values, shares = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _Pairs(values, shares, first, second)


def _listed(order: Values, side: Flags) -> Places:
    """The positions of a side in lists as short as the batch allows, others behind them."""
    most = max(1, int(side.sum(-1).max(initial=0)))
    return np.where(side, order, np.inf).argsort(-1)[:, :most]


def _some_pairs(
    weights: Values,
    above: Values,
    mass: Values,
    lists: tuple[Places, Places],
    sides: tuple[Flags, Flags],
) -> tuple[Values, Values]:
    """Values and shares; of a list's positions on the other side, the value is minus infinity."""
    scores, own, base = [], [], []
    for places, side, instead in zip(lists, sides, (-1, 1), strict=True):
        there = np.take_along_axis(side, places, 1)
        weight = np.take_along_axis(weights, places, 1)
        scores.append(np.where(there, np.take_along_axis(above, places, 1), instead))
        own.append(weight)
        base.append(np.where(there, _xlogx(weight) / 2 - weight * HALF_LN2, NONE))
    low, high = scores[0].astype(above.dtype)[:, :, None], scores[1].astype(above.dtype)[:, None]
    share = high / (high - low)
    np.clip(share, 0, 1, out=share)
    value = (base[0][:, :, None] + (base[1] + mass * HALF_LN2)[:, None]).astype(above.dtype)
    for part, weight in (
        (share * mass[..., None], own[0][:, :, None]),
        ((1 - share) * mass[..., None], own[1][:, None]),
    ):
        value += _xlogx(part) / 2
        value -= _xlogx((part + weight) / 2)
    return value, share


def _xlogx(x: Values) -> Values:
    """Products x ln x, 0 at 0."""
    logs = np.log(np.maximum(x, np.finfo(x.dtype).tiny))
    logs *= x
    return logs
