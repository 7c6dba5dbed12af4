"""From numbers to places along an axis, and the numbers that the axis names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """A straight axis.

    Attributes:
        low: Smallest number.
        high: Largest number.
        left: Where the smallest lies.
        right: Where the largest lies.

    Examples:
        >>> axis = Scale(-1, 1, 100, 300)
        >>> axis(0), axis(5)
        (200.0, 300.0)
    """

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        """Where a number lies; what is off the axis lies at its end."""
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def ticks(self, at_most: int = 7) -> list[tuple[float, str]]:
        """Round numbers on the axis, with what is written beside them."""
        return ticks(self.low, self.high, at_most)


def ticks(low: float, high: float, at_most: int = 7) -> list[tuple[float, str]]:
    """Round numbers between two others, with their text.

    Args:
        low: Smallest number.
        high: Largest number, above it.
        at_most: How many there may be, 3 or more.

    Examples:
        >>> [text for _, text in ticks(-1, 1)]
        ['-1', '-0.5', '0', '0.5', '1']
        >>> [text for _, text in ticks(0, 0.0004, 4)]
        ['0', '0.0002', '0.0004']
    """
    rough = (high - low) / (at_most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    # A step just short of the rough one by rounding is the rough one.
    step = next(power * each for each in _STEPS if power * each >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    found = []
    for place in range(first, last + 1):
        value = place * step
        text = f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
        if "." in text and "e" not in text:
            text = text.rstrip("0").rstrip(".")
        found.append((value, "0" if text == "-0" else text))
    return found


def limits(
    values: Iterable[float], within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Ends of an axis that has room for all numbers.

    Args:
        values: Numbers; those that are not finite count for nothing.
        within: Ends that the axis has in any case.

    Examples:
        >>> limits([0.1, 0.4, float("nan")], (0, 0.3))
        (0.0, 0.4)
        >>> limits([2.0])
        (1.0, 3.0)
        >>> limits([])
        (0.0, 1.0)
    """
    known = [float(value) for value in values if math.isfinite(value)]
    known += [float(end) for end in within or ()]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if high - low <= 1e-12 * max(abs(low), abs(high)) or high == low:
        apart = abs(low) / 2 or 1.0
        return low - apart, high + apart
    return low, high
