"""Merging near-ties before tau."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from rank_cases import INF, LEVELS, assert_same, draw_pair, garbage, scipy_tau

from faithattn.measures.rank import kendall_tau, rank_correlation


def merged(values: list[float], tolerance: float) -> list[int]:
    """Ranks of values whose sorted neighbours tie when at most the tolerance apart."""
    ascending = sorted(values)
    rank, ranks = 0, {ascending[0]: 0}
    for low, high in itertools.pairwise(ascending):
        rank += high - low > tolerance
        ranks[high] = rank
    return [ranks[value] for value in values]


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.02, 0.1])
def test_near_ties_are_merged_before_scipy(tolerance: float) -> None:
    x, y = draw_pair(40, None, seed=5)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    expected = []
    for a, b, keep in zip(x, y, mask, strict=True):
        ranks = [torch.tensor([merged(row[keep].tolist(), tolerance)]) for row in (a, b)]
        expected.append(scipy_tau(*ranks))
    result = rank_correlation(*garbage(x, y, mask), mask=mask, tie_tolerance=tolerance)
    assert_same(result, torch.cat(expected))


def test_a_chain_of_neighbours_is_one_tie_and_nothing_is_rounded() -> None:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    # 0 .. .75 in steps of .25: ends farther apart than the tolerance, yet tied.
    chain = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    assert rank_correlation(chain, y, tie_tolerance=0.25).statistic.isnan()
    assert rank_correlation(chain, y, tie_tolerance=0.24).statistic == 1
    # A grid of .25 would put .24 and .26 in different cells.
    straddling = torch.tensor([0.0, 0.51, 0.49, 1.0], dtype=torch.float64)
    tied = rank_correlation(straddling, y, tie_tolerance=0.25)
    assert_same([value[None] for value in tied], scipy_tau(torch.tensor([[0, 1, 1, 2]]), y[None]))


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_zero_tolerance_is_kendall_tau_exactly(dtype: torch.dtype, levels: int | None) -> None:
    x, y = (part.to(dtype) for part in draw_pair(70, levels, seed=2))
    x[3, 2], y[4, 5], x[5, :2] = INF, -INF, torch.tensor([1e-320, 0.0])
    for tolerance in (0, 0.0, (0, 0.0)):
        result = rank_correlation(x, y, tie_tolerance=tolerance)
        for ours, exact in zip(result, kendall_tau(x, y), strict=True):
            torch.testing.assert_close(ours, exact, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_auto_is_relative_to_the_largest_real_value(scale: float) -> None:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    x = scale * torch.tensor([-1.0, 0.0, 0.9e-6, 1e9], dtype=torch.float64)
    mask = torch.tensor([True, True, True, False])
    tied = scipy_tau(torch.tensor([[0, 1, 1]]), y[None, :3])
    assert_same([value[None] for value in rank_correlation(x, y, mask=mask)], tied)
    assert_same([value[None] for value in rank_correlation(y, x, mask=mask)], tied)
    x[2] = scale * 1.1e-6
    assert rank_correlation(x, y, mask=mask).statistic == 1


def test_auto_takes_the_largest_finite_value() -> None:
    x = torch.tensor([-INF, 0.0, 0.1, 1.0, INF])
    assert rank_correlation(x, torch.arange(5.0)).statistic == 1


def test_a_pair_gives_each_input_its_tolerance() -> None:
    x = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)
    y = torch.tensor([0.0, 1e-7, 1.0], dtype=torch.float64)

    def tau(*tolerance: float | str) -> float:
        return rank_correlation(x, y, tie_tolerance=tolerance).statistic.item()

    one_tied = 2 / math.sqrt(6)
    assert tau(0, 0) == tau("auto", 0) == 1
    assert tau(0.2, "auto") == pytest.approx(1)  # the same pair is tied in both
    for tolerance in ((0.2, 0), (0, 0.2), (0, "auto"), ("auto", "auto")):
        assert tau(*tolerance) == pytest.approx(one_tied, rel=1e-12)
