"""Per-instance values summed up: counts, spread, quartiles, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from faithattn.statistics.intervals import mean_interval
from faithattn.statistics.pvalues import SIGNIFICANCE, SLACK
from faithattn.statistics.values import Clusters

ATTENTION_BINS = ("[0,.25)", "[.25,.5)", "[.5,.75)", "[.75,1]")


@dataclass(frozen=True)
class Statistics:
    """A summary of one group of instances.

    Attributes:
        n: Number of instances.
        undefined: How many of them have no value (nan); the rest describe the others.
        mean: Mean; nan where every value is undefined.
        std: Sample standard deviation (one degree of freedom taken).
        q25: Lower quartile.
        median: Median.
        q75: Upper quartile.
        low: Lower end of the 95 % bootstrap interval (BCa) of the mean.
        high: Its upper end.
        significant: Share of the defined values with p <= .05, uncorrected;
            None where the test has no p-value.

    Examples:
        >>> found = describe(np.array([0.1, 0.4, np.nan]))
        >>> found.n, found.undefined, found.mean
        (3, 1, 0.25)
    """

    n: int
    undefined: int
    mean: float
    std: float
    q25: float
    median: float
    q75: float
    low: float
    high: float
    significant: float | None


@dataclass(frozen=True)
class Summary:
    """Statistics of one test: overall, by predicted class, by largest attention.

    Attributes:
        measure: Name of the test.
        quantity: What the numbers are.
        overall: All instances.
        by_predicted: By predicted class; empty where there is none.
        by_max_attention: By the largest attention weight, four bins.
        notes: Other counts the test reports, by name.

    Examples:
        >>> import torch
        >>> from faithattn import permutation_test
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 3, 0, 0]])
        >>> summary = permutation_test(TextClassifier(9), ids, seed=0).summary()
        >>> summary.quantity, summary.overall.n, summary.overall.undefined
        ('median TVD', 2, 1)
    """

    measure: str
    quantity: str
    overall: Statistics
    by_predicted: Mapping[int, Statistics]
    by_max_attention: Mapping[str, Statistics]
    notes: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers become None."""
        return {
            "measure": self.measure,
            "quantity": self.quantity,
            "overall": _plain(self.overall),
            "by_predicted": {str(key): _plain(value) for key, value in self.by_predicted.items()},
            "by_max_attention": {
                key: _plain(value) for key, value in self.by_max_attention.items()
            },
            "notes": {key: none_if_nan(value) for key, value in self.notes.items()},
        }

    def __str__(self) -> str:
        lines = [f"{self.measure}: {self.quantity}", _HEADER, _line("all", self.overall)]
        lines += [_line(f"predicted {key}", value) for key, value in self.by_predicted.items()]
        lines += [
            _line(f"max attention {key}", value)
            for key, value in self.by_max_attention.items()
            if value.n
        ]
        return "\n".join(lines + [f"{key}: {value:.4g}" for key, value in self.notes.items()])


def describe(
    values: NDArray[np.float64],
    pvalues: NDArray[np.float64] | None = None,
    clusters: Clusters | None = None,
) -> Statistics:
    """Statistics of one group; nan counts as undefined.

    ``clusters`` widens the interval of the mean, as :func:`mean_interval` says, and nothing else.
    """
    defined = ~np.isnan(values)
    kept = values[defined]
    if len(kept) == 0:
        share = None if pvalues is None else math.nan
        nan = math.nan
        return Statistics(len(values), len(values), nan, nan, nan, nan, nan, nan, nan, share)
    share = None if pvalues is None else _share(pvalues[defined])
    with np.errstate(invalid="ignore"):  # infinite values have no spread
        q25, median, q75 = (float(value) for value in np.quantile(kept, [0.25, 0.5, 0.75]))
        std = float(kept.std(ddof=1)) if len(kept) > 1 else math.nan
    low, high = mean_interval(values, clusters=clusters)
    undefined = len(values) - len(kept)
    mean = float(kept.mean())
    return Statistics(len(values), undefined, mean, std, q25, median, q75, low, high, share)


@lru_cache(maxsize=64)
def median_ranks(count: int) -> tuple[int, int]:
    """Places from 0 of the ranked values between which the median lies, at 95 % or more.

    Whatever the distribution: the number of values below its median is
    binomial. Of fewer than six values the smallest and the largest, which
    contain the median less often than that (1 - 2 ** (1 - count)).
    """
    low = max(int(stats.binom.ppf(0.025, count, 0.5)) - 1, 0)
    return low, count - 1 - low


def summarize(
    measure: str,
    quantity: str,
    values: Tensor,
    *,
    predicted: Tensor,
    max_attention: Tensor,
    pvalues: Tensor | None = None,
    notes: Mapping[str, float] | None = None,
) -> Summary:
    """Groups per-instance values and describes every group."""
    data = _array(values)
    significance = None if pvalues is None else _array(pvalues)
    classes, highest = _array(predicted), _array(max_attention)

    def group(chosen: NDArray[np.bool_]) -> Statistics:
        return describe(data[chosen], None if significance is None else significance[chosen])

    bins = np.clip(np.floor(np.nan_to_num(highest, nan=-1.0) * 4), -1, 3)
    return Summary(
        measure,
        quantity,
        group(np.ones(len(data), bool)),
        {int(key): group(classes == key) for key in np.unique(classes) if key >= 0},
        {name: group(bins == index) for index, name in enumerate(ATTENTION_BINS)},
        notes or {},
    )


def none_if_nan(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return None if math.isnan(value) else value


_HEADER = (
    f"{'group':<24}{'n':>6}{'undefined':>11}{'mean':>8}{'std':>7}{'q25':>7}{'median':>8}"
    f"{'q75':>7}{'95 % interval':>17}{'p<=.05':>8}"
)


def _line(name: str, value: Statistics) -> str:
    share = "" if value.significant is None else f"{value.significant:8.2f}"
    return (
        f"{name:<24}{value.n:>6}{value.undefined:>11}{value.mean:>8.3f}{value.std:>7.3f}"
        f"{value.q25:>7.3f}{value.median:>8.3f}{value.q75:>7.3f}"
        f"{value.low:>9.3f}..{value.high:.3f}{share}"
    )


def _plain(value: Statistics) -> dict[str, Any]:
    return {
        key: none_if_nan(each) if isinstance(each, float) else each
        for key, each in asdict(value).items()
    }


def _share(pvalues: NDArray[np.float64]) -> float:
    known = pvalues[~np.isnan(pvalues)]
    return float((known <= SIGNIFICANCE * SLACK).mean()) if len(known) else math.nan


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()
