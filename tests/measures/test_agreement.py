"""Spearman's correlation, weighted tau and overlap against SciPy, enumeration and slow loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_cases import INF, LEVELS, NAN, assert_equal, by_row, draw_pair, garbage
from scipy.stats import spearmanr, weightedtau
from torch import Tensor

from faithattn._memory import memory_budget
from faithattn.measures.agreement import (
    spearman_correlation,
    top_k_overlap,
    weighted_kendall_tau,
)

ROW = st.lists(st.integers(-4, 4), min_size=2, max_size=12)
PAIRS = ROW.flatmap(
    lambda row: st.tuples(
        st.just(row), st.lists(st.integers(-4, 4), min_size=len(row), max_size=len(row))
    )
)


def scipy_spearman(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    return by_row(lambda a, b: tuple(map(float, spearmanr(a, b))), x, y, mask)


def scipy_weighted(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    return by_row(lambda a, b: float(weightedtau(a, b).statistic), x, y, mask)


def slow_overlap(x: list[float], y: list[float], k: int) -> float:
    lists = [sorted(range(len(v)), key=lambda i, v=v: (-v[i], i))[:k] for v in (x, y)]
    return len(set(lists[0]) & set(lists[1])) / len(lists[0])


def measures(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Every measure that does not look at positions, one column each."""
    spearman = spearman_correlation(x, y, mask=mask)
    return torch.stack([*spearman, weighted_kendall_tau(x, y, mask=mask)], dim=-1)


def assert_spearman(result: tuple[Tensor, Tensor], expected: Tensor, rtol: float = 1e-9) -> None:
    statistic, pvalue = (part.double() for part in result)
    torch.testing.assert_close(statistic, expected[:, 0], rtol=rtol, atol=1e-12, equal_nan=True)
    # At 1 and -1 SciPy's p-value hangs on how its statistic was rounded; it is 0, or none of two.
    perfect = statistic.abs() > 1 - 1e-12
    assert not (pvalue[perfect] > 0).any()
    pvalue, expected = pvalue[~perfect], expected[~perfect]
    torch.testing.assert_close(pvalue, expected[:, 1], rtol=rtol, atol=1e-300, equal_nan=True)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 13, 33, 64, 97, 300])
def test_spearman_agrees_with_scipy(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    assert_spearman(spearman_correlation(x, y), scipy_spearman(x, y))
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0], mask[1, 1:] = False, False
    filled = garbage(x, y, mask)
    assert_spearman(spearman_correlation(*filled, mask=mask), scipy_spearman(x, y, mask))


def test_spearman_of_every_order_against_the_squared_differences() -> None:
    orders = torch.tensor(list(itertools.permutations(range(5))), dtype=torch.float64)
    x = torch.arange(5.0, dtype=torch.float64).expand_as(orders)
    expected = 1 - 6 * ((x - orders) ** 2).sum(1) / (5 * 24)
    found = spearman_correlation(x, orders)
    assert_equal(found.statistic, expected)
    # Exact at both ends and in the middle, where rounding would show.
    assert found.statistic.max() == 1 and found.statistic.min() == -1
    assert found.pvalue[found.statistic.abs() == 1].tolist() == [0.0, 0.0]
    assert (found.pvalue[found.statistic == 0] == 1).all() and (found.statistic == 0).any()


def test_spearman_of_two_positions_has_no_pvalue() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0]])
    y = torch.tensor([[3.0, 4.0], [4.0, 3.0], [1.0, 2.0]])
    result = spearman_correlation(x, y)
    assert_equal(result.statistic, torch.tensor([1.0, -1.0, NAN]))
    assert result.pvalue.isnan().all()


def test_spearman_of_a_long_row() -> None:
    x, y = draw_pair(40_000, 30_000, seed=0)
    picked = torch.tensor([0, 10])  # unrelated, equal
    x, y = x[picked], y[picked]
    assert_spearman(spearman_correlation(x, y), scipy_spearman(x, y))


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 3, 5, 20, 97])
def test_weighted_tau_agrees_with_scipy(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    assert_equal(weighted_kendall_tau(x, y), scipy_weighted(x, y))
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0], mask[1, 1:] = False, False
    expected = scipy_weighted(x, y, mask)
    assert_equal(weighted_kendall_tau(*garbage(x, y, mask), mask=mask), expected)


