"""The exact adversary against all pairs, a grid over the simplex, and known values."""

from __future__ import annotations

import itertools
import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from faithattn import exact_adversary, jensen_shannon_divergence

LN2 = math.log(2)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    parts = [torch.special.xlogy(x, x) - torch.special.xlogy(x, middle) for x in (p, q)]
    return (parts[0] + parts[1]).sum(-1) / 2


def moved(found: Tensor, attention: Tensor, scores: Tensor, bias: float) -> Tensor:
    """Change of the probability."""
    outputs = [torch.sigmoid((each * scores).sum(-1) + bias) for each in (found, attention)]
    return (outputs[0] - outputs[1]).abs()


def by_all_pairs(attention: Tensor, scores: Tensor, bias: float, epsilon: float) -> float:
    """The oracle: every position alone, every pair at both ends, one instance, in double."""
    probability = float(torch.sigmoid((attention * scores).sum() + bias))
    levels = [
        math.log(p / (1 - p)) - bias
        for p in (probability - epsilon, probability + epsilon)
        if 0 < p < 1
    ]
    length = len(attention)
    tried = list(torch.eye(length, dtype=torch.float64))
    for (i, j), level in itertools.product(itertools.permutations(range(length), 2), levels):
        if scores[i] < level < scores[j]:
            share = float((scores[j] - level) / (scores[j] - scores[i]))
            one = torch.zeros(length, dtype=torch.float64)
            one[i], one[j] = share, 1 - share
            tried.append(one)
    points = torch.stack(tried)
    allowed = moved(points, attention, scores, bias) <= epsilon + 1e-9
    return float(divergence(points, attention)[allowed].max())


def case(length: int, seed: int, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, length, generator=generator, dtype=torch.float64)
    return (noise[0] * spread).softmax(-1), noise[1] * 2


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 40, 70])
def test_all_pairs(length: int, epsilon: float) -> None:
    for seed in range(3 if length > 40 else 8):
        attention, scores = case(length, seed)
        found, jsd = exact_adversary(attention[None], scores[None], 0.3, epsilon=epsilon)
        assert jsd.item() == pytest.approx(by_all_pairs(attention, scores, 0.3, epsilon), abs=1e-9)
        torch.testing.assert_close(divergence(found[0], attention), jsd[0], atol=1e-12, rtol=0)
        assert moved(found[0], attention, scores, 0.3) <= epsilon + 1e-9
        assert found.sum().item() == pytest.approx(1) and (found >= 0).all()
        assert (found > 0).sum() <= 2


@pytest.mark.parametrize(("length", "steps"), [(2, 2000), (3, 200), (4, 60)])
def test_a_grid_over_the_simplex(length: int, steps: int) -> None:
    """Nothing on the grid is better, and the grid comes as near as its resolution lets it."""
    grid = itertools.combinations_with_replacement(range(steps + 1), length - 1)
    cuts = torch.tensor([(0, *cut, steps) for cut in grid])
    points, step = cuts.diff(dim=1).double() / steps, 1 / steps
    resolution = length * (step * math.log(1 / step) / 2 + step)
    for seed in range(10):
        attention, scores = case(length, seed)
        jsd = exact_adversary(attention[None], scores[None], 0.0, epsilon=0.05)[1].item()
        change, distance = moved(points, attention, scores, 0.0), divergence(points, attention)
        if (change <= 0.05).any():
            assert distance[change <= 0.05].max() <= jsd + 1e-12
        near = change <= 0.05 + length * step * scores.abs().max() / 4
        assert distance[near].max() >= jsd - resolution


numbers = st.floats(-4, 4).map(lambda x: round(x, 2))


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any),
            st.lists(numbers, min_size=n, max_size=n),
        )
    ),
    numbers,
    st.sampled_from([0.001, 0.05, 0.6]),
)
def test_ties_zeros_and_equal_scores(
    row: tuple[list[int], list[float]], bias: float, epsilon: float
) -> None:
    weights, scores = (torch.tensor(each, dtype=torch.float64) for each in row)
    attention = weights / weights.sum()
    jsd = exact_adversary(attention[None], scores[None], bias, epsilon=epsilon)[1].item()
    assert jsd == pytest.approx(by_all_pairs(attention, scores, bias, epsilon), abs=1e-7)


