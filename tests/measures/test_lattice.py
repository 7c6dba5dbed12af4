"""Longest paths over subsets against all orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faithattn.measures.lattice import chain_bounds, subset_marks


def sums_of_all_orders(values: list[float], length: int) -> list[float]:
    """One sum for each of T! orders."""
    found = []
    for order in itertools.permutations(range(length)):
        numbers = [sum(1 << at for at in order[:k]) for k in range(1, length)]
        found.append(sum(values[number] for number in numbers))
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6])
def test_bounds_are_those_of_all_orders(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    values = torch.randn(7, 1 << length, generator=generator).double()
    low, high = chain_bounds(values)
    for row in range(7):
        sums = sums_of_all_orders(values[row].tolist(), length)
        assert float(low[row]) == pytest.approx(min(sums), abs=1e-12)
        assert float(high[row]) == pytest.approx(max(sums), abs=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=16, max_size=16))
def test_bounds_of_tied_values(values: list[int]) -> None:
    low, high = chain_bounds(torch.tensor(values).double())
    sums = sums_of_all_orders(list(map(float, values)), 4)
    assert (float(low), float(high)) == (min(sums), max(sums))


def test_values_of_the_ends_are_not_looked_at() -> None:
    values = torch.rand(8).double()
    values[0], values[-1] = math.nan, math.nan
    low, high = chain_bounds(values)
    assert low.isfinite() and high.isfinite()
    values[3] = math.nan
    assert all(each.isnan() for each in chain_bounds(values))


def test_marks_are_bits() -> None:
    marks = subset_marks(3)
    numbers = (marks.long() * torch.tensor([1, 2, 4])).sum(-1)
    assert numbers.tolist() == list(range(8))
