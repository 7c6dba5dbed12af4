"""Where a tensor lies in its storage; reading and writing such a place in a flat copy of it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Geometry(NamedTuple):
    """Size, stride and offset of a strided tensor, in elements."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: Tensor) -> Geometry:
        """The place of a tensor in its storage."""
        return cls(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    @property
    def end(self) -> int:
        """One past the last element that is touched; the offset if there is none."""
        if 0 in self.size:
            return self.offset
        return (
            self.offset + 1 + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        )

    def order(self) -> tuple[int, ...] | None:
        """Dimensions from outer to inner if together they fill one gapless run, else None."""
        order = sorted(range(len(self.size)), key=lambda d: (self.size[d] > 1, -self.stride[d]))
        expected = 1
        for d in reversed(order):
            if self.size[d] != 1 and self.stride[d] != expected:
                return None
            expected *= self.size[d]
        return tuple(order)

    def injective(self) -> bool:
        """True if surely no two indices share an element."""
        reach = 1
        for stride, size in sorted(
            (s, n) for n, s in zip(self.size, self.stride, strict=True) if n > 1
        ):
            if stride < reach:
                return False
            reach += (size - 1) * stride
        return True

    def disjoint(self, other: Geometry) -> bool:
        """True if surely no element belongs to both."""
        if self.end <= other.offset or other.end <= self.offset:
            return True
        strides = {s for g in (self, other) for n, s in zip(g.size, g.stride, strict=True) if n > 1}
        radix = sorted(strides - {0} | {1}, reverse=True)
        if 0 in strides or any(a % b for a, b in pairwise(radix)):
            return False
        mine, theirs = self._box(radix), other._box(radix)
        if mine is None or theirs is None:
            return False
        return any(a + m <= b or b + n <= a for (a, m), (b, n) in zip(mine, theirs, strict=True))

    def _box(self, radix: list[int]) -> list[tuple[int, int]] | None:
        """First coordinate and extent along each radix; None if the tensor wraps around."""
        extents = dict.fromkeys(radix, 1)
        for size, stride in zip(self.size, self.stride, strict=True):
            if size > 1:
                extents[stride] *= size
        box, rest = [], self.offset
        for place, (stride, extent) in enumerate(extents.items()):
            first, rest = divmod(rest, stride)
            if place and (first + extent) * stride > radix[place - 1]:
                return None
            box.append((first, extent))
        return box


def flatten(value: Tensor, order: tuple[int, ...]) -> Tensor:
    """The flat run that a tensor with these dimensions, outer to inner, fills."""
    return value.permute(order).reshape(-1)


def region(flat: Tensor, place: Geometry) -> Tensor:
    """The tensor at a place of flat storage, whatever the layout of the flat tensor itself.

    ``as_strided`` would count from the storage of the flat tensor, which is an
    accident of how it was computed. Narrowing and unfolding count from its
    elements, and are differentiable and batched.
    """
    order = place.order()
    run = flat.narrow(0, place.offset, place.end - place.offset)
    if order is not None:
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return run.reshape([place.size[d] for d in order]).permute(inverse)
    span = place.end - place.offset
    for size, stride in zip(place.size, place.stride, strict=True):
        span -= (size - 1) * stride
        if size == 1 or stride == 0:
            run = run.unsqueeze(-2)
            run = run.expand(*run.shape[:-2], size, run.shape[-1])
        else:
            run = run.unfold(-1, span, stride)
    return run.squeeze(-1)


def write(flat: Tensor, value: Tensor, place: Geometry) -> Tensor:
    """A new flat tensor with the value at a place.

    Choosing between the flat tensor and one element of the value copies, and
    makes the copy as batched as either: a plain clone of an unbatched tensor
    could not take a batched value.
    """
    sample = value.reshape(-1)[:1]
    return overwrite(
        torch.where(torch.zeros_like(sample, dtype=torch.bool), sample, flat), value, place
    )


def overwrite(flat: Tensor, value: Tensor, place: Geometry) -> Tensor:
    """Writes into a flat tensor that `write` made and nothing else reads."""
    flat.as_strided(place.size, place.stride, place.offset).copy_(value)
    return flat
