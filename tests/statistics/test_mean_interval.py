"""Intervals of a mean against SciPy's bootstrap, plain loops and many more resamples."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithattn.statistics import bootstrap, describe, mean_bound, mean_interval
from faithattn.statistics.values import sample_of

GENERATOR = np.random.default_rng(0)
DRAWS = {
    "normal": lambda size: GENERATOR.normal(0.3, 0.2, size),
    "skewed": lambda size: GENERATOR.exponential(1.0, size),
    "zeros": lambda size: np.where(GENERATOR.random(size) < 0.6, 0, GENERATOR.random(size)),
    "rare": lambda size: np.where(GENERATOR.random(size) < 0.98, 0, GENERATOR.random(size)),
    "share": lambda size: (GENERATOR.random(size) < 0.3) * 1.0,
}


def from_scipy(sets: list[np.ndarray], confidence: float = 0.95) -> tuple[float, float]:
    def statistic(*parts: np.ndarray, axis: int) -> np.ndarray:
        means = [part.mean(axis) for part in parts]
        return means[0] - means[1] if len(means) > 1 else means[0]

    found = stats.bootstrap(
        sets,
        statistic,
        n_resamples=bootstrap.RESAMPLES,
        confidence_level=confidence,
        batch=2**21 // max(map(len, sets)),
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def by_loops(values: np.ndarray, numbers: np.ndarray, confidence: float) -> tuple[float, float]:
    """BCa over whole clusters, one resample and one cluster at a time, with Student's quantile."""
    clusters = [values[numbers == each] for each in np.unique(numbers)]
    count, mean = len(clusters), values.mean()
    generator = np.random.default_rng(0)
    means = []
    for _ in range(bootstrap.RESAMPLES):
        picked = generator.integers(0, count, count)
        means.append(np.concatenate([clusters[place] for place in picked]).mean())
    pulls = np.array([(each - mean).sum() * count / len(values) for each in clusters])
    left = [np.concatenate(clusters[:i] + clusters[i + 1 :]).mean() for i in range(count)]
    error = math.sqrt((count - 1) / count * sum((each - np.mean(left)) ** 2 for each in left))
    quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
    quantile *= error / math.sqrt((pulls**2).sum() / count**2)
    acceleration = (pulls**3).sum() / 6 / (pulls**2).sum() ** 1.5
    # Two orders of summation differ in the last digit; a resample that equals the mean is a tie.
    rounded, middle = np.round(means, 12), round(float(mean), 12)
    bias = stats.norm.ppf((np.mean(rounded < middle) + np.mean(rounded <= middle)) / 2)
    ends = []
    for sign in (-1, 1):
        place = bias + sign * quantile
        ends.append(stats.norm.cdf(bias + place / (1 - acceleration * place)))
    return tuple(np.quantile(means, ends))


@pytest.mark.parametrize("name", ["normal", "skewed", "zeros", "share"])
@pytest.mark.parametrize("size", [50, 90, 500])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_agrees_with_scipy_where_resamples_are_drawn(
    name: str, size: int, confidence: float
) -> None:
    values = DRAWS[name](size)
    found = mean_interval(values, confidence=confidence)
    assert found == pytest.approx(from_scipy([values], confidence), abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 8, 49])
def test_few_values_have_the_quantiles_of_student(size: int) -> None:
    values = DRAWS["skewed"](size)
    expected = by_loops(values, np.arange(size), 0.95)
    assert mean_interval(values) == pytest.approx(expected, abs=1e-12)
    low, high = from_scipy([values])
    assert mean_interval(values)[1] >= high and mean_interval(values)[0] <= low


@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_whole_clusters_are_drawn(count: int, confidence: float) -> None:
    numbers = np.repeat(np.arange(count), GENERATOR.integers(1, 9, count))
    values = GENERATOR.exponential(1.0, len(numbers)) + GENERATOR.normal(size=count)[numbers]
    found = mean_interval(values, clusters=numbers, confidence=confidence)
    assert found == pytest.approx(by_loops(values, numbers, confidence), abs=1e-12)


def test_few_clusters_have_the_interval_of_student() -> None:
    numbers = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    values = GENERATOR.normal(size=10)
    left = [values[numbers != each].mean() for each in range(4)]
    error = math.sqrt(3 / 4 * sum((each - np.mean(left)) ** 2 for each in left))
    expected = stats.t.interval(0.9, 3, values.mean(), error)
    found = mean_interval(values, clusters=numbers, confidence=0.9)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["skewed", "rare"])
def test_computed_quantiles_are_closer_than_resamples_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = DRAWS[name](2000)
    computed = np.array(mean_interval(values))
    monkeypatch.setattr(bootstrap, "MANY", 10**9)
    drawn = np.array(mean_interval(values))
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40_000)
    reference = np.array(mean_interval(values))
    error = stats.sem(values)
    assert np.abs(computed - reference).max() < 0.05 * error  # 40,000 resamples: .02
    assert (drawn != computed).any() and np.abs(drawn - reference).max() < 0.4 * error


def test_many_clusters_are_computed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    numbers = np.repeat(np.arange(2500), generator.integers(1, 9, 2500))
    values = generator.exponential(1.0, len(numbers)) + generator.normal(size=2500)[numbers]
    computed = np.array(mean_interval(values, clusters=numbers))
    monkeypatch.setattr(bootstrap, "MANY", 10**9)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40_000)
    reference = np.array(mean_interval(values, clusters=numbers))
    # In standard errors; 10,000 resamples are off by .05 themselves.
    assert np.abs(computed - reference).max() < 0.05 * np.diff(reference) / 3.92


