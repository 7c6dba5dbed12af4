"""What a summary says of a share of instances."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor


def share_interval(flags: Tensor) -> tuple[float, float]:
    """95 % Wilson interval of the share of ones among the defined flags ``(B,)``."""
    known = flags[~flags.isnan()]
    if len(known) == 0:
        return math.nan, math.nan
    found = stats.binomtest(round(float(known.sum())), len(known)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def chance_of_as_few(flags: Tensor, chance: Tensor) -> float:
    """Probability of no more ones than there are, if each came with its own chance.

    The exact lower tail of the Poisson binomial distribution; instances with a
    nan are left out.
    """
    known = ~(flags.isnan() | chance.isnan())
    if not known.any():
        return math.nan
    probabilities: NDArray[np.float64] = chance[known].double().cpu().numpy().clip(0, 1)
    distribution = np.ones(1)
    for each in probabilities:
        distribution = np.convolve(distribution, (1 - each, each))
    return float(distribution[: round(float(flags[known].sum())) + 1].sum().clip(0, 1))
