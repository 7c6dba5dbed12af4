"""Scores in an audit: those of a comparison, and what they share."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
import torch
from torch import Tensor

from faithattn import Question, Score, compare_explanations
from faithattn.audits.batch import Batch
from faithattn.audits.measuring.measure import measure
from faithattn.audits.measuring.metrics import METRICS
from faithattn.audits.measuring.plan import Plan
from faithattn.metrics.scores.table import SCORES

SEED = 3
NAMES = [name for name in SCORES if name not in METRICS]
IDS = torch.tensor([3, 1, 4, 15, 9])


def evidence(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) % 3 == 1) & mask


def test_scores_are_those_of_a_comparison() -> None:
    case = cases.make_case("text-cnn-scaled_dot")
    rationale = evidence(case.model.run(case.inputs).mask)
    expected = compare_explanations(
        case.model,
        case.inputs,
        explanations=["attention", "random"],
        metrics=NAMES,
        rationale=rationale,
        seed=SEED,
        instances=IDS,
    )
    batch = Batch(case.inputs, rationale=rationale)
    part = measure(case.model, batch, IDS, Plan.of(NAMES, None, SEED))
    for name in NAMES:
        for explanation, column in (("attention", "value"), ("random", "random")):
            values = expected.values[explanation, name].double().numpy()
            np.testing.assert_array_equal(part.columns[f"{name}.{column}"], values, err_msg=name)
    assert not part.failures and set(part.seconds) == set(NAMES)


class Counting:
    """An adapter that counts the texts that it deletes from."""

    output = "sigmoid"

    def __init__(self, inner: Any) -> None:
        self.inner, self.deleted = inner, 0

    def run(self, inputs: Any, **given: Any) -> Any:
        return self.inner.run(inputs, **given)

    def replay(self, state: Any, attention: Any) -> Tensor:
        return self.inner.replay(state, attention)

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        self.deleted += len(positions)
        return self.inner.remove(inputs, positions)


def test_one_leave_one_out_serves_the_correlation_and_both_signs() -> None:
    case = cases.make_case("bag")
    names = ["loo_correlation", "faithfulness_violation", "polarity_agreement"]
    model = Counting(case.model)
    together = measure(model, Batch(case.inputs), IDS, Plan.of(names))
    positions = int(case.inputs["mask"].sum())
    assert positions - 3 <= model.deleted <= positions
    for name in names:
        alone = measure(case.model, Batch(case.inputs), IDS, Plan.of(name))
        for key in alone.columns:
            np.testing.assert_array_equal(together.columns[key], alone.columns[key])


def test_a_rationale_is_needed_where_people_are_asked() -> None:
    case = cases.make_case("bag")
    plan = Plan.of(["token_f1", "permutation_test"])
    part = measure(case.model, Batch(case.inputs), IDS, plan, record=True)
    assert part.failures == {
        "token_f1": "ValueError: rationale must be given; got None. Pass (B, L) bool."
    }
    with pytest.raises(ValueError, match="rationale must have the shape of the mask"):
        wrong = Batch(case.inputs, rationale=torch.ones(5, 2) > 0)
        measure(case.model, wrong, IDS, plan, record=True)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda _: torch.zeros(3), r"values of a metric must have shape \(5,\).* got \(3,\)"),
        (lambda _: 0.5, "TypeError: values of a metric must be a torch.Tensor; got float"),
    ],
)
def test_a_score_of_ones_own_must_fit(compute: Any, message: str) -> None:
    case = cases.make_case("bag")
    plan = Plan.of(Score("own", "mine", True, compute=compute))
    part = measure(case.model, Batch(case.inputs), IDS, plan, record=True)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(part.failures["own"])


def test_a_score_that_changes_attention_has_no_control() -> None:
    case = cases.make_case("bag")

    def half(question: Question) -> Tensor:
        return question.scores.amax(-1).bfloat16()

    score = Score("half", "half precision", True, attention_only=True, compute=half)
    part = measure(case.model, Batch(case.inputs), IDS, Plan.of(score))
    assert "half.random" not in part.columns
    np.testing.assert_allclose(part.columns["half.value"], part.columns["max_attention"], atol=4e-3)
