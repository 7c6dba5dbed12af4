"""Two models on the same instances: how the mean of a metric changed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faithattn.statistics import compare_means, none_if_nan
from faithattn.testing.wording import show

Values = NDArray[np.float64]
SAME, WORSE, BETTER = "unchanged", "worse", "better"
TOO_FEW, UNDEFINED = "cannot tell", "undefined"


@dataclass(frozen=True)
class Change:
    """Change of a metric since its baseline, instance by instance.

    Attributes:
        metric: Its name.
        quantity: What its number is.
        before: Mean in the baseline.
        now: Mean now.
        difference: Mean of now - before over instances with both values.
        low: Lower end of its 95 % interval.
        high: Its upper end.
        effect: Difference over the standard deviation of the differences.
        n: Instances with both values.
        lost: Instances that had a value and have none.
        gained: Instances that had none and have one.
        tolerance: What the mean may change by.
        outcome: ``"unchanged"``, ``"worse"``, ``"better"``, ``"cannot tell"``
            with fewer than two pairs, or ``"undefined"`` where too many
            instances lost their value.
    """

    metric: str
    quantity: str
    before: float
    now: float
    difference: float
    low: float
    high: float
    effect: float
    n: int
    lost: int
    gained: int
    tolerance: float
    outcome: str

    def __str__(self) -> str:
        text = (
            f"{self.metric} ({self.quantity}), {self.outcome}: {show(self.before)} in the "
            f"baseline, {show(self.now)} now; difference {show(self.difference)}, 95 % interval "
            f"{show(self.low)} to {show(self.high)}, effect size {show(self.effect)}, n {self.n}, "
            f"tolerance {self.tolerance:g}"
        )
        if self.lost or self.gained:
            text += f"; {self.lost} instances lost their value, {self.gained} gained one"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined and infinite numbers become None."""
        return {
            name: (none_if_nan(each) if math.isfinite(each) else None)
            if isinstance(each, float)
            else each
            for name, each in asdict(self).items()
        }


def compare(
    metric: str,
    quantity: str,
    larger_is_faithful: bool,
    before: Values,
    now: Values,
    *,
    clusters: NDArray[np.int64] | None,
    tolerance: float,
    max_undefined: float,
) -> Change:
    """Compares values of the same instances.

    A change counts where the 95 % interval of the paired difference lies
    beyond the tolerance as a whole.
    """
    found = compare_means(now, before, paired=True, clusters=clusters)
    lost = int((np.isnan(now) & ~np.isnan(before)).sum())
    gained = int((np.isnan(before) & ~np.isnan(now)).sum())
    had = int((~np.isnan(before)).sum())
    if lost > max_undefined * had or (had and not found.n):
        outcome = UNDEFINED
    elif not found.n and not gained:
        outcome = SAME  # no instance has a value, then or now
    elif math.isnan(found.low):
        outcome = TOO_FEW
    elif found.low > tolerance or found.high < -tolerance:
        outcome = BETTER if (found.low > tolerance) == larger_is_faithful else WORSE
    else:
        outcome = SAME
    return Change(
        metric,
        quantity,
        _mean(before),
        _mean(now),
        found.mean,
        found.low,
        found.high,
        found.effect,
        found.n,
        lost,
        gained,
        tolerance,
        outcome,
    )


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