def test_a_mean_that_few_values_carry_is_resampled_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.zeros(20_000)
    values[:8] = 1
    tracemalloc.start()
    found = mean_interval(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    counts = np.array(found) * 20_000
    expected = stats.poisson.interval(0.95, 8)
    assert counts == pytest.approx(expected, abs=2)
    assert peak < 80e6  # all resamples together are 320 MB
    monkeypatch.setattr(bootstrap, "_NEARLY_NORMAL", 1.0)
    assert mean_interval(values) != found


def test_names_of_clusters_do_not_matter() -> None:
    values, numbers = DRAWS["normal"](60), np.arange(60) % 20
    expected = mean_interval(values, clusters=numbers)
    assert mean_interval(values, clusters=[f"{each:02d}" for each in numbers]) == expected
    assert mean_interval(torch.tensor(values), clusters=torch.tensor(numbers) + 7) == expected
    alone = np.arange(60)
    assert mean_interval(values, clusters=alone) == mean_interval(values)
    assert mean_interval(values, clusters=np.full(60, -1)) == mean_interval(values)
    mixed, numbered = numbers.copy(), numbers.copy()
    mixed[40:], numbered[40:] = -1, np.arange(20) + 100
    found = mean_interval(values, clusters=mixed)
    assert found == mean_interval(values, clusters=numbered) != expected


def test_undefined_values_are_left_out() -> None:
    values, numbers = DRAWS["normal"](60), np.arange(60) // 4
    values[::5], values[numbers == 3] = np.nan, np.nan
    known = ~np.isnan(values)
    assert mean_interval(values) == mean_interval(values[known])
    expected = mean_interval(values[known], clusters=numbers[known])
    assert mean_interval(values, clusters=numbers) == expected
    found = describe(values, clusters=numbers)
    assert (found.low, found.high) == expected
    assert found.mean == describe(values).mean and found.n == 60


def test_clusters_that_hold_all_variance_count_as_one_value_each() -> None:
    one = DRAWS["normal"](12)
    low, high = mean_interval(np.repeat(one, 5), clusters=np.repeat(np.arange(12), 5))
    assert (low, high) == pytest.approx(mean_interval(one), abs=1e-12)


def test_too_little_to_tell() -> None:
    for found in (
        mean_interval([]),
        mean_interval([0.5]),
        mean_interval([np.nan, 0.5]),
        mean_interval([0.1, 0.5], clusters=[1, 1]),
    ):
        assert all(map(math.isnan, found))
    assert math.isnan(mean_bound([0.5]))
    assert mean_interval([0.5] * 6, clusters=[0, 0, 1, 1, 2, 2]) == (0.5, 0.5)
    assert mean_interval([0, 1, 0, 1], clusters=[0, 0, 1, 1]) == (0.5, 0.5)


@pytest.mark.parametrize("size", [12, 100])
def test_bounds_are_ends(size: int) -> None:
    values = DRAWS["skewed"](size)
    low, high = mean_interval(values, confidence=0.9)
    assert (mean_bound(values), mean_bound(values, "upper")) == (low, high)
    assert mean_bound(values, confidence=0.99) < low < high


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(-50, 50), min_size=2, max_size=40),
    scale=st.sampled_from([0.25, 8.0]),
    shift=st.integers(-9, 9),
)
def test_intervals_follow_the_unit_and_stay_in_the_range(
    values: list[int], scale: float, shift: int
) -> None:
    given_values = np.array(values, float)
    low, high = mean_interval(given_values)
    assert min(values) <= low <= high <= max(values)
    moved = mean_interval(scale * given_values + shift)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-9)
    mirrored = mean_interval(-given_values)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


def test_two_samples_agree_with_scipy() -> None:
    sets = [DRAWS["skewed"](70), DRAWS["normal"](40)]
    found = bootstrap.interval([sample_of(each) for each in sets], 0.95)
    freedom = stats.ttest_ind(*sets, equal_var=False).df
    error, plugged = (math.hypot(*(stats.sem(each, ddof=d) for each in sets)) for d in (1, 0))
    quantile = stats.t.isf(0.025, freedom) * error / plugged
    widened = 1 - 2 * stats.norm.sf(quantile)
    assert 0.95 < widened < 0.96
    assert found == pytest.approx(from_scipy(sets, widened), abs=1e-12)


def test_extreme_confidence_of_few_values_ends_at_the_values() -> None:
    values = np.array([0.0, 0, 0, 0, 1])
    low, high = mean_interval(values, confidence=0.999)
    assert 0 <= low <= 0.2 <= high <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, r"confidence must be above 0 and below 1; got 1\.0"),
        ({"confidence": math.nan}, "confidence must be above 0 and below 1; got nan"),
        ({"clusters": [1, 2]}, r"clusters must name the cluster of each of the 3 values; got .*2"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval([0.1, 0.2, 0.3], **options)


def test_bad_values_and_sides() -> None:
    with pytest.raises(ValueError, match=r"values must have one dimension; got the shape \(1, 2\)"):
        mean_interval([[0.1, 0.2]])
    with pytest.raises(ValueError, match='side must be "lower" or "upper"; got \'left\''):
        mean_bound([0.1, 0.2], "left")
    with pytest.raises(ValueError, match=r"confidence must be above 0\.5 and below 1; got 0\.4"):
        mean_bound([0.1, 0.2], confidence=0.4)
