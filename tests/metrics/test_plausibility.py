"""Plausibility of a model's explanation: where the rationale is, whatever the batch."""

from __future__ import annotations

from typing import Any

import planted
import pytest
import torch
from cases import Case
from torch import Tensor

from faithattn import Plausibility, plausibility, rationale_agreement, rationale_mask
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.batches import collate_questions, evidence_mask
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import QuestionAnswerer
from faithattn.paper.training import build

MARKS = [[(1, 3)], [2], [(3, 6), (4, 5)], [], [(0, 2)]]


def assert_same(one: Plausibility, other: Plausibility) -> None:
    for name, value in vars(other).items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(
                getattr(one, name), value, equal_nan=True, atol=1e-7, rtol=1e-7
            )


def marks(case: Case) -> Tensor:
    return rationale_mask(MARKS, (case.size, case.width))


def test_it_is_the_agreement_of_the_attention(case: Case) -> None:
    run = case.model.run(case.inputs)
    weights = next(iter(run.attention.values())).detach()
    result = plausibility(case.model, case.inputs, rationale=marks(case))
    alone = rationale_agreement(weights, marks(case), mask=run.mask)
    for name in ("average_precision", "f1", "rationale_mass", "span_f1", "outside"):
        torch.testing.assert_close(getattr(result, name), getattr(alone, name), equal_nan=True)
    assert result.average_precision.isnan()[3] and (result.predicted >= 0).all()
    assert result.explanation == "attention" and alone.view == "none"
    spans = plausibility(case.model, case.inputs, rationale=MARKS)
    torch.testing.assert_close(spans.auroc, result.auroc, equal_nan=True)


def test_padding_and_batches_do_not_matter(case: Case) -> None:
    expected = plausibility(case.model, case.inputs, rationale=marks(case))
    for side in case.sides:
        width = (3, 0) if side == "left" else (0, 3)
        wide = torch.nn.functional.pad(marks(case), width)
        padded = case.pad(case.inputs, 3, side == "left")
        assert_same(plausibility(case.model, padded, rationale=wide), expected)
    parts = [
        plausibility(case.model, case.take(part), rationale=marks(case)[part])
        for part in ([0, 1], [2], [3, 4])
    ]
    assert_same(Plausibility.concatenate(parts), expected)


def test_plausible_is_not_faithful() -> None:
    """Of one rationale, the false explanation may agree more than the true one."""
    model, (attention, scores, mask) = planted.suppressor()
    rationale = attention == attention.amax(1, keepdim=True)
    inputs: Any = (attention, scores, mask)
    shown = plausibility(model, inputs, rationale=rationale)
    true = plausibility(model, inputs, rationale=rationale, explanation=attention * scores)
    assert (shown.average_precision == 1).all() and (true.average_precision < 0.2).all()


def test_supporting_facts_of_a_story() -> None:
    data = generate_babi(1, n_train=3, n_dev=1, n_test=1)
    vocabulary = Vocabulary.build(each.tokens + each.question for each in data.train)
    inputs, _ = collate_questions(data.train, vocabulary, len(data.labels))
    model = build(lambda: QuestionAnswerer(len(vocabulary), len(data.labels)), seed=0)
    facts = evidence_mask(data.train, inputs["passage"].shape[1])
    result = plausibility(model, inputs, rationale=facts)
    sizes = torch.tensor([len(each.evidence) / len(each.tokens) for each in data.train])
    torch.testing.assert_close(result.density, sizes)
    assert (result.outside == 0).all()
    found = plausibility(model, inputs, rationale=facts, explanation=facts.float())
    for name in ("average_precision", "auroc", "f1", "span_f1", "rationale_mass"):
        assert (getattr(found, name)[sizes < 1].nan_to_num(1) == 1).all(), name


def test_what_cannot_be_compared(text_case: Case) -> None:
    with pytest.raises(ValueError, match="rationale must have the shape of explanation"):
        plausibility(text_case.model, text_case.inputs, rationale=torch.ones(5, 2).bool())
    one = plausibility(text_case.model, text_case.inputs, rationale=MARKS, k=2)
    other = plausibility(text_case.model, text_case.inputs, rationale=MARKS)
    with pytest.raises(ValueError, match="got k 2 and None"):
        Plausibility.concatenate([one, other])
