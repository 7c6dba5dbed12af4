"""Sets of positions to remove, each from one row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


class Sets(Protocol):
    """Sets of positions, each from one row; looked at a chunk at a time."""

    @property
    def rows(self) -> Tensor:
        """The row ``(n,)`` of each set."""
        ...

    @property
    def sizes(self) -> Tensor:
        """Number ``(n,)`` of positions of each set."""
        ...

    def gone(self, part: Tensor) -> Tensor:
        """Marks ``(m, L)`` of the positions of some sets, by their numbers ``(m,)``."""
        ...


@dataclass(frozen=True)
class Singles:
    """One position each, which takes no memory of the length of the text.

    Attributes:
        rows: The row ``(n,)`` of each.
        positions: The position ``(n,)``.
        length: Number of positions of a row.
    """

    rows: Tensor
    positions: Tensor
    length: int

    @property
    def sizes(self) -> Tensor:
        """One each."""
        return torch.ones_like(self.rows)

    def gone(self, part: Tensor) -> Tensor:
        """Marks ``(m, L)``."""
        places = torch.arange(self.length, device=part.device)
        return places == self.positions[part][:, None]


@dataclass(frozen=True)
class Marked:
    """Sets that are given as marks.

    Attributes:
        rows: The row ``(n,)`` of each.
        marks: ``(n, L)`` bool, True at what goes.
    """

    rows: Tensor
    marks: Tensor

    @cached_property
    def sizes(self) -> Tensor:
        """Number of marks of each."""
        return self.marks.sum(1)

    def gone(self, part: Tensor) -> Tensor:
        """Marks ``(m, L)``."""
        return self.marks[part]


@dataclass(frozen=True)
class Ranked:
    """What ranks ahead of a cut, or all but that.

    Attributes:
        rows: The row ``(n,)`` of each.
        cuts: Number ``(n,)`` of positions ahead of the cut.
        ahead: ``(n,)`` bool, whether those go, or the others do.
        ranks: Rank ``(B, L)`` of each position of the mask, from 0.
        mask: ``(B, L)`` bool.
    """

    rows: Tensor
    cuts: Tensor
    ahead: Tensor
    ranks: Tensor
    mask: Tensor

    @cached_property
    def sizes(self) -> Tensor:
        """Number of positions that go."""
        lengths = self.mask.sum(1)[self.rows]
        first = self.cuts.minimum(lengths)
        return torch.where(self.ahead, first, lengths - first)

    def gone(self, part: Tensor) -> Tensor:
        """Marks ``(m, L)``."""
        rows = self.rows[part]
        before = self.ranks[rows] < self.cuts[part][:, None]
        return (before == self.ahead[part][:, None]) & self.mask[rows]
