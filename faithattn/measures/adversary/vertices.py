"""Vertices of the simplex cut by a slab: on one position, or on two that meet an end of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.measures.adversary.gains import NONE


class Slab(NamedTuple):
    """Rows ``x`` of weight ``mass`` on ``mask`` with ``low <= sum_t x_t scores_t <= high``.

    Attributes:
        weights: The original attention, 0 where masked, ``(B, L)``, double precision.
        scores: What a unit of weight adds, 0 where masked, ``(B, L)``.
        low: Lower end ``(B,)``; minus infinity where there is none.
        high: Upper end ``(B,)``.
        mask: Where weight may lie, ``(B, L)`` bool.
        mass: Weight there, ``(B,)``.
    """

    weights: Tensor
    scores: Tensor
    low: Tensor
    high: Tensor
    mask: Tensor
    mass: Tensor

    def take(self, rows: Tensor) -> Slab:
        """Some instances."""
        return Slab(*(each[rows] for each in self))


class Vertices(NamedTuple):
    """Vertices of one shape, such as ``(B,)`` or ``(B, K)``: at most two positions carry weight.

    Attributes:
        value: Divergence from the original; minus infinity where there is no vertex.
        first: A position.
        second: Another, or the same.
        share: Part of the mass on the first.
    """

    value: Tensor
    first: Tensor
    second: Tensor
    share: Tensor

    def better_of(self, other: Vertices) -> Vertices:
        """One by one."""
        keep = self.value >= other.value
        return Vertices(*(torch.where(keep, a, b) for a, b in zip(self, other, strict=True)))

    def filled(self) -> Vertices:
        """Of ``(B, K)``: the first again where there is no vertex."""
        numbers = torch.arange(self.value.shape[1], device=self.value.device)
        places = torch.where(self.value > NONE, numbers, 0)
        return Vertices(*(each.gather(1, places) for each in self))

    def part(self, start: int, end: int) -> Vertices:
        """Some of ``(B, K)``."""
        return Vertices(*(each[:, start:end] for each in self))

    def rows(self, slab: Slab, share: Tensor | None = None) -> Tensor:
        """Rows ``(..., B, K, L)`` of vertices ``(B, K)``, or with other shares ``(..., B, K)``."""
        share = self.share if share is None else share
        shape = (*share.shape, slab.weights.shape[1])
        part, mass = share[..., None], slab.mass[:, None, None]
        rows = torch.zeros(shape, dtype=slab.weights.dtype, device=slab.weights.device)
        rows.scatter_(-1, self.second.expand(share.shape)[..., None], (1 - part) * mass)
        return rows.scatter_add_(-1, self.first.expand(share.shape)[..., None], part * mass)


def share_at(slab: Slab, found: Vertices, low: Tensor, high: Tensor) -> Tensor:
    """Shares that bring vertices within narrower slabs, as near as their positions allow.

    Args:
        slab: The slab, of B instances.
        found: Vertices ``(B, K)``.
        low: Lower ends ``(n, B)``.
        high: Upper ends.

    Returns:
        Shares ``(n, B, K)``.
    """
    first, second = slab.scores.gather(1, found.first), slab.scores.gather(1, found.second)
    now = found.share * first + (1 - found.share) * second
    mass = slab.mass[:, None]
    aim = torch.minimum(torch.maximum(now, low[..., None] / mass), high[..., None] / mass)
    apart = first != second
    share = ((aim - second) / torch.where(apart, first - second, 1)).clamp(0, 1)
    return torch.where(apart & (now != aim), share, found.share)
