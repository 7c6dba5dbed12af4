"""Numbers in the words of a verdict."""

from __future__ import annotations

import math

from faithattn.statistics import Statistics


def number(value: float) -> str:
    """Three digits at most, without a leading zero.

    Examples:
        >>> number(0.25), number(-0.0004), number(12.5)
        ('.25', '-.0004', '12.5')
    """
    if math.isnan(value):
        return "undefined"
    text = f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"
    if value and float(text) == 0:
        text = f"{value:.1g}"
    if "." in text and "e" not in text:
        text = text.rstrip("0").rstrip(".")
    if text in ("0", "-0"):
        return "0"
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text


def interval(found: Statistics) -> str:
    """The mean with its interval.

    Examples:
        >>> interval(Statistics(5, 0, 0.25, 0.1, 0.2, 0.2, 0.3, 0.125, 0.5, None))
        '.25 (95 % interval .125 to .5)'
    """
    if math.isnan(found.low) or math.isnan(found.high):
        return f"{number(found.mean)} (no interval)"
    return f"{number(found.mean)} (95 % interval {number(found.low)} to {number(found.high)})"
