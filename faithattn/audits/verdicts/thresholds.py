"""Where verdicts draw their lines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

_SHARES = ("least_unhindered", "most_reach", "most_undefined")


@dataclass(frozen=True)
class Thresholds:
    """Where verdicts draw their lines; the defaults are those that were calibrated.

    Attributes:
        least_tau: Agreement with importance supports attention from this tau on:
            of two positions, the more attended is the more important one in
            (1 + tau) / 2 of the pairs.
        most_unrelated_tau: It contradicts attention up to this tau.
        least_change: Shuffled attention supports it from this median output
            change on, a total variation distance.
        most_idle_change: It contradicts attention up to this change.
        least_top_effect: Erasing the top weight supports attention from this on: how
            much more the output diverges than without another weight, in nats.
        least_unhindered: The adversary contradicts attention where, in at least
            this share of the instances, it goes as far as any attention can go.
        most_reach: It supports attention where it provably goes at most this
            share of the way there, on average.
        least_instances: Fewer instances with a value decide nothing, nor do
            those of fewer clusters.
        most_undefined: Nor does a larger share without one.
        regression_unit: Change of a regression output that counts as 1; the
            tests that ask for an output change decide nothing while it is None.

    Raises:
        ValueError: If a number is out of range, or two of a kind in the wrong order.

    Examples:
        >>> Thresholds(least_tau=0.5).least_tau
        0.5
    """

    least_tau: float = 0.3
    most_unrelated_tau: float = 0.1
    least_change: float = 0.05
    most_idle_change: float = 0.005
    least_top_effect: float = 0.005
    least_unhindered: float = 0.75
    most_reach: float = 0.75
    least_instances: int = 10
    most_undefined: float = 0.25
    regression_unit: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.name == "regression_unit":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(
                    f"{each.name} must be a number; got {type(value).__name__}. "
                    f"The default is {each.default}."
                )
            if not math.isfinite(value):
                raise ValueError(
                    f"{each.name} must be finite; got {value}. The default is {each.default}."
                )
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name in _SHARES:
            _require(name, getattr(self, name), 0, 1)
        for name in ("least_tau", "most_unrelated_tau"):
            _require(name, getattr(self, name), -1, 1)
        for name in ("most_idle_change", "least_top_effect"):
            _require(name, getattr(self, name), 0, math.inf)
        for low, high in (
            ("most_unrelated_tau", "least_tau"),
            ("most_idle_change", "least_change"),
        ):
            if not getattr(self, low) < getattr(self, high):
                raise ValueError(
                    f"{low} must lie below {high}; got {getattr(self, low)} and "
                    f"{getattr(self, high)}. Leave room between them for what nobody can tell."
                )
        if self.least_instances != int(self.least_instances) or self.least_instances < 2:
            raise ValueError(
                f"least_instances must be a whole number of at least 2; got "
                f"{self.least_instances}. One instance has no interval."
            )
        if self.regression_unit is not None and self.regression_unit <= 0:
            raise ValueError(
                f"regression_unit must be positive; got {self.regression_unit}. Pass the change "
                "of output that would matter to you."
            )

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON."""
        return asdict(self)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        allowed = f"0 or more, it is a size of change; got {value}. Pass 0 for none"
        if math.isfinite(high):
            allowed = f"in {low}..{high}; got {value}. Pass a number between them"
        raise ValueError(f"{name} must be {allowed}.")