@pytest.mark.parametrize("attention_is", ["uniform", "nearly uniform", "two values"])
def test_where_the_bound_leaves_many_pairs(attention_is: str) -> None:
    length = 150
    noise, scores = case(length, 0, 0.01)
    attention = {
        "uniform": torch.full_like(scores, 1 / length),
        "nearly uniform": noise,
        "two values": torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(length // 2) / 225,
    }[attention_is]
    jsd = exact_adversary(attention[None], scores[None], 0.0, epsilon=0.01)[1].item()
    assert jsd == pytest.approx(by_all_pairs(attention, scores, 0.0, 0.01), abs=1e-9)


def test_known_values() -> None:
    """docs/definitions.md; the last is two positions that the original leaves out."""
    two, three = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.0, 1.0, 0.0]])
    scores = torch.tensor([[2.0, -2.0]])
    for epsilon, expected in ((0.05, 0.0024), (0.01, 8.4e-5)):
        jsd = exact_adversary(two.double(), scores.double(), 0.0, epsilon=epsilon)[1].item()
        assert jsd == pytest.approx(expected, rel=0.03)
    found, jsd = exact_adversary(three, torch.tensor([[1.0, 0.0, -1.0]]), 0.0, epsilon=0.01)
    assert jsd.item() == pytest.approx(LN2) and found[0, 1] == 0
    everything = exact_adversary(two, scores, 0.0, epsilon=1.0)[0]
    assert torch.equal(everything, torch.tensor([[0.0, 1.0]]))


def test_masked_positions_do_not_exist() -> None:
    rows = [case(length, length) for length in (5, 9, 12)]
    attention, scores = torch.zeros(4, 12).double(), torch.full((4, 12), 7.0).double()
    for index, (own, values) in enumerate(rows):
        attention[index, : len(own)], scores[index, : len(own)] = own, values
    mask = attention > 0
    bias = torch.tensor([0.1, -0.2, 0.3, 0.0]).double()
    found, jsd = exact_adversary(attention, scores, bias, epsilon=0.02, mask=mask)
    for index, (own, values) in enumerate(rows):
        alone = exact_adversary(own[None], values[None], bias[index], epsilon=0.02)
        torch.testing.assert_close(found[index, : len(own)], alone[0][0])
        torch.testing.assert_close(jsd[index], alone[1][0])
    assert not found[~mask].any() and jsd[3].isnan() and not found[3].any()


@pytest.mark.parametrize("length", [3, 40, 70, 150])
def test_single_precision_loses_nothing_but_its_last_digits(length: int) -> None:
    for seed in range(6):
        for spread in (0.01, 1.5):  # nearly uniform rows leave many pairs
            attention, scores = (each.float() for each in case(length, seed, spread))
            jsd = exact_adversary(attention[None], scores[None] + 100, -100.0, epsilon=0.01)[1]
            wide = attention.double() / attention.double().sum(), scores.double()
            expected = by_all_pairs(*wide, 0.0, 0.01)
            assert jsd.dtype == torch.float32
            assert jsd.item() == pytest.approx(expected, abs=1e-4)  # 100 + s is rounded
            same = exact_adversary(attention[None], scores[None], 0.0, epsilon=0.01)[1]
            assert same.item() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precision(dtype: torch.dtype) -> None:
    attention, scores = (each[None].to(dtype) for each in case(20, 1))
    found, jsd = exact_adversary(attention, scores, 0.0, epsilon=0.05)
    assert found.dtype == jsd.dtype == dtype
    expected = jensen_shannon_divergence(found, attention)
    torch.testing.assert_close(jsd, expected, atol=2e-2 if dtype != torch.float32 else 1e-6, rtol=0)


ROW, SCORES = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, -1.0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((ROW[0], SCORES[0], 0.0), ValueError, r"attention must have shape \(B, L\)"),
        ((ROW, SCORES[:, :1], 0.0), ValueError, r"scores must have the shape of attention; got"),
        ((ROW.int(), SCORES, 0.0), TypeError, "attention must be floating point"),
        ((ROW * 2, SCORES, 0.0), ValueError, "attention must hold rows that sum to 1"),
        ((ROW, SCORES / 0, 0.0), ValueError, "scores and bias must be finite"),
        ((ROW, SCORES, torch.ones(3)), ValueError, r"bias must be a number or have shape \(1,\)"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        exact_adversary(*arguments, epsilon=0.01)


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf, "a", True])
def test_wrong_epsilon(epsilon: Any) -> None:
    with pytest.raises(ValueError, match="epsilon must be a number above 0; got"):
        exact_adversary(ROW, SCORES, 0.0, epsilon=epsilon)
