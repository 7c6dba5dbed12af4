"""Agreement of an explanation with gradients and with what removal does."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.importance.gradient import gradient_importance
from faithattn.importance.leave_one_out import leave_one_out_of
from faithattn.measures.rank import Tolerance, rank_correlation
from faithattn.measures.signs import sign_agreement, top_signs
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.scores.question import (
    GRADIENT,
    LEAVE_ONE_OUT,
    SIGNED_LEAVE_ONE_OUT,
    Question,
)


def gradient_tau(question: Question) -> Tensor:
    """Kendall's tau with gradient importance, ``(B,)``."""

    def compute() -> Tensor:
        return gradient_importance(
            question.model, question.inputs, view=question.view, target=question.target
        )

    return _tau(question, question.once(GRADIENT, compute), "auto")


def loo_tau(question: Question) -> Tensor:
    """Kendall's tau with leave-one-out importance, ``(B,)``."""
    return _tau(question, _leave_one_out(question, signed=False), _noise(question))


def violation(question: Question) -> Tensor:
    """Whether the top position works against its sign, ``(B,)`` 0 or 1."""
    effects = _leave_one_out(question, signed=True).to(question.scores.dtype)
    mask = question.reading.rows.mask
    return top_signs(question.scores, effects, mask, _noise(question)).violated


def polarity(question: Question) -> Tensor:
    """Share of the weight whose sign is that of the effect, ``(B,)``."""
    effects = _leave_one_out(question, signed=True).to(question.scores.dtype)
    mask = question.reading.rows.mask
    return sign_agreement(question.scores, effects, mask, _noise(question), 1).weighted


def _leave_one_out(question: Question, *, signed: bool) -> Tensor:
    def compute() -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return leave_one_out_of(
                question.reading, question.removal, question.target, signed=signed
            )

    return question.once(SIGNED_LEAVE_ONE_OUT if signed else LEAVE_ONE_OUT, compute)


def _noise(question: Question) -> float:
    return output_noise(question.reading.run.logits.dtype)


def _tau(question: Question, importance: Tensor, noise: Tolerance) -> Tensor:
    scores = question.scores
    return rank_correlation(
        scores,
        importance.to(scores.dtype),
        mask=question.reading.rows.mask,
        tie_tolerance=("auto", noise),
    ).statistic
