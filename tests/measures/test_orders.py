"""All orders of a row, one by one and in closed form, against itertools."""

from __future__ import annotations

import itertools
import math

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn import memory_budget
from faithattn.measures.draws import shuffle_rows
from faithattn.measures.orders import all_orders, order_keys, order_moments, order_sums

HOLES = torch.tensor(
    [[True] * 5, [False, True, False, True, True], [False] * 5, [True, True, False, False, False]]
)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("length", range(8))
def test_every_order_once(length: int) -> None:
    orders = all_orders(length)
    assert orders.shape == (math.factorial(length), length)
    found = {tuple(order) for order in orders.tolist()}
    assert found == set(itertools.permutations(range(length)))


def test_keys_put_rows_into_every_order_of_their_valid_positions() -> None:
    rows = numbers(4, 2, 5)
    shuffled = shuffle_rows(rows, HOLES[:, None].expand(-1, 2, -1), order_keys(HOLES, 0, 120))
    for row, mask in enumerate(HOLES):
        count = math.factorial(int(mask.sum()))
        assert torch.equal(shuffled[row, :, :, ~mask], rows[row][:, ~mask].expand(120, -1, -1))
        moved = {tuple(each.flatten().tolist()) for each in shuffled[row, :count, :, mask]}
        every = itertools.permutations(mask.nonzero()[:, 0].tolist())
        assert moved == {tuple(rows[row][:, list(order)].flatten().tolist()) for order in every}
        assert torch.equal(shuffled[row, count:], rows[row].expand(120 - count, -1, -1))


def test_keys_come_in_pieces() -> None:
    pieces = [order_keys(HOLES, first, first + 40) for first in (0, 40, 80)]
    assert torch.equal(torch.cat(pieces, 1), order_keys(HOLES, 0, 120))


@pytest.mark.parametrize("rows", [1, 3])
def test_sums_agree_with_a_loop(rows: int) -> None:
    attention, scores = numbers(2, rows, 4), numbers(2, rows, 4, 3, seed=1)
    orders = all_orders(4)
    found = order_sums(attention, scores)
    assert found.shape == (24, 2, 3)
    for place, order in enumerate(orders.tolist()):
        moved = attention[..., order] - attention
        torch.testing.assert_close(found[place], torch.einsum("nrt,nrtc->nc", moved, scores))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 3), st.integers(0, 10**6))
def test_moments_are_those_of_all_orders(rows: int, length: int, padding: int, seed: int) -> None:
    attention = numbers(1, rows, length, seed=seed).softmax(-1)
    scores = numbers(1, rows, length, seed=seed + 1) * 4 + 3
    values = torch.einsum("nrtc,nru->tunc", scores[..., None], attention)
    every = torch.stack(
        [
            sum(values[t, u, 0, 0] for t, u in enumerate(order))
            for order in itertools.permutations(range(length))
        ]
    )
    wide = [torch.nn.functional.pad(each, (padding, 1)) for each in (attention, scores)]
    valid = torch.nn.functional.pad(torch.ones(1, rows, length), (padding, 1)) > 0
    offset, spread = order_moments(*wide, valid)
    own = float((attention * scores).sum())
    assert float(offset) == pytest.approx(own - float(every.mean()), abs=1e-10)
    assert float(spread) == pytest.approx(float(every.std(correction=0)), rel=1e-7, abs=1e-9)


def test_one_row_has_the_variance_of_the_textbook() -> None:
    attention, scores = numbers(3, 1, 40).softmax(-1), numbers(3, 1, 40, seed=1)
    _, spread = order_moments(attention, scores, torch.ones(3, 1, 40, dtype=torch.bool))
    for row in range(3):
        expected = oracles.linear_variance(attention[row, 0], scores[row, 0])
        assert float(spread[row]) ** 2 == pytest.approx(expected)


@pytest.mark.parametrize("length", [3, 30])
def test_rows_that_cancel_have_no_spread(length: int) -> None:
    attention, scores = numbers(1, 1, length).softmax(-1), numbers(1, 1, length, seed=1)
    attention, scores = (
        attention.expand(1, 4, length),
        scores * torch.tensor([1.0, -1, 2, -2])[:, None],
    )
    _, spread = order_moments(attention, scores, torch.ones_like(attention) > 0)
    assert float(spread) < 1e-7


def test_rows_without_positions_add_nothing() -> None:
    attention, scores = numbers(2, 2, 6).softmax(-1), numbers(2, 2, 6, seed=1)
    valid = torch.ones(2, 2, 6, dtype=torch.bool)
    valid[1, 1] = False
    alone = order_moments(attention[1:, :1], scores[1:, :1], valid[1:, :1])
    for one, other in zip(order_moments(attention * valid, scores, valid), alone, strict=True):
        torch.testing.assert_close(one[1:], other)


def test_fewer_than_two_positions_have_no_spread() -> None:
    valid = torch.tensor([[[True, False]], [[False, False]], [[True, True]]])
    attention = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.7, 0.3]]])
    offset, spread = order_moments(attention, torch.tensor([[[2.0, 1.0]]] * 3), valid)
    assert spread.isnan().tolist() == [True, True, False]
    assert offset.tolist() == pytest.approx([0, 0, 0.2])


def test_moments_in_chunks() -> None:
    attention, scores = numbers(5, 2, 6).softmax(-1), numbers(5, 2, 6, seed=1)
    valid = torch.ones(5, 2, 6, dtype=torch.bool)
    expected = order_moments(attention, scores, valid)
    with memory_budget(1e-6):
        for one, other in zip(order_moments(attention, scores, valid), expected, strict=True):
            torch.testing.assert_close(one, other)
