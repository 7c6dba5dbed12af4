"""Where texts differ from texts that were read, from both ends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Differences(NamedTuple):
    """Where texts first differ, from the left and from the right.

    Attributes:
        first: First position ``(n,)`` that differs; L if none does.
        last: Last position ``(n,)`` if the ends are put on each other; -1 if none does.
        offset: How much longer ``(n,)`` the text was that was read.
    """

    first: Tensor
    last: Tensor
    offset: Tensor

    @property
    def same(self) -> Tensor:
        """Whether each text ``(n,)`` is the one that was read."""
        return (self.last < 0) & (self.offset == 0)


def differences(read: Tensor, codes: Tensor) -> Differences:
    """Compares texts ``(n, L)`` with those that were read ``(n, L')``; 0 is padding, at the end."""
    length, width = codes.shape[1], read.shape[1]
    offset = (read > 0).sum(1) - (codes > 0).sum(1)
    places = torch.arange(length, device=codes.device)
    padded = nn.functional.pad(read, (0, max(0, length - width)))
    first = torch.where(codes != padded[:, :length], places, length).amin(1)
    source = places + offset[:, None]
    moved = read.gather(1, source.clamp(0, width - 1)).masked_fill(source >= width, 0)
    last = torch.where((codes != moved) | (source < 0), places, -1).amax(1)
    return Differences(first, last, offset)
