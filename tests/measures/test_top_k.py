"""Top-k lists against the definition of the paper, pair by pair."""

from __future__ import annotations

import itertools

import pytest
import torch
from rank_cases import INF, NAN, assert_equal, draw_pair, garbage

from faithattn.measures.rank import kendall_tau, top_k_kendall


def fagin(x: list[float], y: list[float], k: int) -> float:
    """Kendall distance of two top-k lists by the four cases of the paper, p = 1/2."""
    lists = [sorted(range(len(v)), key=lambda i, v=v: (-v[i], i))[:k] for v in (x, y)]
    total = 0.0
    for i, j in itertools.combinations(sorted(set(lists[0]) | set(lists[1])), 2):
        ahead = []  # for each list: does it put i ahead of j? None if it says nothing
        for members in lists:
            if i in members and j in members:
                ahead.append(members.index(i) < members.index(j))
            else:
                ahead.append(i in members if i in members or j in members else None)
        total += 0.5 if None in ahead else float(ahead[0] != ahead[1])
    return total


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_top_k_of_every_order_against_the_paper(length: int) -> None:
    orders = list(itertools.permutations(map(float, range(length))))
    y = torch.tensor(orders, dtype=torch.float64)
    x = torch.arange(float(length), dtype=torch.float64).expand_as(y)
    for k in range(1, length + 1):
        slow = torch.tensor([fagin(x[0].tolist(), order, k) for order in orders]).double()
        ours = top_k_kendall(x, y, k=k)
        # The largest distance of any two lists is the normaliser, and it is reached.
        assert_equal(ours, slow / slow.max())


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("length", [7, 30, 90])
def test_top_k_with_ties_and_masks_against_the_paper(length: int, levels: int | None) -> None:
    x, y = draw_pair(length, levels, seed=length)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    filled = garbage(x, y, mask)
    for k in (1, 2, 5, length, length + 10):
        expected = []
        for a, b, keep in zip(x, y, mask, strict=True):
            t = int(keep.sum())
            cut = min(k, t)
            largest = cut * (cut - 1) / 2 + cut * min(cut, t - cut)
            distance = fagin(a[keep].tolist(), b[keep].tolist(), cut)
            expected.append(distance / largest if t > 1 else NAN)
        assert_equal(
            top_k_kendall(*filled, k=k, mask=mask), torch.tensor(expected, dtype=torch.float64)
        )


def test_top_k_of_all_positions_is_the_rescaled_tau() -> None:
    x, y = draw_pair(23, None, seed=0)
    tau = kendall_tau(x, y).statistic
    assert_equal(top_k_kendall(x, y, k=23), (1 - tau) / 2)


def test_top_k_prefers_the_lower_position_at_the_cut() -> None:
    x = torch.tensor([1.0, 0.5, 0.5, 0.0])
    assert top_k_kendall(x, torch.tensor([3.0, 2.0, 1.0, 0.0]), k=2) == 0
    assert top_k_kendall(x, torch.tensor([3.0, 1.0, 2.0, 0.0]), k=2) > 0


def test_top_k_ranks_the_lowest_real_value_above_padding() -> None:
    x = torch.tensor([[NAN, 1.0, -INF]])
    y = torch.tensor([[NAN, 2.0, 1.0]])
    mask = torch.tensor([[False, True, True]])
    assert top_k_kendall(x, y, k=2, mask=mask).tolist() == [0.0]


def test_top_k_undefined_rows_and_dtype() -> None:
    x = torch.tensor([[1.0, 2.0, NAN], [1.0, 2.0, 3.0]], dtype=torch.float16)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    result = top_k_kendall(x, x, k=2, mask=mask)
    assert result.dtype == torch.float32
    assert result.isnan().all()
