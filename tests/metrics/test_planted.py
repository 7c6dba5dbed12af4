"""Planted models A to F: what each test must say."""

from __future__ import annotations

import math

import oracles
import planted
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faithattn import (
    adversarial_attention,
    gradient_correlation,
    jensen_shannon_divergence,
    leave_one_out_importance,
    loo_correlation,
    permutation_test,
    rank_correlation,
)
from faithattn.planted import toys
from faithattn.statistics import null_spread


def test_a_faithful_attention_agrees_perfectly() -> None:
    model, inputs = planted.faithful()
    gradient = gradient_correlation(model, inputs)
    removed = loo_correlation(model, inputs, removal="mask_attention")
    ones = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(gradient.statistic, ones)
    torch.testing.assert_close(removed.statistic, ones)
    torch.testing.assert_close(gradient.importance, inputs[0])
    torch.testing.assert_close(removed.importance, inputs[0])
    assert gradient.summary().overall.significant == 1
    assert (permutation_test(model, inputs, seed=0).median_tvd > 0.01).all()


@pytest.mark.parametrize("size, length, seed", [(30, 3, 4), (1, 2, 0), (4, 30, 7)])
def test_a_truth_is_what_the_output_loses(size: int, length: int, seed: int) -> None:
    case = toys.faithful(size, length, seed=seed)
    attention, scores, _ = case.inputs
    logits = case.model.run(case.inputs).logits[:, 0]
    for position in range(length):
        without = attention.clone()
        without[:, position] = 0
        changed = case.model.run(case.inputs, attention={"row": without}).logits[:, 0]
        torch.testing.assert_close(logits - changed, case.truth[:, position])
    assert scores.abs().eq(1).all() and (length == 1 or (scores.std(-1) > 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_b_equal_values_make_attention_irrelevant(dtype: torch.dtype) -> None:
    model, (attention, scores, mask) = planted.indifferent()
    inputs = (attention.to(dtype), scores.to(dtype), mask)
    result = permutation_test(model, inputs, seed=0)
    assert float(result.tvd.max()) < (1e-6 if dtype == torch.float32 else 1e-15)
    assert (result.pvalue == 1).all()
    assert float(result.jsd.mean()) > 0.1
    found = adversarial_attention(model, inputs, seed=0)
    assert found.feasible.all()
    assert found.certified.all() and found.method == "exact"
    corner = torch.nn.functional.one_hot(attention.argmin(-1), attention.shape[1]).to(dtype)
    farthest = jensen_shannon_divergence(corner, inputs[0])
    torch.testing.assert_close(found.max_jsd, farthest, rtol=0, atol=1e-6)


def test_b_gradients_and_masking_see_weights_that_do_not_matter() -> None:
    # Both take the weight for the effect: what they say of B is wrong, and known to be.
    model, inputs = planted.indifferent()
    for result in (
        gradient_correlation(model, inputs),
        loo_correlation(model, inputs, removal="mask_attention"),
    ):
        assert (result.statistic == 1).all()
    renormalized = leave_one_out_importance(model, inputs, removal="mask_attention_renormalize")
    assert float(renormalized.max()) < 1e-15


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_c_two_positions_leave_no_room(epsilon: float) -> None:
    model, inputs = planted.two_positions()
    exact = oracles.two_position_adversary(0.7, (2.0, -2.0), epsilon)
    result = adversarial_attention(model, inputs, epsilon=epsilon, seed=0)
    # The oracle is a grid of steps of 5e-6.
    assert float(result.max_jsd) == pytest.approx(exact, abs=1e-6)
    assert bool(result.certified)


def test_d_two_halves_stand_in_for_the_middle() -> None:
    model, inputs = planted.three_positions()
    result = adversarial_attention(model, inputs, seed=0)
    assert float(result.max_jsd) == pytest.approx(math.log(2), abs=1e-9)


def test_e_independent_attention_has_the_null_distribution() -> None:
    model, inputs = planted.independent()
    result = loo_correlation(model, planted.whole(inputs[0], inputs[1]), removal="mask_attention")
    # What a removed weight does is a_t |s_t|; divided by a_t it is independent of a.
    independent = result.importance / inputs[0]
    torch.testing.assert_close(independent, inputs[1].abs())
    tau = rank_correlation(inputs[0], independent)
    spread, count = null_spread(10), len(tau.statistic)
    assert abs(float(tau.statistic.mean())) < 4 * spread / math.sqrt(count)
    assert float(tau.statistic.std()) == pytest.approx(spread, rel=0.05)
    assert float((tau.pvalue <= 0.05).double().mean()) == pytest.approx(0.05, abs=0.015)


@given(length=st.integers(3, 40), seed=st.integers(0, 2**31))
def test_f_is_predicted_positive_whatever_the_attention(length: int, seed: int) -> None:
    case = toys.suppressor(3, length, seed=seed)
    attention, scores, _ = case.inputs
    assert (case.model.run(case.inputs).logits > 0).all()
    assert torch.equal(scores.argmin(-1), attention.argmax(-1))
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, dtype=torch.float64))


def test_f_the_most_attended_position_pushes_the_output_down() -> None:
    model, inputs = planted.suppressor()
    attention = inputs[0]
    top = attention.argmax(-1)
    rows = torch.arange(len(top))
    removed = attention.clone()
    removed[rows, top] = 0
    before, after = (
        model.run(inputs, attention={"row": weights}).logits[:, 0]
        for weights in (attention, removed)
    )
    assert (after > before).all()
    change = leave_one_out_importance(model, inputs, removal="mask_attention")
    expected = (after.sigmoid() - before.sigmoid()).abs()
    torch.testing.assert_close(change[rows, top], expected)


def test_a_case_unpacks_to_model_and_inputs() -> None:
    case = toys.faithful(2, 4)
    model, inputs = case
    assert model is case.model and inputs is case.inputs
    assert case.truth.shape == (2, 4) and case.evidence is None and case.expected


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="length must be at least 3; got 2"):
        toys.suppressor(length=2)
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        toys.faithful(size=0)
