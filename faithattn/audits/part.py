"""What one batch leaves in an audit: columns of numbers, and scores by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, one after the other.

    Attributes:
        values: All of them, flat.
        offsets: Where each row begins, and where the last ends, ``(B + 1,)`` int64.
    """

    values: Column
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Column:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, eq=False)
class Part:
    """The B instances of one batch.

    Keys are ``metric.quantity``, followed by ``@view`` where an audit has several views.

    Attributes:
        columns: One value an instance: float64 (nan where undefined or
            failed), int64 or bool, ``(B,)`` each. Every part of an audit has the same.
        positions: Scores of the positions of the mask, float32, in order.
        tokens: The text of those positions of the first view; None if unknown.
        failures: Why a metric failed on this batch, by ``metric`` or ``metric@view``.
        seconds: Time each metric took; what several share counts for the first.
        notes: What else should be known, by name, such as how logits became outputs.
    """

    columns: Mapping[str, Column]
    positions: Mapping[str, Ragged] = field(default_factory=dict)
    tokens: tuple[tuple[str, ...], ...] | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


def keyed(name: str, view: str = "") -> str:
    """The key of a metric, a column or scores under a view.

    Examples:
        >>> keyed("permutation_test.median_tvd", "layer 3")
        'permutation_test.median_tvd@layer 3'
    """
    return f"{name}@{view}" if view else name
