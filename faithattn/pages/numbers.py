"""Numbers in a few characters."""

from __future__ import annotations

import math
import re

UNDEFINED = "\N{EN DASH}"
_MINUS = re.compile(r"(?<![\w.-])-(?=[\d.∞])")


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits behind the point; more where it is small.

    Args:
        value: The number; None and nan are undefined, an int has no digits behind the point.
        digits: Digits behind the point.

    Examples:
        >>> number(0.25), number(-1e-5), number(float("nan")), number(1234567.0)
        ('0.250', '-1.0e-05', '–', '1.23e+06')
    """
    if value is None or math.isnan(value):
        return UNDEFINED
    if isinstance(value, int):
        return count(value)
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    if value == 0 or 0.5 * 10**-digits <= abs(value) < 1e5:
        return f"{value:.{digits}f}"
    return f"{value:.2e}" if abs(value) >= 1 else f"{value:.1e}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Two ends of an interval.

    Args:
        low: Its lower end.
        high: Its upper end.
        digits: Digits behind the point.

    Examples:
        >>> interval(-0.1, 0.25)
        '-0.100 to 0.250'
    """
    if math.isnan(low) or math.isnan(high):
        return UNDEFINED
    return f"{number(low, digits)} to {number(high, digits)}"


def digits_of(low: float, high: float, least: int = 3) -> int:
    """Digits behind the point that tell two ends of an interval apart, six at most.

    Args:
        low: Its lower end.
        high: Its upper end.
        least: Digits in any case.

    Examples:
        >>> digits_of(0.1, 0.25), digits_of(0.00102, 0.00149), digits_of(0.2, 0.2)
        (3, 5, 3)
    """
    width = abs(high - low)
    if not 0 < width < math.inf:
        return least
    return min(max(least, 1 - math.floor(math.log10(width))), max(least, 6))


def count(value: int | None) -> str:
    """A whole number.

    Args:
        value: The number; None is undefined.

    Examples:
        >>> count(12345), count(None)
        ('12,345', '–')
    """
    return UNDEFINED if value is None else f"{value:,}"


def typeset(text: str) -> str:
    """Numbers with the sign that is as wide as a plus.

    Args:
        text: Text with hyphens before negative numbers.

    Examples:
        >>> typeset("-0.5 to 1e-05, twenty-2") == "\N{MINUS SIGN}0.5 to 1e-05, twenty-2"
        True
    """
    return _MINUS.sub("\N{MINUS SIGN}", text)
