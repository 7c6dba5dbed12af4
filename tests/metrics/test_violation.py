"""Violation and polarity on planted models, in any batch, against the formula by hand."""

from __future__ import annotations

import math
from typing import Any

import planted
import pytest
import torch
from cases import Case
from scipy import stats
from torch import Tensor

from faithattn import (
    AdapterError,
    PolarityResult,
    ViolationResult,
    faithfulness_violation,
    leave_one_out_importance,
    memory_budget,
    polarity_agreement,
)
from faithattn.results.shares import chance_of_as_few, share_interval

TESTS = {"violation": faithfulness_violation, "polarity": polarity_agreement}
EACH = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
MASK: dict[str, Any] = {"removal": "mask_attention"}


def tensors(result: Any) -> dict[str, Tensor]:
    return {name: each for name, each in vars(result).items() if isinstance(each, Tensor)}


def assert_same(one: Any, other: Any, *, moved: int = 0) -> None:
    """Compares all values; positions may be moved by padding on the left."""
    others = tensors(other)
    for name, value in tensors(one).items():
        if name == "position":
            value = torch.where(value < 0, value, value - moved)
        torch.testing.assert_close(value, others[name], equal_nan=True, atol=1e-7, rtol=1e-7)


def test_f_a_suppressor_violates_in_every_instance() -> None:
    model, inputs = planted.suppressor()
    result = faithfulness_violation(model, inputs, target=1, **MASK)
    assert (result.violated == 1).all()
    assert torch.equal(result.position, inputs[0].argmax(1))
    torch.testing.assert_close(result.chance, torch.full((6,), 1 / 9, dtype=torch.float64))
    overall = result.summary().overall
    assert (overall.mean, overall.n, overall.undefined) == (1, 6, 0)
    other = faithfulness_violation(model, inputs, target=0, **MASK)
    assert (other.violated == 0).all(), "what speaks against one class supports the other"


def test_a_scores_of_the_right_sign_never_violate() -> None:
    model, (attention, scores, mask) = planted.faithful()
    inputs = (attention, scores, mask)
    signed = faithfulness_violation(model, inputs, explanation=attention * scores, **MASK)
    assert (signed.violated == 0).all() and (signed.chance == 0).all()
    top = scores.gather(1, attention.argmax(1, keepdim=True))[:, 0]
    bare = faithfulness_violation(model, inputs, **MASK)
    assert torch.equal(bare.violated, (top < 0).double()) and 0 < float(bare.violated.mean()) < 1
    turned = faithfulness_violation(model, inputs, explanation=-attention * scores, **MASK)
    assert (turned.violated == 1).all()
    right = polarity_agreement(model, inputs, explanation=attention * scores, **MASK)
    assert all((each == 1).all() for each in (right.agreement, right.weighted, right.top))
    assert (right.agreement_chance < 1).any()
    wrong = polarity_agreement(model, inputs, explanation=-attention * scores, **MASK)
    assert all((each == 0).all() for each in (wrong.agreement, wrong.weighted, wrong.top))


def test_b_nothing_violates_where_nothing_matters() -> None:
    model, (attention, scores, mask) = planted.indifferent()
    for dtype in (torch.float32, torch.float64):
        inputs = (attention.to(dtype), scores.to(dtype), mask)
        options: dict[str, Any] = {"removal": "mask_attention_renormalize"}
        result = faithfulness_violation(model, inputs, **options)
        assert (result.violated == 0).all() and (result.chance == 0).all()
        nothing = polarity_agreement(model, inputs, **options)
        assert nothing.agreement.isnan().all() and (nothing.positions == 0).all()
        assert nothing.summary().overall.undefined == 6


def test_e_independent_attention_violates_as_often_as_chance() -> None:
    model, inputs = planted.independent()
    result = faithfulness_violation(model, inputs, **MASK)
    notes = result.summary().notes
    assert notes["Wilson low"] < notes["a random position violates"] < notes["Wilson high"]
    assert 0.01 < notes["p of as few by chance"] < 0.99
    found = polarity_agreement(model, inputs, **MASK)
    error = (found.weighted - found.weighted_chance).std() / math.sqrt(3000)
    assert abs((found.weighted - found.weighted_chance).mean()) < 3 * error


def test_of_attention_the_unweighted_share_is_its_own_chance(case: Case) -> None:
    found = polarity_agreement(case.model, case.inputs)
    torch.testing.assert_close(found.agreement, found.agreement_chance)
    top = found.top_chance
    torch.testing.assert_close(top, found.agreement_chance)


