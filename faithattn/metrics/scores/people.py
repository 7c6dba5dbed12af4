"""Agreement with people: plausibility, not faithfulness."""

from __future__ import annotations

from torch import Tensor

from faithattn.metrics.plausibility import rationale_agreement
from faithattn.metrics.scores.question import Question
from faithattn.results.plausibility import Plausibility


def precision(question: Question) -> Tensor:
    """Average precision of the rationale, ``(B,)``."""
    return _agreement(question).average_precision


def mass(question: Question) -> Tensor:
    """Share of the weight on the rationale, ``(B,)``."""
    return _agreement(question).rationale_mass


def f1(question: Question) -> Tensor:
    """Token F1 of as many positions as the rationale has, ``(B,)``."""
    return _agreement(question).f1


def _agreement(question: Question) -> Plausibility:
    def compute() -> Plausibility:
        if question.rationale is None:
            raise ValueError("rationale must be given; got None. Pass (B, L) bool.")
        mask = question.reading.rows.mask
        return rationale_agreement(question.scores, question.rationale, mask=mask)

    return question.own("agreement", compute)
