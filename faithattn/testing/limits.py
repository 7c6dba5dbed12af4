"""What an assertion asks of a mean, checked before anything is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from faithattn.audits.headlines import Headline

UNDECIDED = ("fail", "skip", "pass")


@dataclass(frozen=True)
class Limits:
    """What the mean of a metric must keep to.

    Attributes:
        at_least: Its one-sided lower bound must not be below this; None for no limit.
        at_most: Its one-sided upper bound must not be above this; None for no limit.
        confidence: Of the bounds.
        undecided: What happens where the sample is too small to tell.
        max_undefined: Largest share of instances that may have no value.
    """

    at_least: float | None = None
    at_most: float | None = None
    confidence: float = 0.95
    undecided: str = "fail"
    max_undefined: float = 0.5

    def __str__(self) -> str:
        least = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        most = [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return " and ".join(least + most)

    def check(self, headline: Headline) -> None:
        """Requires limits that a metric can keep to and break.

        Raises:
            TypeError: If a limit or share is no number.
            ValueError: If one is out of range.
        """
        low, high = headline.ends or (-math.inf, math.inf)
        high = math.inf if headline.open_ended else high
        for name, limit in (("at_least", self.at_least), ("at_most", self.at_most)):
            if limit is not None and not low <= _number(name, limit) <= high:
                raise ValueError(
                    f"{name} must be within {low:.3g}..{high:.3g}, what {headline.metric} can be; "
                    f"got {limit!r}. Pass a number in that range."
                )
        if self.at_least is None and self.at_most is None:
            raise ValueError(
                "at_least or at_most must be given; got neither. Pass the limit that the mean "
                "must keep to."
            )
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(
                f"at_least must not be above at_most; got {self.at_least!r} and "
                f"{self.at_most!r}. Exchange them."
            )
        require_shares(self.confidence, self.max_undefined)
        if self.undecided not in UNDECIDED:
            raise ValueError(
                f"undecided must be one of {', '.join(UNDECIDED)}; got {self.undecided!r}. "
                "Choose what happens where the sample is too small to tell."
            )


def require_shares(confidence: object, max_undefined: object) -> None:
    """Requires a confidence of .5 to 1 and a share of 0 to 1."""
    if not 0.5 < _number("confidence", confidence) < 1:
        raise ValueError(
            f"confidence must be between 0.5 and 1; got {confidence!r}. Pass 0.95 for 95 %."
        )
    if not 0 <= _number("max_undefined", max_undefined) <= 1:
        raise ValueError(
            f"max_undefined must be a share within 0..1; got {max_undefined!r}. "
            "Pass 0.5 for one half."
        )


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
        raise TypeError(f"{name} must be a number; got {value!r}. Pass a float.")
    return float(value)
