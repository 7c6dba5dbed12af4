"""Numbers in the words of a verdict."""

from __future__ import annotations

import math
import re

from faithattn.statistics import Statistics

_NOISE = 1e-9


def number(value: float) -> str:
    """Three digits, without a leading zero; float noise is 0.

    Examples:
        >>> number(0.25), number(-0.00041), number(12.5), number(3e-12)
        ('.25', '-.00041', '12.5', '0')
    """
    if math.isnan(value):
        return "undefined"
    if abs(value) < _NOISE:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def interval(found: Statistics) -> str:
    """The mean with its interval.

    Examples:
        >>> interval(Statistics(5, 0, 0.25, 0.1, 0.2, 0.2, 0.3, 0.125, 0.5, None))
        '.25 (95 % interval .125 to .5)'
    """
    if math.isnan(found.low) or math.isnan(found.high):
        return f"{number(found.mean)} (no interval)"
    return f"{number(found.mean)} (95 % interval {number(found.low)} to {number(found.high)})"
