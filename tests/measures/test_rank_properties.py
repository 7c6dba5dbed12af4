"""What must not change rank agreement, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_cases import INF, NAN, assert_equal, draw_pair, garbage
from torch import Tensor

from faithattn._memory import memory_budget
from faithattn.measures.rank import kendall_tau, rank_correlation, top_k_kendall

ROW = st.lists(st.integers(-4, 4), min_size=2, max_size=12)
PAIRS = ROW.flatmap(
    lambda row: st.tuples(
        st.just(row), st.lists(st.integers(-4, 4), min_size=len(row), max_size=len(row))
    )
)


def measures(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Every measure that does not look at positions, one column each."""
    return torch.stack([*kendall_tau(x, y, mask=mask), *rank_correlation(x, y, mask=mask)], dim=-1)


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
    assert_equal(top_k_kendall(x, y, k=3), top_k_kendall(*filled, k=3, mask=mask))


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_symmetric_and_odd_under_reversal(pair) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    assert_equal(measures(x, y), measures(y, x))
    assert_equal(top_k_kendall(x, y, k=4), top_k_kendall(y, x, k=4))
    sign = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    assert_equal(measures(x, y), measures(-x, y) * sign)


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_monotone_transforms_change_nothing(pair) -> None:
    x, y = (torch.tensor(row, dtype=torch.float64) for row in pair)
    assert_equal(measures(x, y), measures(x.exp(), y**3 + y))
    assert_equal(top_k_kendall(x, y, k=4), top_k_kendall(x.exp(), y**3 + y, k=4))


@pytest.mark.parametrize("length", [9, 50, 130])
def test_batch_size_and_memory_budget_change_nothing(length: int) -> None:
    x, y = draw_pair(length, 40, seed=1)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    whole = measures(x, y, mask)
    lists = top_k_kendall(x, y, k=5, mask=mask)
    single = [measures(*(part[i : i + 1] for part in (x, y, mask))) for i in range(len(x))]
    torch.testing.assert_close(whole, torch.cat(single), rtol=0, atol=0, equal_nan=True)
    with memory_budget(0.05):
        torch.testing.assert_close(whole, measures(x, y, mask), rtol=0, atol=0, equal_nan=True)
        assert_equal(lists, top_k_kendall(x, y, k=5, mask=mask))


X = torch.rand(2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, [[1.0]]), TypeError, "y must be a torch.Tensor; got list."),
        ((X.long(), X), TypeError, "x must be floating point; got torch.int64."),
        ((torch.tensor(1.0), X), ValueError, "x must have a last dimension of positions; got a"),
        ((X, X[:, :2]), ValueError, r"y must have the shape of x; got x \(2, 3\) and y \(2, 2\)."),
        ((X, X.double()), ValueError, "y must have the dtype of x; got x torch.float32 and y "),
        ((X, X.to("meta")), ValueError, "y must be on the device of x; got x on cpu and y on meta"),
    ],
)
def test_inputs_that_do_not_match(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        kendall_tau(*arguments)
    with pytest.raises(error, match=message):
        top_k_kendall(*arguments, k=1)
    names = message.replace("x must", "explanation must").replace("y must", "importance must")
    with pytest.raises(error, match=names.split(";")[0].replace("of x", "of explanation")):
        rank_correlation(*arguments)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(2, 3), TypeError, "mask must be boolean, True at real positions; got torch.fl"),
        (torch.ones(3, dtype=torch.bool), ValueError, r"mask must have the shape of .*\(2, 3\)"),
        (torch.ones(2, 3, dtype=torch.bool, device="meta"), ValueError, "mask must be on the dev"),
    ],
)
def test_masks_that_do_not_match(mask, error, message) -> None:
    for measure in (kendall_tau, rank_correlation):
        with pytest.raises(error, match=message):
            measure(X, X, mask=mask)
    with pytest.raises(error, match=message):
        top_k_kendall(X, X, k=1, mask=mask)


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, "k must be at least 1; got 0."),
        (-2, ValueError, "k must be at least 1; got -2."),
        (1.5, TypeError, "k must be a whole number; got 1.5."),
        (True, TypeError, "k must be a whole number; got True."),
    ],
)
def test_list_lengths_that_are_none(k, error, message) -> None:
    with pytest.raises(error, match=message):
        top_k_kendall(X, X, k=k)


@pytest.mark.parametrize(
    ("tolerance", "error", "message"),
    [
        (-1e-6, ValueError, "tie_tolerance must be finite and not negative; got -1e-06."),
        ((0.0, NAN), ValueError, "tie_tolerance must be finite and not negative; got nan."),
        (INF, ValueError, "tie_tolerance must be finite and not negative; got inf."),
        (
            "relative",
            TypeError,
            "tie_tolerance must be \"auto\", a number or a pair .* 'relative'.",
        ),
        (None, TypeError, 'tie_tolerance must be "auto", a number or a pair of these; got None.'),
        ((1, 2, 3), ValueError, "tie_tolerance must be one tolerance or a pair; got 3 of them."),
    ],
)
def test_tolerances_that_are_none(tolerance, error, message) -> None:
    with pytest.raises(error, match=message):
        rank_correlation(X, X, tie_tolerance=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("length", [20, 50, 130, 700, 17_000])
def test_the_device_changes_nothing(length: int) -> None:
    x, y = draw_pair(length, 40, seed=1)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    x, y = garbage(x, y, mask)
    there = [part.cuda() for part in (x, y, mask)]
    assert measures(*there).device.type == "cuda"
    assert_equal(measures(*there).cpu(), measures(x, y, mask))
    lists = top_k_kendall(*there[:2], k=5, mask=there[2])
    assert_equal(lists.cpu(), top_k_kendall(x, y, k=5, mask=mask))
