"""Attention weights in the library's layout, whatever layout a model has them in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """Where the instances are in weights whose keys come last.

    Attributes:
        batch: The axis that holds them.
        folded: Whether it holds them times heads or parts: ``(B * n, ...)``.
        slow: In a folded axis, whether the instances vary slowest (b * n + i).
    """

    batch: int
    folded: bool = False
    slow: bool = True

    def fits(self, lead: Sequence[int], size: int) -> bool:
        """Whether axes of these sizes can be read this way."""
        if self.batch >= len(lead):
            return False
        count = lead[self.batch]
        return count % size == 0 and count > 0 if self.folded else count == size


Extras = tuple[int, int]  # keys that are no positions, before these and behind them


@dataclass(frozen=True)
class Layout:
    """How ``(B, Lk)``, ``(B, Lq, Lk)`` or ``(B, H, Lq, Lk)`` lies in a model's tensor.

    Attributes:
        dim: The axis of the keys in the model's tensor.
        axes: Where the instances are once the keys are last.
        size: Number B of instances.
        extras: Keys that are no positions, such as a sink; they are shown behind all others.
    """

    dim: int
    axes: Axes
    size: int
    extras: Extras = (0, 0)

    def plain(self, weights: Tensor) -> bool:
        """Whether the model's layout is the library's."""
        own = self.axes.batch == 0 and not self.axes.folded and weights.ndim <= 4
        return own and self.dim == weights.ndim - 1

    def show(self, weights: Tensor) -> Tensor:
        """The weights in the library's layout, as a view where possible."""
        whole, lead = self._whole(weights), self.extras[0]
        return _turned(whole, lead, self.extras[1]) if lead else whole

    def _whole(self, weights: Tensor) -> Tensor:
        if self.plain(weights):
            return weights
        split = self._split(weights)
        middle = split.shape[1:-1]
        if self.dim % weights.ndim != weights.ndim - 1 and math.prod(middle) == 1:
            return split.flatten(0, -2)  # scores (B, L, 1) over dim 1 are one row
        return split.flatten(1, -3) if len(middle) > 2 else split

    def restore(self, shown: Tensor, like: Tensor) -> Tensor:
        """Weights in the library's layout, put back into the layout of the model's tensor."""
        lead, tail = self.extras
        if lead:
            places = shown.shape[-1] - lead - tail
            shown = _turned(shown, places, tail)
        if self.plain(like):
            return shown
        split = shown.reshape(self._split(like).shape)
        axis = self.axes.batch
        if not self.axes.folded:
            return split.movedim(0, axis).movedim(-1, self.dim)
        inner = axis if self.axes.slow else axis + 1
        return split.movedim(0, inner).flatten(axis, axis + 1).movedim(-1, self.dim)

    def _split(self, weights: Tensor) -> Tensor:
        """Instances first, keys last, everything else between."""
        last = weights.movedim(self.dim, -1)
        axis = self.axes.batch
        if not self.axes.folded:
            return last.movedim(axis, 0)
        parts = last.shape[axis] // self.size
        sizes = (self.size, parts) if self.axes.slow else (parts, self.size)
        split = last.reshape(*last.shape[:axis], *sizes, *last.shape[axis + 1 :])
        return split.movedim(axis if self.axes.slow else axis + 1, 0)


def _turned(weights: Tensor, first: int, last: int) -> Tensor:
    """The first keys put behind those that follow, but before the last ones."""
    end = weights.shape[-1] - last
    parts = weights[..., first:end], weights[..., :first], weights[..., end:]
    return torch.cat(parts, -1)


def guess_axes(lead: Sequence[int], size: int) -> tuple[Axes | None, bool]:
    """Where the instances are in axes of these sizes, and whether nothing else is possible."""
    equal = [axis for axis, length in enumerate(lead) if length == size]
    if equal:
        alone = len(equal) == 1 and (equal[0] == 0 or lead[0] % size != 0)
        return Axes(equal[0]), alone or (size == 1 and equal[0] == 0)
    for axis, length in enumerate(lead):
        if length % size == 0 and length > 0:
            return Axes(axis, folded=True), size == 1
    return None, True


def compare_axes(whole: Tensor, part: Tensor, size: int, row: int, copies: int) -> list[Axes]:
    """Every reading of ``whole`` (keys last, B instances) that agrees with a second run.

    The second run held ``copies`` times the instance ``row`` alone.
    """
    found = []
    for axis in range(whole.ndim - 1):
        for axes in (Axes(axis), Axes(axis, True, True), Axes(axis, True, False)):
            parts = whole.shape[axis] // size
            if not axes.fits(whole.shape[:-1], size) or (axes.folded and parts < 2):
                continue
            if part.ndim != whole.ndim or part.shape[axis] != parts * copies:
                continue
            ours = Layout(-1, axes, size)._split(whole)[row]
            theirs = Layout(-1, axes, copies)._split(part)[0]
            if ours.shape == theirs.shape and _close(ours, theirs):
                found.append(axes)
    return found


def _close(first: Tensor, second: Tensor) -> bool:
    difference = (first.float().nan_to_num() - second.float().nan_to_num()).abs()
    return bool((difference <= 1e-3).all())
