"""Agreement with people: plausibility, not faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from faithattn._checks import require_flags
from faithattn.measures.rationale import rationale_mask
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


def marked(rationale: Tensor | Sequence[Sequence[Any]], mask: Tensor) -> Tensor:
    """The rationale as flags of the mask's shape and device."""
    if not isinstance(rationale, Tensor):
        return rationale_mask(rationale, mask.shape).to(mask.device)
    return require_flags("rationale", rationale, "the mask", mask, "relevant")
