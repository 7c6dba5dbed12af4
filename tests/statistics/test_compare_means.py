"""Differences of means against SciPy and double loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from faithattn.statistics import (
    compare_means,
    describe,
    mean_interval,
    mean_pvalue,
    minimum_detectable_effect,
)

GENERATOR = np.random.default_rng(0)
A = GENERATOR.exponential(1.0, 50)
B = np.where(GENERATOR.random(50) < 0.3, A, A * GENERATOR.uniform(0.5, 1.3, 50))


def test_pairs_are_their_differences() -> None:
    found = compare_means(A, B, paired=True, confidence=0.9)
    apart = A - B
    assert (found.low, found.high) == mean_interval(apart, confidence=0.9)
    assert found.pvalue == mean_pvalue(apart)
    assert found.mean == pytest.approx(apart.mean())
    approximate = apart.mean() / apart.std(ddof=1) * (1 - 3 / (4 * 49 - 1))
    assert found.effect == pytest.approx(approximate, rel=1e-4)
    shares = [1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in apart]
    assert found.superiority == pytest.approx(np.mean(shares))
    assert found.delta == pytest.approx(2 * np.mean(shares) - 1)
    assert (found.n, found.undefined, found.paired) == (50, 0, True)
    assert sum(share == 0.5 for share in shares) > 5


def test_sets_of_different_instances() -> None:
    first, second = A.round(1), GENERATOR.normal(0.5, 2, 30).round(1)
    found = compare_means(first, second, paired=False)
    loops = np.mean([[(x > y) + (x == y) / 2 for y in second] for x in first])
    assert found.superiority == pytest.approx(loops)
    pooled = math.sqrt((49 * first.var(ddof=1) + 29 * second.var(ddof=1)) / 78)
    hedges = math.gamma(39) / math.gamma(38.5) / math.sqrt(39)
    assert found.effect == pytest.approx((first.mean() - second.mean()) / pooled * hedges)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert found.low < found.mean < found.high
    welch = stats.ttest_ind(first, second, equal_var=False)
    interval = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.15)
    assert found.pvalue == pytest.approx(welch.pvalue, abs=0.05)
    assert (found.n, found.undefined, found.paired) == (80, 0, False)


def test_the_other_way_round() -> None:
    for paired in (True, False):
        found, other = compare_means(A, B, paired=paired), compare_means(B, A, paired=paired)
        assert other.mean == pytest.approx(-found.mean)
        assert other.effect == pytest.approx(-found.effect)
        assert other.pvalue == pytest.approx(found.pvalue)
        assert other.superiority == pytest.approx(1 - found.superiority)
        assert other.low == pytest.approx(-found.high, abs=0.06 if not paired else 1e-12)


def test_a_pair_with_a_nan_is_undefined() -> None:
    first, second = A.copy(), B.copy()
    first[:3], second[2:5] = np.nan, np.nan
    found = compare_means(first, second, paired=True)
    assert (found.n, found.undefined) == (45, 5)
    assert found.mean == pytest.approx((A - B)[5:].mean())
    apart = compare_means(first, second, paired=False)
    assert (apart.n, apart.undefined) == (94, 6)
    assert apart.mean == pytest.approx(np.nanmean(first) - np.nanmean(second))


def test_clusters_of_pairs_and_of_sets() -> None:
    clusters = np.arange(50) // 4
    found = compare_means(A, B, paired=True, clusters=clusters)
    assert (found.low, found.high) == mean_interval(A - B, clusters=clusters)
    assert found.pvalue == mean_pvalue(A - B, clusters=clusters)
    copies = compare_means(
        np.repeat(A, 3), np.repeat(B, 2), paired=False,
        clusters=(np.repeat(np.arange(50), 3), np.repeat(np.arange(50), 2)),
    )  # fmt: skip
    single = compare_means(A, B, paired=False)
    assert copies.pvalue == pytest.approx(single.pvalue)
    assert copies.high - copies.low == pytest.approx(single.high - single.low, rel=0.05)


def test_large_sets_are_compared_at_once() -> None:
    first, second = GENERATOR.exponential(1, 4000), GENERATOR.normal(0.9, 1, 3000)
    found = compare_means(first, second, paired=False)
    error = math.hypot(stats.sem(first), stats.sem(second))
    expected = stats.norm.interval(0.95, found.mean, error)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.1 * error)


@pytest.mark.parametrize("few", [3, 8, 60])
def test_few_values_beside_very_many(few: int) -> None:
    generator = np.random.default_rng(few)
    several, many = generator.normal(2, 1, few), generator.random(200_000)
    found = compare_means(several, many, paired=False)
    welch = stats.ttest_ind(several, many, equal_var=False).confidence_interval()
    assert found.low < found.mean < found.high
    width = welch.high - welch.low
    assert 0.35 * width < found.high - found.low <= 1.1 * width
    # No mean of a resample is farther out than the outermost value.
    assert found.low >= several.min() - many.mean() - 0.01 * width
    other = compare_means(many, several, paired=False)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low), abs=0.15 * width)


def test_infinite_values_have_no_interval() -> None:
    for paired in (True, False):
        found = compare_means([1.0, 2.0, math.inf, math.inf], [0.5, 1, 1, math.inf], paired=paired)
        numbers = (found.low, found.high, found.pvalue, found.effect)
        assert all(map(math.isnan, numbers))
    values = [0.1, math.inf, 0.3]
    assert all(map(math.isnan, mean_interval(values)))
    assert math.isnan(mean_pvalue(values)) and math.isnan(minimum_detectable_effect(values))
    described = describe(np.array(values))
    assert described.mean == math.inf and math.isnan(described.std) and math.isnan(described.low)


def test_values_too_small_for_powers_of_them_are_constant() -> None:
    assert mean_interval([1e-170, 2e-170, 3e-170]) == (1e-170, 3e-170)
    assert mean_pvalue([1e-170, 2e-170, 3e-170]) == 0.25


def test_nothing_that_differs_and_nothing_at_all() -> None:
    same = compare_means(A, A, paired=True)
    assert (same.mean, same.low, same.high, same.pvalue, same.superiority) == (0, 0, 0, 1, 0.5)
    assert math.isnan(same.effect)
    for paired in (True, False):
        none = compare_means([math.nan], [1.0], paired=paired)
        numbers = (none.mean, none.low, none.high, none.pvalue, none.effect, none.superiority)
        assert all(map(math.isnan, numbers)) and none.undefined == 1
        two = compare_means([1.0, 2.0], [0.5, 0.7], paired=paired)
        assert two.mean == pytest.approx(0.9)
    constant = compare_means([1.0] * 4, [0.5] * 3, paired=False)
    assert (constant.low, constant.high, constant.superiority) == (0.5, 0.5, 1)
    assert constant.pvalue == 1 / 4 and math.isnan(constant.effect)


def test_the_correction_for_few_values_is_unbiased() -> None:
    draws = np.random.default_rng(2).normal(0.7, 1, (4000, 6))
    effects = [compare_means(each, np.zeros(6), paired=True).effect for each in draws[:40]]
    raw = draws.mean(1) / draws.std(1, ddof=1)
    factor = special.gamma(2.5) / special.gamma(2) / math.sqrt(2.5)
    assert effects == pytest.approx(list(raw[:40] * factor))
    assert raw.mean() * factor == pytest.approx(0.7, abs=0.03)
    assert raw.mean() > 0.79


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"b must have a partner for each .* of a; got 50 and 49"):
        compare_means(A, B[1:], paired=True)
    with pytest.raises(ValueError, match=r"clusters must be a pair, .*; got 50 of them"):
        compare_means(A, B, paired=False, clusters=np.arange(50))
    with pytest.raises(ValueError, match=r"b must have one dimension; got the shape \(50, 1\)"):
        compare_means(A, B[:, None], paired=True)
    with pytest.raises(ValueError, match="confidence must be above 0 and below 1"):
        compare_means(A, B, paired=True, confidence=2)
