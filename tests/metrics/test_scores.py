"""Every score is what the public function of its metric gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import cases
import pytest
import torch
from cases import Case
from torch import Tensor

import faithattn
from faithattn import (
    Column,
    Question,
    adversarial_attention,
    erasure_to_flip,
    faithfulness_violation,
    gradient_importance,
    infidelity,
    leave_one_out_importance,
    normalized_aopc,
    permutation_test,
    plausibility,
    polarity_agreement,
    rank_correlation,
    removal_curves,
    single_weight_erasure,
    soft_removal,
)
from faithattn.metrics.scores.table import SCORES

SEED = 5
IDS = torch.tensor([3, 1, 4, 15, 9])


def tau(case: Case, scores: Tensor, importance: Tensor, noise: Any) -> Tensor:
    mask = case.model.run(case.inputs).mask
    return rank_correlation(scores, importance, mask=mask, tie_tolerance=("auto", noise)).statistic


def curves(case: Case, scores: Tensor) -> Any:
    return removal_curves(case.model, case.inputs, explanation=scores, steps=20)


def soft(case: Case, scores: Tensor) -> Any:
    return soft_removal(case.model, case.inputs, explanation=scores, seed=SEED, instances=IDS)


def people(case: Case, scores: Tensor) -> Any:
    return plausibility(case.model, case.inputs, explanation=scores, rationale=evidence(case))


def evidence(case: Case) -> Tensor:
    mask = case.model.run(case.inputs).mask
    chosen = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    return chosen & mask


DRAWN = {"seed": SEED, "instances": IDS}
PUBLIC: dict[str, Callable[[Case, Tensor], Tensor]] = {
    "gradient_correlation": lambda case, scores: tau(
        case, scores, gradient_importance(case.model, case.inputs), "auto"
    ),
    "loo_correlation": lambda case, scores: tau(
        case, scores, leave_one_out_importance(case.model, case.inputs), 1e-13
    ),
    "permutation_test": lambda case, _: (
        permutation_test(case.model, case.inputs, **DRAWN).median_tvd
    ),
    "adversarial_attention": lambda case, _: (
        adversarial_attention(case.model, case.inputs, n_adversaries=1, **DRAWN).max_jsd
    ),
    "single_weight_erasure": lambda case, _: (
        single_weight_erasure(case.model, case.inputs, n_random=None).delta_change
    ),
    "erasure_to_flip": lambda case, scores: erasure_to_flip(
        case.model, case.inputs, orders=[scores]
    ).censored[:, 0],
    "comprehensiveness": lambda case, scores: curves(case, scores).aopc_comprehensiveness,
    "sufficiency": lambda case, scores: curves(case, scores).aopc_sufficiency,
    "log_odds": lambda case, scores: curves(case, scores).log_odds.mean(-1),
    "deletion_area": lambda case, scores: curves(case, scores).deletion_area,
    "insertion_area": lambda case, scores: curves(case, scores).insertion_area,
    "normalized_aopc": lambda case, scores: (
        normalized_aopc(case.model, case.inputs, explanation=scores).comprehensiveness
    ),
    "soft_comprehensiveness": lambda case, scores: soft(case, scores).comprehensiveness,
    "soft_sufficiency": lambda case, scores: soft(case, scores).sufficiency,
    "infidelity": lambda case, scores: (
        infidelity(case.model, case.inputs, explanation=scores, **DRAWN).infidelity
    ),
    "faithfulness_violation": lambda case, scores: (
        faithfulness_violation(case.model, case.inputs, explanation=scores).violated
    ),
    "polarity_agreement": lambda case, scores: (
        polarity_agreement(case.model, case.inputs, explanation=scores).weighted
    ),
    "average_precision": lambda case, scores: people(case, scores).average_precision,
    "rationale_mass": lambda case, scores: people(case, scores).rationale_mass,
    "token_f1": lambda case, scores: people(case, scores).f1,
}


@pytest.mark.parametrize("case_name", ["bag", "text-bilstm-additive"])
@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_the_metric(name: str, case_name: str) -> None:
    case, score = cases.make_case(case_name), SCORES[name]
    question = Question(case.model, case.inputs, seed=SEED, instances=IDS, rationale=evidence(case))
    if not score.attention_only:
        noise = torch.rand(case.size, case.width, generator=torch.Generator().manual_seed(2))
        question = replace(question, explanation=noise.double() - 0.3)
    expected = PUBLIC[name](case, question.scores)
    assert expected.shape == (case.size,) and not expected.isnan().all()
    torch.testing.assert_close(score.compute(question), expected, equal_nan=True)


def test_the_table_is_of_public_metrics_and_says_so() -> None:
    functions = {"sufficiency", "log_odds", "deletion_area", "insertion_area", "comprehensiveness"}
    functions |= {"soft_comprehensiveness", "soft_sufficiency", "rationale_mass", "token_f1"}
    for name, score in SCORES.items():
        assert score.name == name and (name in faithattn.__all__ or name in functions)
        assert isinstance(score, Column) and score.kind in ("faithfulness", "plausibility")
        assert {each.name for each in fields(score.column)} < {each.name for each in fields(score)}
    assert len({score.title for score in SCORES.values()}) == len(SCORES)
