"""Kendall's tau-b and its p-value against SciPy."""

from __future__ import annotations

import itertools

import pytest
import torch
from rank_cases import INF, LEVELS, NAN, assert_same, draw, draw_pair, garbage, scipy_tau

from faithattn.measures.rank import kendall_tau, rank_correlation, top_k_kendall

LENGTHS = [*range(2, 41), 64, 96, 97, 100, 171, 500]


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", LENGTHS)
def test_agrees_with_scipy(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    assert_same(kendall_tau(x, y), scipy_tau(x, y))


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 3, 8, 20, 33, 40, 64, 65, 100, 300])
def test_agrees_with_scipy_on_the_real_positions(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0], mask[1, 1:] = False, False
    filled = garbage(x, y, mask)
    assert_same(kendall_tau(*filled, mask=mask), scipy_tau(x, y, mask))


def test_ties_in_one_input_only() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = draw(30, 90, None, generator), draw(30, 90, 9, generator)
    assert_same(kendall_tau(x, y), scipy_tau(x, y))
    assert_same(kendall_tau(y, x), scipy_tau(y, x))


@pytest.mark.parametrize("levels", [None, 9000])
@pytest.mark.parametrize("length", [4000, 4097, 16_384, 16_385, 40_000, 140_000])
def test_long_rows(length: int, levels: int | None) -> None:
    generator = torch.Generator().manual_seed(length)
    x, y = draw(2, length, levels, generator), draw(2, length, levels, generator)
    y[1] = x[1] + 0.1 * y[1]
    mask = torch.rand(x.shape, generator=generator) < 0.9
    assert_same(kendall_tau(x, y), scipy_tau(x, y))
    assert_same(kendall_tau(*garbage(x, y, mask), mask=mask), scipy_tau(x, y, mask))


