"""Signs of scores and effects against slow loops and the enumeration of all orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn.measures.signs import sign_agreement, top_signs
from faithattn.measures.tops import falling_ranks, first_by_rank

NAN = math.nan
NOISE = 1e-6
# Scores and effects of few levels, so that ties and zeros are common; True takes part.
ROW = st.lists(
    st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.booleans()), min_size=1, max_size=7
)


def tensors(row: list[tuple[int, int, bool]]) -> tuple[Tensor, Tensor, Tensor]:
    scores, effects, mask = zip(*row, strict=True)
    wide = {"dtype": torch.float64}
    return torch.tensor([scores], **wide), torch.tensor([effects], **wide), torch.tensor([mask])


def slow_top(row: list[tuple[int, int, bool]]) -> tuple[float, int, float]:
    """Flag, position and chance; nan and -1 where no score is other than 0."""
    real = [at for at, each in enumerate(row) if each[2]]
    if not any(row[at][0] for at in real):
        return NAN, -1, NAN
    top = max(real, key=lambda at: (abs(row[at][0]), -at))
    opposed = [at for at in real if row[at][0] * row[at][1] < 0]
    return float(top in opposed), top, len(opposed) / len(real)


def slow_shares(scores: list[int], effects: list[int], k: int) -> tuple[float, float, float]:
    """The three shares over positions that all have an effect."""
    right = [s * e > 0 for s, e in zip(scores, effects, strict=True)]
    if not right:
        return NAN, NAN, NAN
    total = sum(map(abs, scores))
    order = sorted(range(len(scores)), key=lambda at: (-abs(scores[at]), at))[:k]
    weighted = sum(abs(s) for s, good in zip(scores, right, strict=True) if good)
    return (
        sum(right) / len(right),
        weighted / total if total else NAN,
        sum(right[at] for at in order) / len(order),
    )


@given(ROW)
@settings(max_examples=150, deadline=None)
def test_the_top_of_a_row(row: list[tuple[int, int, bool]]) -> None:
    found = top_signs(*tensors(row), NOISE)
    violated, position, chance = slow_top(row)
    assert found.violated.item() == pytest.approx(violated, nan_ok=True)
    assert found.position.item() == position
    assert found.chance.item() == pytest.approx(chance, nan_ok=True)
    if position >= 0:
        assert (found.score.item(), found.effect.item()) == row[position][:2]


@given(ROW, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_shares_and_their_means_over_all_orders(row: list[tuple[int, int, bool]], k: int) -> None:
    found = sign_agreement(*tensors(row), NOISE, k)
    kept = [each for each in row if each[2] and each[1]]
    scores, effects = [each[0] for each in kept], [each[1] for each in kept]
    assert found.counted.item() == len(kept)
    values = [each.item() for each in found[:3]]
    assert values == pytest.approx(slow_shares(scores, effects, k), nan_ok=True)
    if len(kept) > 5:
        return
    # An order moves the scores: the top goes with them, ties included.
    orders = [slow_shares(list(each), effects, k) for each in itertools.permutations(scores)]
    means = [sum(each) / len(orders) for each in zip(*orders, strict=True)]
    chances = [each.item() for each in found[3:6]]
    assert chances[:2] == pytest.approx(means[:2], nan_ok=True)
    if len(set(map(abs, scores))) == len(scores):  # ties go to the lower position
        assert chances[2] == pytest.approx(means[2], nan_ok=True)


def test_effects_within_noise_are_none() -> None:
    scores = torch.tensor([[0.6, 0.4], [0.6, 0.4]])
    effects = torch.tensor([[-4e-7, -0.1], [-6e-7, 0.1]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    top = top_signs(scores, effects, mask, 5e-7)
    assert top.violated.tolist() == [0, 1] and top.chance.tolist() == [0.5, 0.5]
    assert sign_agreement(scores, effects, mask, 5e-7, 1).counted.tolist() == [1, 2]


def test_near_ties_of_the_top_go_to_the_first_position() -> None:
    scores = torch.tensor([[0.1, 0.4, 0.4000001, 0.1], [0.1, 0.4, 0.40001, 0.1]])
    effects = torch.tensor([[1.0, -1.0, 1.0, 1.0]]).expand(2, -1)
    found = top_signs(scores, effects, torch.ones(2, 4, dtype=torch.bool), NOISE)
    assert found.position.tolist() == [1, 2] and found.violated.tolist() == [1, 0]


def test_nan() -> None:
    scores = torch.tensor([[NAN, 0.4], [0.6, 0.4], [0.4, 0.6], [NAN, 0.6]])
    effects = torch.tensor([[1.0, -1.0], [NAN, -1.0], [NAN, -1.0], [NAN, -1.0]])
    mask = torch.tensor([[True, True], [True, True], [True, True], [False, True]])
    top = top_signs(scores, effects, mask, NOISE)
    assert top.violated.isnan().tolist() == [True, True, False, False]
    assert top.position.tolist() == [-1, -1, 1, 1]
    assert top.chance[2:].tolist() == [1, 1], "positions whose effect is unknown are left out"
    found = sign_agreement(scores, effects, mask, NOISE, 1)
    assert found.share.isnan().tolist() == [True, False, False, False]
    assert found.share_chance.isnan().tolist() == [True, False, False, False]


@given(ROW, st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_first_positions(row: list[tuple[int, int, bool]], k: int) -> None:
    scores, _, mask = tensors(row)
    found = first_by_rank(falling_ranks(scores, mask), mask, k)[0]
    real = [at for at, each in enumerate(row) if each[2]]
    wanted = sorted(real, key=lambda at: (-row[at][0], at))[:k]
    assert found.nonzero()[:, 0].tolist() == sorted(wanted)
