"""Chance bands of mean rank correlations against enumeration; bins of lengths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from faithattn.statistics import length_bins, null_band, null_bands_by_length, null_spread
from faithattn.statistics.nulls import _cumulant


def all_taus(length: int) -> np.ndarray:
    order = range(length)
    pairs = list(itertools.combinations(order, 2))
    return np.array(
        [
            sum(1 if each[i] < each[j] else -1 for i, j in pairs) / len(pairs)
            for each in itertools.permutations(order)
        ]
    )


@pytest.mark.parametrize("length", [2, 3, 5, 6])
def test_cumulants_are_those_of_every_permutation(length: int) -> None:
    taus = all_taus(length)
    second, fourth, sixth = ((taus**order).mean() for order in (2, 4, 6))
    assert _cumulant(length, 2) == pytest.approx(second)
    assert _cumulant(length, 2) == pytest.approx(null_spread(length) ** 2)
    assert _cumulant(length, 4) == pytest.approx(fourth - 3 * second**2)
    assert _cumulant(length, 6) == pytest.approx(sixth - 15 * fourth * second + 30 * second**3)


@pytest.mark.parametrize(
    "lengths", [[4, 4, 5], [5, 5, 5, 5], [3, 4, 5, 6], [2, 3, 4, 4, 5], [6, 6, 6]]
)
def test_bands_end_at_the_quantiles_of_all_means(lengths: list[int]) -> None:
    means, weights = np.zeros(1), np.ones(1)
    for length in lengths:
        taus, counts = np.unique(all_taus(length).round(12), return_counts=True)
        sums = (means[:, None] + taus).ravel().round(9)
        means, inverse = np.unique(sums, return_inverse=True)
        weights = np.bincount(inverse, (weights[:, None] * counts / counts.sum()).ravel())
    means /= len(lengths)
    for confidence in (0.8, 0.95):
        low, high = null_band(lengths, confidence=confidence)
        above, inside = weights[means > high + 1e-9].sum(), weights[means >= high - 1e-9].sum()
        tail, step = (1 - confidence) / 2, np.diff(means).max()
        assert low == -high
        # The distribution is discrete: the exact quantile is within a step of the band's end.
        nearest = means[np.cumsum(weights[::-1])[::-1] <= tail + 1e-12].min()
        assert abs(nearest - high) <= step + 0.01
        assert above <= tail + 0.02 and inside >= tail - 0.02


def test_many_instances_are_normal() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 2000)
    error = math.sqrt(sum(null_spread(length) ** 2 for length in lengths)) / 2000
    expected = stats.norm.interval(0.95, 0, error)
    assert null_band(lengths) == pytest.approx(expected, rel=1e-3)


def test_lengths_without_a_tau_are_left_out() -> None:
    assert null_band([5.0, 1, math.nan, 0, 9]) == null_band([5, 9])
    assert all(map(math.isnan, null_band([1, 0, math.nan])))
    assert null_band([2]) == (-1, 1)
    with pytest.raises(ValueError, match="confidence must be above 0 and below 1; got 95"):
        null_band([5], confidence=95)


def test_bins_are_equally_full_and_whole() -> None:
    lengths = np.random.default_rng(0).integers(3, 300, 1001)
    bins = length_bins(lengths)
    places = bins.place(lengths)
    counts = np.bincount(places)
    assert len(bins.labels) == 4 and counts.max() - counts.min() <= 16
    for label, place in zip(bins.labels, range(4), strict=True):
        low, high = map(int, label.split("-"))
        np.testing.assert_array_equal(places == place, (lengths >= low) & (lengths <= high))


def test_few_lengths_have_few_bins_and_none_is_empty() -> None:
    bins = length_bins([7, 7, 7, 9, math.nan])
    assert bins.labels == ("7", "8-9")
    assert bins.place([7, 9, math.nan, 3, 80]).tolist() == [0, 1, -1, 0, 1]
    assert length_bins([7] * 5, 3).labels == ("7",)
    empty = length_bins([math.nan])
    assert empty.labels == () and empty.place([4.0]).tolist() == [-1]
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        length_bins([3, 4], 0)


def test_every_bin_has_its_band() -> None:
    lengths = [4, 4, 5, 30, 31, 40]
    bands = null_bands_by_length(lengths, length_bins(lengths, 2))
    assert bands == {"4-5": null_band([4, 4, 5]), "6-40": null_band([30, 31, 40])}
