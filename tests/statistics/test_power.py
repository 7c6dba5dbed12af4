"""The detectable effect against SciPy's power by simulation and an integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from faithattn.statistics import design_effect, mean_interval, minimum_detectable_effect
from faithattn.statistics.values import sample_of

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("size", [2, 5, 20, 200, 100_000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.99])
def test_the_t_test_has_that_power(size: int, power: float) -> None:
    effect = minimum_detectable_effect(spread=0.4, n=size, power=power, level=0.01)
    critical = stats.t.isf(0.005, size - 1)
    distance = effect / 0.4 * math.sqrt(size)
    # Given the estimated spread, the statistic is normal: averaged over its quantiles.
    levels = (np.arange(20_000) + 0.5) / 20_000
    bounds = critical * np.sqrt(stats.chi2.ppf(levels, size - 1) / (size - 1))
    found = stats.norm.sf(bounds - distance) + stats.norm.cdf(-bounds - distance)
    assert found.mean() == pytest.approx(power, abs=1e-4)


@pytest.mark.parametrize("size", [8, 60])
def test_the_t_test_finds_it_as_often(size: int) -> None:
    effect = minimum_detectable_effect(spread=2.0, n=size)
    rvs = stats.norm(effect, 2.0).rvs
    generator = np.random.default_rng(1)

    def draw(size: tuple[int, ...]) -> np.ndarray:
        return rvs(size=size, random_state=generator)

    found = stats.power(
        lambda values, axis: stats.ttest_1samp(values, 0, axis=axis).pvalue,
        draw, size, significance=0.05, vectorized=True, n_resamples=20_000,
    )  # fmt: skip
    assert found.power == pytest.approx(0.8, abs=0.012)  # four standard errors


def test_values_stand_for_their_spread_and_number() -> None:
    values = GENERATOR.normal(5, 3, 50)
    expected = minimum_detectable_effect(spread=values.std(ddof=1), n=50)
    assert minimum_detectable_effect([*values, math.nan]) == pytest.approx(expected, rel=1e-9)


def test_copies_in_a_cluster_tell_nothing_new() -> None:
    one = GENERATOR.normal(0, 1, 15)
    values, clusters = np.repeat(one, 4), np.repeat(np.arange(15), 4)
    expected = minimum_detectable_effect(one)
    assert minimum_detectable_effect(values, clusters=clusters) == pytest.approx(expected)
    assert minimum_detectable_effect(values) < expected / 1.9
    assert design_effect(values, clusters) == pytest.approx(4 * (59 / 60) / (14 / 15))
    assert design_effect(values, np.arange(60)) == 1


def test_the_error_of_clusters_is_that_of_leaving_one_out() -> None:
    clusters = np.repeat(np.arange(9), GENERATOR.integers(1, 7, 9))
    values = GENERATOR.normal(size=len(clusters))
    left = [values[clusters != each].mean() for each in range(9)]
    expected = math.sqrt(8 / 9 * sum((each - np.mean(left)) ** 2 for each in left))
    assert sample_of(values, clusters).spread == pytest.approx(expected, rel=1e-9)
    low, high = mean_interval(values, clusters=clusters)
    assert high - low == pytest.approx(2 * expected * stats.t.isf(0.025, 8), rel=1e-9)


def test_limits() -> None:
    assert math.isnan(minimum_detectable_effect([0.3]))
    assert math.isnan(minimum_detectable_effect([0.3, 0.4], clusters=[0, 0]))
    assert math.isnan(minimum_detectable_effect(spread=1.0, n=1))
    assert minimum_detectable_effect([0.3] * 4) == 0
    assert minimum_detectable_effect(spread=1.0, n=5, power=0.04, level=0.05) == 0
    assert math.isnan(design_effect([1, 2], [0, 0])) and math.isnan(design_effect([1, 1], [0, 1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "values must be given alone or with clusters, or spread and n in their place"),
        ({"spread": 1.0}, "values must be given alone"),
        ({"values": [1, 2], "n": 2}, "values must be given alone"),
        ({"spread": 1.0, "n": 4, "clusters": [0]}, "values must be given alone"),
        ({"spread": -1.0, "n": 4}, r"spread must be at least 0; got -1\.0"),
        ({"spread": math.nan, "n": 4}, "spread must be at least 0; got nan"),
        ({"spread": 1.0, "n": 0}, "n must be at least 1; got 0"),
        ({"values": [1, 2], "power": 1}, "power must be above 0 and below 1; got 1"),
        ({"values": [1, 2], "level": 0}, "level must be above 0 and below 1; got 0"),
    ],
)
def test_bad_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        minimum_detectable_effect(**options)