def test_the_formula_by_hand(case: Case) -> None:
    signed = leave_one_out_importance(case.model, case.inputs, signed=True)
    run = case.model.run(case.inputs)
    weights = next(iter(run.attention.values()))
    result = faithfulness_violation(case.model, case.inputs)
    for row in range(case.size):
        at = int(weights[row].masked_fill(~run.mask[row], -1).argmax())
        assert result.position[row] == at
        assert result.violated[row] == float(signed[row, at] < 0)
        assert float(result.change[row]) == pytest.approx(float(signed[row, at]), abs=1e-12)
        own = signed[row][run.mask[row]]
        assert float(result.chance[row]) == pytest.approx(float((own < 0).double().mean()))


@EACH
def test_padding_batches_and_memory_do_not_matter(case: Case, test: Any) -> None:
    expected = test(case.model, case.inputs)
    for side in case.sides:
        wide = test(case.model, case.pad(case.inputs, 3, side == "left"))
        assert_same(wide, expected, moved=3 if side == "left" else 0)
    parts = [test(case.model, case.take(part)) for part in ([0, 1], [2], [3, 4])]
    assert_same(type(expected).concatenate(parts), expected)
    with memory_budget(1e-3):
        assert_same(test(case.model, case.inputs), expected)


@EACH
def test_scores_of_ones_own(test: Any, text_case: Case) -> None:
    case = text_case
    weights = next(iter(case.model.run(case.inputs).attention.values())).detach()
    given = test(case.model, case.inputs, explanation=weights)
    assert given.explanation == "given scores"
    assert_same(given, test(case.model, case.inputs))
    garbage = weights.masked_fill(~case.model.run(case.inputs).mask, math.nan)
    assert_same(test(case.model, case.inputs, explanation=garbage), given)


@EACH
def test_what_cannot_be_measured(test: Any, text_case: Case) -> None:
    model, inputs = text_case.model, text_case.inputs
    with pytest.raises(ValueError, match="removal must be one of delete"):
        test(model, inputs, removal="hide")
    with pytest.raises(ValueError, match="explanation must"):
        test(model, inputs, explanation=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="target must be a class from 0 to 1"):
        test(model, inputs, target=2)
    with pytest.raises(AdapterError, match="model must have a remove"):
        test(*planted.faithful())
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        polarity_agreement(model, inputs, k=0)


def test_a_text_of_one_position_is_undefined_under_deletion() -> None:
    x = torch.tensor([[[0.3, 1.0, -2.0, 0.5]]], dtype=torch.float64)
    inputs = {"x": x, "mask": torch.ones(1, 1, dtype=torch.bool)}
    result = faithfulness_violation(planted.Bag(), inputs)
    assert result.violated.isnan().all() and result.position.tolist() == [-1]
    assert result.records()[0]["violated"] is None
    notes = result.summary().notes
    assert all(math.isnan(value) for value in notes.values())
    assert polarity_agreement(planted.Bag(), inputs).weighted.isnan().all()


def test_results_join_only_with_their_like(text_case: Case) -> None:
    model, inputs = text_case.model, text_case.inputs
    deleted = faithfulness_violation(model, inputs)
    masked = faithfulness_violation(model, inputs, **MASK)
    with pytest.raises(ValueError, match="results must share their settings; got removal"):
        ViolationResult.concatenate([deleted, masked])
    two, three = (polarity_agreement(model, inputs, k=k) for k in (2, 3))
    with pytest.raises(ValueError, match="results must share their settings; got k"):
        PolarityResult.concatenate([two, three])
    assert "top 2" in two.summary().notes


def test_intervals_and_tails_against_scipy() -> None:
    flags = torch.tensor([1.0, 0, 0, 1, math.nan, 0, 0, 0])
    found = stats.binomtest(2, 7).proportion_ci(method="wilson")
    assert share_interval(flags) == pytest.approx((found.low, found.high))
    even = torch.full((8,), 0.3).double()
    assert chance_of_as_few(flags, even) == pytest.approx(stats.binom.cdf(2, 7, 0.3))
    mixed = torch.tensor([0.1, 0.9, 0.5]).double()
    none = 0.9 * 0.1 * 0.5
    assert chance_of_as_few(torch.zeros(3), mixed) == pytest.approx(none)
    one = none + 0.1 * 0.1 * 0.5 + 0.9 * 0.9 * 0.5 + 0.9 * 0.1 * 0.5
    assert chance_of_as_few(torch.tensor([0.0, 1, 0]), mixed) == pytest.approx(one)
    assert math.isnan(share_interval(torch.full((2,), math.nan))[0])
