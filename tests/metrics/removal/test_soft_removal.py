"""Soft removal against a loop over draws, and against its mean where that is known."""

from __future__ import annotations

import math
from typing import Any

import planted
import pytest
import torch
from cases import Case, make_case
from torch import Tensor

from faithattn import SoftRemoval, memory_budget, soft_removal
from faithattn.measures.draws import element_shares


def slow(case: Case, row: int, scores: Tensor, seed: int, draws: int) -> dict[str, float]:
    """One text of the batch, run alone once for each draw and once for zeros."""
    ids = case.inputs[row][case.inputs[row] != 0][None]
    vectors = case.model.embedding(ids).detach()
    words = ((ids > 3) | (ids == 1))[0]
    kept = scores[row, : len(words)]
    low, high = kept[words].min(), kept[words].max()
    kept = (kept - low) / (high - low)

    def p(features: Tensor) -> float:
        with torch.no_grad():
            return float(case.model.run(ids, features={"embedding": features}).logits.sigmoid())

    positive = p(vectors)
    sign = 1 if positive > 0.5 else -1
    sufficient = comprehensive = 0.0
    for draw in range(draws):
        shares = element_shares(
            seed, torch.tensor([row]), torch.tensor([draw]), words[None], vectors.shape[-1]
        )
        keeps = shares < kept[:, None]
        first, second = vectors.clone(), vectors.clone()
        first[:, words] *= keeps[:, words]
        second[:, words] *= ~keeps[:, words]
        sufficient += 1 - max(0.0, sign * (positive - p(first)))
        comprehensive += max(0.0, sign * (positive - p(second)))
    nothing = vectors.clone()
    nothing[:, words] = 0
    baseline = 1 - max(0.0, sign * (positive - p(nothing)))
    sufficient, comprehensive = sufficient / draws, comprehensive / draws
    room = 1 - baseline
    return {
        "raw_sufficiency": sufficient,
        "raw_comprehensiveness": comprehensive,
        "baseline": baseline,
        "sufficiency": min(1, max(0, (sufficient - baseline) / room)) if room else math.nan,
        "comprehensiveness": min(1, comprehensive / room) if room else math.nan,
    }


@pytest.mark.parametrize("name", ["text-bilstm-additive", "text-average-additive"])
def test_each_draw_by_itself(name: str) -> None:
    case = make_case(name)
    found = soft_removal(case.model, case.inputs, n_samples=4, seed=7)
    with torch.no_grad():
        scores = case.model.run(case.inputs).attention["attention"]
    defined = 0
    for row in range(case.size):
        wanted = slow(case, row, scores, 7, 4)
        for key, value in wanted.items():
            got = float(getattr(found, key)[row])
            assert got == pytest.approx(value, abs=1e-9, nan_ok=True), key
        defined += not math.isnan(wanted["sufficiency"])
    assert defined >= 2


def test_the_mean_over_draws_of_a_linear_model() -> None:
    """Embeddings of one number: y = sum a_t s_t, of which each s_t stays with probability q_t."""
    weights = planted.rows(2, 5)
    inputs = planted.whole(weights, torch.ones_like(weights))
    scores = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0], [1.0, 0.0, 0.5, 0.5, 0.2]]).double()
    found = soft_removal(
        planted.Linear(), inputs, explanation=scores, n_samples=4000, seed=0, scale=False
    )
    kept = (weights * scores).sum(-1)  # of a sum of weights of 1; no drop is cut at 0
    torch.testing.assert_close(found.sufficiency, kept, atol=0.02, rtol=0)
    torch.testing.assert_close(found.comprehensiveness, kept, atol=0.02, rtol=0)
    # What goes is what stays, of the other one: the masks of a draw are complements.
    torch.testing.assert_close(found.raw_sufficiency, found.raw_comprehensiveness)


def test_whole_and_nothing() -> None:
    weights = planted.rows(3, 4)
    inputs = planted.whole(weights, torch.ones_like(weights))
    for value, wanted in ((1.0, 1.0), (0.0, 0.0)):
        scores = torch.full((3, 4), value).double()
        found = soft_removal(planted.Linear(), inputs, explanation=scores, scale=False, seed=0)
        for each in (found.sufficiency, found.comprehensiveness):
            assert each.tolist() == pytest.approx([wanted] * 3)


def test_what_has_no_scale_is_undefined() -> None:
    weights = planted.rows(3, 4)
    even = soft_removal(
        planted.Linear(),
        planted.whole(weights, torch.ones_like(weights)),
        explanation=torch.full((3, 4), 0.5),
        seed=0,
    )
    assert even.sufficiency.isnan().all() and even.comprehensiveness.isnan().all()
    no_worse = soft_removal(
        planted.Linear(), planted.whole(weights, -torch.ones_like(weights)), seed=0
    )
    assert no_worse.sufficiency.isnan().all() and no_worse.baseline.tolist() == [1.0] * 3
    assert no_worse.summary().overall.undefined == 3


def test_shares_are_uniform_and_a_function_of_their_place() -> None:
    ids, draws = torch.arange(50), torch.zeros(50, dtype=torch.long)
    valid = torch.ones(50, 8, dtype=torch.bool)
    shares = element_shares(0, ids, draws, valid, 30)
    assert ((shares > 0) & (shares < 1)).all()
    quantiles = shares.flatten().sort().values
    even = (torch.arange(len(quantiles)) + 0.5) / len(quantiles)
    assert (quantiles - even).abs().max() < 1.63 / len(quantiles) ** 0.5  # Kolmogorov, p = .01
    for other in (
        element_shares(1, ids, draws, valid, 30),
        element_shares(0, ids + 50, draws, valid, 30),
        element_shares(0, ids, draws + 1, valid, 30),
        shares.roll(1, 1),
        shares.roll(1, 2),
    ):
        both = torch.stack([shares.flatten(), other.flatten()])
        assert abs(float(both.corrcoef()[0, 1])) < 0.04
    some = element_shares(0, ids[[3, 9]], draws[:2], valid[:2], 12)
    assert torch.equal(some, shares[[3, 9], :, :12])
    left = torch.nn.functional.pad(valid, (2, 0))
    assert torch.equal(element_shares(0, ids, draws, left, 30)[:, 2:], shares)


def test_padding_batches_and_chunks_do_not_matter(case: Case) -> None:
    def run(inputs: Any, ids: list[int]) -> SoftRemoval:
        return soft_removal(case.model, inputs, n_samples=3, seed=1, instances=torch.tensor(ids))

    every = list(range(case.size))
    whole = run(case.inputs, every)
    with memory_budget(1e-6):
        again = [run(case.inputs, every)]
    again += [run(case.pad(case.inputs, 3, side == "left"), every) for side in case.sides]
    parts = [run(case.take(rows), rows) for rows in ([0, 1], [2, 3, 4])]
    again.append(SoftRemoval.concatenate(parts))
    for found in again:
        for key in ("sufficiency", "comprehensiveness", "baseline"):
            torch.testing.assert_close(
                getattr(found, key), getattr(whole, key), rtol=0, atol=1e-9, equal_nan=True
            )


def test_bad_arguments(text_case: Case) -> None:
    scores = torch.randn(text_case.size, text_case.width)
    with pytest.raises(ValueError, match=r"explanation must lie in 0\.\.1 for scale=False; got -"):
        soft_removal(text_case.model, text_case.inputs, explanation=scores, scale=False)
    with pytest.raises(ValueError, match="n_samples must"):
        soft_removal(text_case.model, text_case.inputs, n_samples=0)
