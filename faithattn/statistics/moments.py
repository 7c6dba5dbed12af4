"""Quantiles of a distribution that is nearly normal, from its cumulants."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Quantiles = TypeVar("Quantiles", float, NDArray[np.float64])


def cornish_fisher(
    normal: Quantiles, skewness: float, kurtosis: float, fifth: float = 0.0, sixth: float = 0.0
) -> Quantiles:
    """Quantiles in standard deviations, from the normal ones and the standardised cumulants.

    Of cumulants 3 to 6 of a sum of n terms, the orders 1/sqrt(n) to 1/n**2,
    the last only as far as even cumulants go.

    References:
        Cornish and Fisher (1937), "Moments and cumulants in the specification of distributions".
    """
    z, z2 = normal, normal * normal
    first = (z2 - 1) * skewness / 6
    second = z * (z2 - 3) * kurtosis / 24 - z * (2 * z2 - 5) * skewness**2 / 36
    third = (
        (z2 * z2 - 6 * z2 + 3) * fifth / 120
        - (z2 * z2 - 5 * z2 + 2) * skewness * kurtosis / 24
        + (12 * z2 * z2 - 53 * z2 + 17) * skewness**3 / 324
    )
    fourth = (
        z * (z2 * z2 - 10 * z2 + 15) * sixth / 720
        - z * (3 * z2 * z2 - 24 * z2 + 29) * kurtosis**2 / 384
    )
    return z + first + second + third + fourth


def cumulants_of_mean(deviations: np.ndarray) -> np.ndarray:
    """Cumulants 2 to 5 of the mean of as many draws with replacement as there are deviations."""
    count = len(deviations)
    powers = deviations * deviations
    second = powers.mean()
    third = (powers * deviations).mean()
    fourth = (powers * powers).mean()
    fifth = (powers * powers * deviations).mean()
    return np.array(
        [
            second / count,
            third / count**2,
            (fourth - 3 * second**2) / count**3,
            (fifth - 10 * third * second) / count**4,
        ]
    )
