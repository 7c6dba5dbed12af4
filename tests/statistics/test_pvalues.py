"""P-values of means against SciPy's t tests, and the correction against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faithattn.statistics import benjamini_hochberg, mean_pvalue
from faithattn.statistics.pvalues import studentised
from faithattn.statistics.values import sample_of

GENERATOR = np.random.default_rng(0)


def symmetric(size: int) -> np.ndarray:
    half = GENERATOR.normal(0, 1, size)
    return np.concatenate([half, -half]) + 0.2


@pytest.mark.parametrize("size", [3, 20, 2000])
def test_without_skewness_it_is_the_t_test(size: int) -> None:
    values = symmetric(size)
    for against in (0.0, 0.25, -1.0):
        expected = stats.ttest_1samp(values, against).pvalue
        assert mean_pvalue(values, against) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_two_sets_without_skewness_are_the_test_of_welch() -> None:
    first, second = symmetric(9), 3 * symmetric(20)
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    found = studentised([sample_of(first), sample_of(second)], 0.0)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_transformation_of_hall_by_hand() -> None:
    values = GENERATOR.exponential(1.0, 30)
    statistic = (values.mean() - 0.8) / stats.sem(values)
    skewness = stats.skew(values) / math.sqrt(30)
    statistic += skewness * (statistic**2 / 3 + 1 / 6) + skewness**2 * statistic**3 / 27
    expected = 2 * stats.t.sf(abs(statistic), 29)
    assert mean_pvalue(values, 0.8) == pytest.approx(expected, rel=1e-9)
    assert mean_pvalue(-values, -0.8) == pytest.approx(expected, rel=1e-9)


def test_equal_clusters_are_the_test_of_their_means() -> None:
    values = GENERATOR.normal(0.3, 1, 60)
    clusters = np.repeat(np.arange(12), 5)
    expected = mean_pvalue(values.reshape(12, 5).mean(1))
    assert mean_pvalue(values, clusters=clusters) == pytest.approx(expected, rel=1e-9)
    assert mean_pvalue(values, clusters=np.arange(60)) == mean_pvalue(values)


def test_values_that_do_not_vary_and_too_few() -> None:
    assert mean_pvalue([0.3] * 5, 0.3) == 1
    assert mean_pvalue([0.3] * 5, 0.1) == 2**-4  # all on one side: the sign test
    assert math.isnan(mean_pvalue([0.3])) and math.isnan(mean_pvalue([math.nan, 1.0]))


def by_definition(pvalues: np.ndarray, level: float) -> np.ndarray:
    """Reject the k smallest, k the last with p_(k) <= k level / n."""
    order = np.argsort(pvalues)
    last = 0
    for rank, place in enumerate(order, start=1):
        if pvalues[place] <= rank * level / len(pvalues):
            last = rank
    rejected = np.zeros(len(pvalues), bool)
    rejected[order[:last]] = True
    return rejected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1).map(lambda p: p**3), min_size=1, max_size=30),
    st.sampled_from([0.0503, 0.2017]),
)
def test_rejects_as_the_definition_says(pvalues: list[float], level: float) -> None:
    rejected, adjusted = benjamini_hochberg(pvalues, level=level)
    np.testing.assert_array_equal(rejected, by_definition(np.array(pvalues), level))
    np.testing.assert_array_equal(rejected, adjusted <= level)
    assert (adjusted >= np.array(pvalues)).all() and (adjusted <= 1).all()


def test_any_shape_is_one_family_without_the_undefined() -> None:
    pvalues = GENERATOR.random((3, 4)) ** 3
    pvalues[1, 2] = np.nan
    rejected, adjusted = benjamini_hochberg(torch.tensor(pvalues))
    known = ~np.isnan(pvalues)
    expected = stats.false_discovery_control(pvalues[known])
    np.testing.assert_allclose(adjusted[known], expected, rtol=1e-12)
    assert rejected.shape == adjusted.shape == (3, 4)
    assert not rejected[1, 2] and np.isnan(adjusted).sum() == 1
    assert 0 < rejected.sum() < 11


def test_nothing_and_nothing_defined() -> None:
    for empty in (np.empty((0, 3)), np.full(2, np.nan)):
        rejected, adjusted = benjamini_hochberg(empty)
        assert not rejected.any() and np.isnan(adjusted).all() and adjusted.shape == empty.shape
    assert benjamini_hochberg(0.01)[0].all()


def test_one_in_twenty_in_single_precision_is_significant() -> None:
    assert benjamini_hochberg(torch.full((3,), 1 / 20, dtype=torch.float32))[0].all()


def test_bad_pvalues() -> None:
    with pytest.raises(ValueError, match=r"pvalues must be between 0 and 1; got -0\.1 to 2"):
        benjamini_hochberg([2.0, -0.1, math.nan])
    with pytest.raises(ValueError, match="level must be above 0 and below 1; got 5"):
        benjamini_hochberg([0.1], level=5)
