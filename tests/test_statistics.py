"""Summaries against NumPy and SciPy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from faithattn.statistics import (
    ATTENTION_BINS,
    Statistics,
    Summary,
    describe,
    mean_interval,
    median_ranks,
    null_spread,
    summarize,
)

GENERATOR = np.random.default_rng(0)
VALUES = GENERATOR.normal(0.3, 0.2, 200)


def with_undefined() -> np.ndarray:
    values = VALUES.copy()
    values[::7] = np.nan
    return values


def test_agrees_with_numpy() -> None:
    values = with_undefined()
    found = describe(values)
    assert (found.n, found.undefined) == (200, int(np.isnan(values).sum()))
    assert found.mean == pytest.approx(np.nanmean(values))
    assert found.std == pytest.approx(np.nanstd(values, ddof=1))
    for value, share in ((found.q25, 25), (found.median, 50), (found.q75, 75)):
        assert value == pytest.approx(np.nanpercentile(values, share))
    assert found.significant is None


def test_interval_agrees_with_the_normal_one() -> None:
    low, high = mean_interval(VALUES)
    expected = stats.norm.interval(0.95, VALUES.mean(), VALUES.std(ddof=1) / math.sqrt(200))
    assert (low, high) == pytest.approx(expected, abs=0.006)
    assert mean_interval(VALUES) == (low, high)


@pytest.mark.parametrize("count", [6, 7, 30, 100, 1001])
def test_ranks_of_the_median_are_the_innermost_that_reach_95_percent(count: int) -> None:
    low, high = median_ranks(count)
    assert high == count - 1 - low
    values = np.arange(float(count))
    expected = stats.quantile_test(values, q=count / 2, p=0.5).confidence_interval(0.95)
    assert (low, high) == (expected.low, expected.high)
    inside = [1 - 2 * stats.binom.cdf(rank, count, 0.5) for rank in (low, low + 1)]
    assert inside[0] >= 0.95 > inside[1]


def test_ranks_of_few_values_are_the_outermost() -> None:
    assert [median_ranks(count) for count in range(1, 6)] == [(0, n) for n in range(5)]


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).exponential(1.0, (100, 40))
    inside = [low <= 1 <= high for low, high in map(mean_interval, draws)]
    assert 0.86 <= np.mean(inside) <= 0.99


@pytest.mark.parametrize("size", [2, 3, 5, 40, 3000])
@pytest.mark.parametrize("base", [0.0, 0.3, -0.7, 1.0])
@pytest.mark.parametrize("noise", [0.0, 1e-17, 2.3e-16, 1e-15, 1e-9])
def test_intervals_of_nearly_equal_values(size: int, base: float, noise: float) -> None:
    values = np.full(size, base)
    values[-1] += noise
    low, high = mean_interval(values)
    assert low <= high
    assert low <= values.mean() + 1e-15 and values.mean() <= high + 1e-15
    assert high - low <= noise + 1e-15


def test_undefined_and_single_values() -> None:
    empty, none, one = describe(np.array([])), describe(np.full(3, np.nan)), describe(np.ones(1))
    assert (empty.n, empty.undefined, none.n, none.undefined) == (0, 0, 3, 3)
    for found in (empty, none):
        values = (found.mean, found.std, found.q25, found.median, found.q75, found.low, found.high)
        assert all(math.isnan(value) for value in values)
    assert (one.mean, one.median) == (1, 1)
    assert all(math.isnan(value) for value in (one.std, one.low, one.high))


def test_significance_counts_the_defined() -> None:
    values = np.array([0.1, np.nan, 0.3, 0.4])
    pvalues = np.array([0.05, np.nan, 0.051, 0.01])
    assert describe(values, pvalues).significant == pytest.approx(2 / 3)
    assert math.isnan(describe(values, np.full(4, np.nan)).significant or 0.0)
    assert math.isnan(describe(values * np.nan, pvalues).significant or 0.0)


@pytest.mark.parametrize("length", [4, 20])
def test_null_spread_is_the_spread_of_independent_rankings(length: int) -> None:
    taus = [
        stats.kendalltau(GENERATOR.permutation(length), np.arange(length)).statistic
        for _ in range(1500)
    ]
    assert null_spread(length) == pytest.approx(np.std(taus), rel=0.06)
    assert math.isnan(null_spread(1)) and math.isnan(null_spread(0))


def test_null_spread_of_two_and_three_by_hand() -> None:
    assert null_spread(2) == pytest.approx(1)
    assert null_spread(3) == pytest.approx(math.sqrt(22 / 54))


def example(pvalues: torch.Tensor | None = None) -> Summary:
    highest = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.74, 0.75, 1.0, math.nan])
    return summarize(
        "test", "value", torch.arange(8.0),
        predicted=torch.tensor([0, 0, 0, 1, 1, 1, -1, -1]),
        max_attention=highest, pvalues=pvalues, notes={"odd ones": 2.0},
    )  # fmt: skip


def test_groups() -> None:
    summary = example()
    assert list(summary.by_max_attention) == list(ATTENTION_BINS)
    assert [group.n for group in summary.by_max_attention.values()] == [2, 1, 2, 2]
    assert {key: group.mean for key, group in summary.by_predicted.items()} == {0: 1.0, 1: 4.0}
    assert summary.overall.n == 8


def test_rounding_above_one_stays_in_the_last_bin() -> None:
    summary = summarize(
        "test", "value", torch.zeros(1), predicted=torch.zeros(1).long(),
        max_attention=torch.tensor([1 + 1e-6]),
    )  # fmt: skip
    assert summary.by_max_attention["[.75,1]"].n == 1


def test_plain_values_are_json_without_nan() -> None:
    plain = example(torch.full((8,), math.nan)).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert plain["overall"]["significant"] is None
    assert plain["by_predicted"]["1"]["mean"] == 4.0
    assert plain["by_max_attention"]["[.25,.5)"]["std"] is None
    assert plain["notes"] == {"odd ones": 2.0}
    assert set(plain["overall"]) == set(Statistics.__dataclass_fields__)


def test_table() -> None:
    lines = str(example(torch.full((8,), 0.01))).splitlines()
    assert lines[0] == "test: value"
    assert lines[1].split()[:3] == ["group", "n", "undefined"]
    assert lines[2].split()[:4] == ["all", "8", "0", "3.500"]
    assert [line.split()[0] for line in lines[3:5]] == ["predicted"] * 2
    assert lines[-1] == "odd ones: 2"
    assert lines[2].split()[-1] == "1.00"
    assert len({len(line) for line in lines[2:9] if "nan" not in line}) == 1


def test_half_precision_and_gradients_are_taken_as_they_come() -> None:
    values = torch.tensor([0.5, 1.0], dtype=torch.bfloat16, requires_grad=True)
    summary = summarize(
        "test", "value", values, predicted=torch.zeros(2).long(), max_attention=values
    )
    assert summary.overall.mean == 0.75
