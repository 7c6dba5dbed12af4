"""Cornish and Fisher's expansion against distributions with known cumulants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from faithattn.statistics.moments import cornish_fisher, cumulants_of_mean

LEVELS = (0.005, 0.025, 0.2, 0.5, 0.9, 0.975)


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_of_a_skewed_sum(level: float) -> None:
    errors = []
    for shape in (100, 400):
        expected = (stats.gamma.ppf(level, shape) - shape) / shape**0.5
        cumulants = (2 / shape**0.5, 6 / shape, 24 / shape**1.5)
        errors.append(abs(cornish_fisher(stats.norm.ppf(level), *cumulants) - expected))
    # What is left out is of the order 1 / shape ** 2: a sixteenth at four times the shape.
    assert errors[0] < 4e-4 and errors[1] < max(errors[0] / 12, 1e-7)


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_of_a_symmetric_sum(level: float) -> None:
    expected = (stats.irwinhall.ppf(level, 8) - 4) / (8 / 12) ** 0.5
    found = cornish_fisher(stats.norm.ppf(level), 0.0, -1.2 / 8, 0.0, 48 / 7 / 64)
    assert found == pytest.approx(expected, abs=1e-3)


def test_cumulants_of_the_mean_of_every_resample() -> None:
    deviations = np.array([-1.0, -0.5, 1.5])
    means = [sum(each) / 3 for each in np.stack(np.meshgrid(*[deviations] * 3), -1).reshape(-1, 3)]
    moments = [np.mean(np.power(means, order)) for order in range(6)]
    expected = [
        moments[2],
        moments[3],
        moments[4] - 3 * moments[2] ** 2,
        moments[5] - 10 * moments[3] * moments[2],
    ]
    np.testing.assert_allclose(cumulants_of_mean(deviations), expected, atol=1e-12)