def test_rows_so_long_that_groups_of_values_are_divided_again() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = draw(2, 1_050_000, None, generator), draw(2, 1_050_000, None, generator)
    y[1] += x[1]
    assert_same(kendall_tau(x, y), scipy_tau(x, y))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_every_dtype_compares_its_own_values(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = (draw(20, 30, None, generator).to(dtype) for _ in range(2))
    result = kendall_tau(x, y)
    assert result.statistic.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_same(result, scipy_tau(x, y), rtol=1e-11 if dtype == torch.float64 else 1e-6)


def test_neighbouring_floats_are_not_tied() -> None:
    one = torch.ones(2, 3, dtype=torch.float64)
    x = torch.nextafter(one, one + 1).where(torch.tensor([True, False, False]), one)
    y = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    assert_same(kendall_tau(x, y), scipy_tau(x, y))


@pytest.mark.parametrize("length", [3, 5, 12, 32, 33])
def test_short_tie_free_rows_take_the_exact_distribution(length: int) -> None:
    x, y = draw_pair(length, None, seed=0)
    pvalue = kendall_tau(x, y).pvalue
    assert_same((kendall_tau(x, y).statistic, pvalue), scipy_tau(x, y, method="exact"))
    assert not torch.allclose(pvalue, scipy_tau(x, y, method="asymptotic")[:, 1], rtol=1e-4)


def test_short_rows_reach_every_value_of_the_exact_distribution() -> None:
    orders = torch.tensor(list(itertools.permutations(range(6))), dtype=torch.float64)
    x = torch.arange(6.0, dtype=torch.float64).expand_as(orders)
    result = kendall_tau(x, orders)
    # By enumeration: how many orders are at least as far from no correlation.
    size = result.statistic.abs()
    at_least = (size[None] >= size[:, None] - 1e-9).double().mean(1)
    torch.testing.assert_close(result.pvalue, at_least, rtol=1e-12, atol=0)


@pytest.mark.parametrize("length", [34, 50, 400])
def test_longer_rows_take_the_normal_approximation(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = draw(10, length, None, generator), draw(10, length, None, generator)
    pvalue = kendall_tau(x, y).pvalue
    assert_same((kendall_tau(x, y).statistic, pvalue), scipy_tau(x, y, method="asymptotic"))
    if length < 171:  # SciPy's exact distribution is slow beyond
        assert not torch.allclose(pvalue, scipy_tau(x, y, method="exact")[:, 1], rtol=1e-4)


def test_short_rows_with_ties_take_the_normal_approximation() -> None:
    x, y = draw_pair(10, 5, seed=0)
    assert_same(kendall_tau(x, y), scipy_tau(x, y, method="asymptotic"))


@pytest.mark.parametrize("length", [34, 35, 60, 169, 170, 171, 172, 173, 300])
def test_long_rows_with_at_most_one_odd_pair_are_exact(length: int) -> None:
    x = torch.arange(float(length), dtype=torch.float64).repeat(6, 1)
    y = x.clone()
    y[1, [4, 5]] = y[1, [5, 4]]
    y[2, [4, 6]] = y[2, [6, 4]]  # three odd pairs: no longer exact
    y[3:] = -y[:3]
    result = kendall_tau(x, y)
    assert_same(result, scipy_tau(x, y))
    exact = scipy_tau(x[:2], y[:2], method="exact")
    torch.testing.assert_close(result.pvalue[:2], exact[:, 1], rtol=1e-12, atol=0)


def test_tiny_pvalues_of_float32_underflow_to_zero() -> None:
    x = torch.arange(2000.0).repeat(2, 1)
    x[1, 5] = -1.0
    result = kendall_tau(x, torch.arange(2000.0).repeat(2, 1))
    assert result.pvalue.tolist() == [0.0, 0.0]
    assert result.statistic[0] == 1


def test_undefined_rows_are_nan() -> None:
    x = torch.tensor([[1.0, 1, 1], [1, 2, 3], [1, NAN, 3], [1, 2, 3], [1, 2, 3]])
    y = torch.tensor([[1.0, 2, 3], [5, 5, 5], [1, 2, 3], [1, 2, NAN], [3, 2, 1]])
    result = kendall_tau(x, y)
    assert result.statistic.isnan().tolist() == [True] * 4 + [False]
    assert result.pvalue.isnan().tolist() == [True] * 4 + [False]


def test_nan_at_a_real_position_counts_beside_masked_ones() -> None:
    x = torch.tensor([[1.0, 2, 3, NAN], [1, 2, NAN, 4]])
    mask = torch.tensor([[True, True, True, False]] * 2)
    result = kendall_tau(x, torch.tensor([[1.0, 2, 3, 4]] * 2), mask=mask)
    assert result.statistic.isnan().tolist() == [False, True]


def test_too_few_positions_are_undefined() -> None:
    x = torch.rand(3, 4)
    mask = torch.tensor([[False] * 4, [True] + [False] * 3, [True, True, False, False]])
    assert kendall_tau(x, x, mask=mask).statistic.isnan().tolist() == [True, True, False]
    for length in (0, 1):
        result = kendall_tau(torch.rand(2, length), torch.rand(2, length))
        assert result.statistic.isnan().all()
        assert result.pvalue.shape == (2,)
        assert top_k_kendall(torch.rand(2, length), torch.rand(2, length), k=1).isnan().all()


def test_infinities_are_ordered_and_tie_with_themselves() -> None:
    x = torch.tensor([[-INF, 0.0, 1.0, INF, 7.0], [INF, INF, 1.0, -INF, 2.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0], [INF, 3.0, 2.0, 1.0, 5.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, True, False]] * 2)
    stand_in = x.nan_to_num(posinf=1e9, neginf=-1e9), y.nan_to_num(posinf=1e9)
    assert_same(kendall_tau(x, y), scipy_tau(*stand_in))
    assert_same(kendall_tau(x, y, mask=mask), scipy_tau(*stand_in, mask))


def test_signed_zeros_tie() -> None:
    x = torch.tensor([0.0, -0.0, 1.0])
    y = torch.tensor([1.0, 2.0, 3.0])
    expected = scipy_tau(torch.tensor([[0.0, 0.0, 1.0]]), y[None])
    assert_same([value[None] for value in kendall_tau(x, y)], expected, rtol=1e-6)


def test_leading_dimensions_and_layout() -> None:
    x, y = torch.rand(2, 3, 5, 12), torch.rand(2, 3, 5, 12)
    result = kendall_tau(x, y)
    assert result.statistic.shape == result.pvalue.shape == (2, 3, 5)
    assert result.statistic[1, 2, 3] == kendall_tau(x[1, 2, 3], y[1, 2, 3]).statistic
    turned = kendall_tau(x.transpose(0, 3).contiguous().transpose(0, 3), y)
    assert torch.equal(turned.statistic, result.statistic)
    assert kendall_tau(torch.rand(0, 7), torch.rand(0, 7)).statistic.shape == (0,)
    assert kendall_tau(x[0, 0, 0], y[0, 0, 0]).statistic.shape == ()


def test_inputs_are_left_alone_and_gradients_stop() -> None:
    x = torch.rand(3, 8, requires_grad=True)
    y, mask = torch.rand(3, 8), torch.rand(3, 8) < 0.8
    before = x.detach().clone(), y.clone(), mask.clone()
    result = rank_correlation(x, y, mask=mask)
    assert not result.statistic.requires_grad
    assert not top_k_kendall(x, y, k=3, mask=mask).requires_grad
    assert all(torch.equal(now, then) for now, then in zip((x, y, mask), before, strict=True))
