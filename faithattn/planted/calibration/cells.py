"""One metric in one setting: how many pairs it ranked rightly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True)
class Cell:
    """One metric in one setting.

    Attributes:
        metric: Name of the metric.
        kind: ``"models"`` (the same output, attention used or not) or
            ``"explanations"`` (one model, a true and a spoiled explanation).
        contrast: How far apart the two of a pair are, above 0 and at most 1.
        length: Words of a text.
        depth: Layers of mixing between words and attention.
        size: Instances averaged for one number.
        n_pairs: Number of pairs.
        right: Pairs ranked rightly.
        tied: Pairs of equal numbers, or without a number.
        undefined: Share of the instances without a value, 0..1.
        probability: (right + tied / 2) / n_pairs; nan where the metric failed.
        low: Lower end of its 95 % interval (Wilson).
        high: Its upper end.
        reason: Why there is no number; empty where there is.
    """

    metric: str
    kind: str
    contrast: float
    length: int
    depth: int
    size: int
    n_pairs: int
    right: int
    tied: int
    undefined: float
    probability: float
    low: float
    high: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the interval is above chance and half the values or more are defined."""
        return self.low > 0.5 and self.undefined <= 0.5

    @property
    def setting(self) -> str:
        """The setting in words."""
        return f"length {self.length}, depth {self.depth}, contrast {self.contrast:g}"


def rows_of(cells: Iterable[Cell]) -> list[tuple[str, str]]:
    """Every metric and kind, in order."""
    return list(dict.fromkeys((cell.metric, cell.kind) for cell in cells))


def mean(values: Iterable[float]) -> float:
    """Mean of the defined values; nan without any."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a probability from a share of ``count`` pairs.

    Ties count one half. That varies less than a coin, so the interval is, if
    anything, too wide then.

    Examples:
        >>> low, high = wilson(0.7, 10)
        >>> round(low, 4), round(high, 4)
        (0.3968, 0.8922)
    """
    middle = share + _Z**2 / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    whole = 1 + _Z**2 / count
    return max(0.0, (middle - reach) / whole), min(1.0, (middle + reach) / whole)