@pytest.mark.parametrize("length", [2, 4, 7, 12])
def test_weighted_tau_without_ties_is_its_definition(length: int) -> None:
    x, y = draw_pair(length, None, seed=length)
    expected = []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        taus = []
        for ranking in (a, b):
            rank = [sum(other > value for other in ranking) for value in ranking]
            above = below = 0.0
            for i, j in itertools.combinations(range(length), 2):
                weight = 1 / (rank[i] + 1) + 1 / (rank[j] + 1)
                above += weight * (1 if (a[i] > a[j]) == (b[i] > b[j]) else -1)
                below += weight
            taus.append(above / below)
        expected.append(sum(taus) / 2)
    assert_equal(weighted_kendall_tau(x, y), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("length", [2, 7, 30, 90])
def test_overlap_against_sorted_lists(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    filled = garbage(x, y, mask)
    for k in (1, 2, 5, length, length + 10):
        expected = [
            slow_overlap(a[keep].tolist(), b[keep].tolist(), k) if keep.sum() > 1 else NAN
            for a, b, keep in zip(x, y, mask, strict=True)
        ]
        found = top_k_overlap(*filled, k=k, mask=mask)
        assert_equal(found, torch.tensor(expected, dtype=torch.float64))


def test_overlap_prefers_the_lower_position_at_the_cut() -> None:
    x = torch.tensor([1.0, 0.5, 0.5, 0.0])
    assert top_k_overlap(x, torch.tensor([3.0, 2.0, 1.0, 0.0]), k=2) == 1
    assert top_k_overlap(x, torch.tensor([3.0, 1.0, 2.0, 0.0]), k=2) == 0.5


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_every_dtype_compares_its_own_values(dtype: torch.dtype) -> None:
    x, y = (part.to(dtype) for part in draw_pair(30, None, seed=3))
    result = torch.float64 if dtype == torch.float64 else torch.float32
    wide = x.double(), y.double()
    expected = scipy_spearman(*wide)
    spearman = spearman_correlation(x, y)
    assert spearman.statistic.dtype == spearman.pvalue.dtype == result
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(spearman.statistic.double(), expected[:, 0], **tolerance)
    weighted, overlap = weighted_kendall_tau(x, y), top_k_overlap(x, y, k=5)
    assert weighted.dtype == overlap.dtype == result
    torch.testing.assert_close(weighted.double(), scipy_weighted(*wide), **tolerance)
    assert torch.equal(overlap, top_k_overlap(*wide, k=5).to(result))


def test_neighbouring_floats_are_not_tied_and_signed_zeros_are() -> None:
    one = torch.ones(3)
    x = torch.tensor([2.0, 1.0, 1.0])
    near = torch.nextafter(one, one + 1).where(torch.tensor([True, False, False]), one)
    assert torch.equal(measures(x, near), measures(x, x))
    zeros = torch.tensor([1.0, 0.0, -0.0])
    assert torch.equal(measures(x, zeros), measures(x, x))


def test_infinities_are_ordered() -> None:
    x = torch.tensor([-INF, 0.0, 1.0, INF, INF], dtype=torch.float64)
    y = torch.tensor([1.0, 3.0, -INF, INF, 5.0], dtype=torch.float64)
    stand_in = x.nan_to_num(posinf=9, neginf=-9), y.nan_to_num(posinf=9, neginf=-9)
    assert_equal(measures(x, y), measures(*stand_in))
    assert_equal(top_k_overlap(x, y, k=2), top_k_overlap(*stand_in, k=2))


def test_undefined_rows_are_nan() -> None:
    x = torch.tensor([[1.0, 1, 1], [1, 2, 3], [1, NAN, 3], [1, 2, 3], [1, 2, 3], [2, 2, 2]])
    y = torch.tensor([[1.0, 2, 3], [5, 5, 5], [1, 2, 3], [1, 2, NAN], [3, 2, 1], [7, 7, 7]])
    expected = [True, True, True, True, False, True]
    assert measures(x, y).isnan().tolist() == [[undefined] * 3 for undefined in expected]
    overlap = top_k_overlap(x, y, k=2)
    assert overlap.isnan().tolist() == [False, False, True, True, False, False]
    mask = torch.tensor([[True, True, False]] * 6)
    assert measures(x[3:5], y[3:5], mask[3:5])[:, [0, 2]].isfinite().all()


def test_too_few_positions_are_undefined() -> None:
    x = torch.rand(3, 4)
    mask = torch.tensor([[False] * 4, [True] + [False] * 3, [True, True, False, False]])
    assert measures(x, x, mask)[:, 0].isnan().tolist() == [True, True, False]
    assert measures(x, x, mask)[:, 2].isnan().tolist() == [True, True, False]
    assert top_k_overlap(x, x, k=1, mask=mask).isnan().tolist() == [True, True, False]
    for length in (0, 1):
        x = torch.rand(2, length)
        assert measures(x, x).shape == (2, 3) and measures(x, x).isnan().all()
        assert top_k_overlap(x, x, k=1).isnan().all()


def test_leading_dimensions_and_gradients() -> None:
    x, y = torch.rand(2, 3, 12, requires_grad=True), torch.rand(2, 3, 12)
    whole, lists = measures(x, y), top_k_overlap(x, y, k=3)
    assert whole.shape == (2, 3, 3) and lists.shape == (2, 3)
    assert not whole.requires_grad and not lists.requires_grad
    assert torch.equal(whole[1, 2], measures(x[1, 2], y[1, 2]))
    assert measures(torch.rand(0, 7), torch.rand(0, 7)).shape == (0, 3)


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_joint_permutation_of_positions_changes_nothing(pair, random) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    order = random.sample(range(len(x)), len(x))
    assert_equal(measures(x, y), measures(x[order], y[order]))


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.integers(1, 70))
def test_padding_changes_nothing(pair, padding) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask, x2, y2 = (torch.cat([part.new_zeros(padding), part]) for part in (mask, x, y))
    filled = garbage(x2, y2, mask)
    assert_equal(measures(x, y), measures(*filled, mask))
    assert_equal(top_k_overlap(x, y, k=3), top_k_overlap(*filled, k=3, mask=mask))


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_symmetric_and_the_same_after_monotone_transforms(pair) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    for other in ((y, x), (x.exp(), y**3 + y)):
        assert_equal(measures(x, y), measures(*other))
        assert_equal(top_k_overlap(x, y, k=4), top_k_overlap(*other, k=4))


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_spearman_is_odd_under_reversal(pair) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    there, back = spearman_correlation(x, y), spearman_correlation(-x, y)
    assert_equal(there.statistic, -back.statistic)
    assert_equal(there.pvalue, back.pvalue)


@pytest.mark.parametrize("length", [9, 50, 130])
def test_batch_size_and_memory_budget_change_nothing(length: int) -> None:
    x, y = draw_pair(length, 40, seed=1)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    whole, lists = measures(x, y, mask), top_k_overlap(x, y, k=5, mask=mask)
    single = [measures(*(part[i : i + 1] for part in (x, y, mask))) for i in range(len(x))]
    torch.testing.assert_close(whole, torch.cat(single), rtol=0, atol=0, equal_nan=True)
    with memory_budget(0.05):
        torch.testing.assert_close(whole, measures(x, y, mask), rtol=0, atol=0, equal_nan=True)
        assert_equal(lists, top_k_overlap(x, y, k=5, mask=mask))


X = torch.rand(2, 3)


@pytest.mark.parametrize(
    ("arguments", "mask", "error", "message"),
    [
        ((X, [[1.0]]), None, TypeError, "y must be a torch.Tensor; got list."),
        ((X.long(), X), None, TypeError, "x must be floating point; got torch.int64."),
        ((X, X[:, :2]), None, ValueError, r"y must have the shape of x; got x \(2, 3\) and y \(2"),
        ((X, X.double()), None, ValueError, "y must have the dtype of x; got x torch.float32"),
        ((X, X), X, TypeError, "mask must be boolean, True at real positions; got torch.float32"),
        ((X, X), X[0] > 0, ValueError, r"mask must have the shape of x; got x \(2, 3\) and mask"),
    ],
)
def test_inputs_that_do_not_match(arguments, mask, error, message) -> None:
    for measure in (spearman_correlation, weighted_kendall_tau):
        with pytest.raises(error, match=message):
            measure(*arguments, mask=mask)
    with pytest.raises(error, match=message):
        top_k_overlap(*arguments, k=1, mask=mask)


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_list_lengths_that_are_none(k, error) -> None:
    with pytest.raises(error, match=f"k must be .*; got {k}."):
        top_k_overlap(X, X, k=k)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("length", [20, 130])
def test_the_device_changes_nothing(length: int) -> None:
    x, y = draw_pair(length, 40, seed=1)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    x, y = garbage(x, y, mask)
    there = [part.cuda() for part in (x, y, mask)]
    assert measures(*there).device.type == "cuda"
    assert_equal(measures(*there).cpu(), measures(x, y, mask))
    lists = top_k_overlap(*there[:2], k=5, mask=there[2])
    assert_equal(lists.cpu(), top_k_overlap(x, y, k=5, mask=mask))
