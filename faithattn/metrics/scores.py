"""Every metric as one number an instance, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, scores_of
from faithattn.measures.rank import Tolerance, rank_correlation
from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import gradient_correlation, loo_correlation, output_noise
from faithattn.metrics.permutation import permutation_test
from faithattn.results.correlation import Correlation


@dataclass(frozen=True, eq=False)
class Question:
    """What a metric is asked: a model, inputs, and an explanation of what it does.

    Attributes:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes, B instances.
        explanation: ``"attention"``, another name, or scores ``(B, L)``.
        view: Which attention is meant.
        target: Class to explain; None is the prediction.
        seed: Seed of random draws.
        instances: Ids ``(B,)`` of the rows.
        evidence: True at the positions that people call the reason, ``(B, L)``.
    """

    model: object
    inputs: Any
    explanation: Explanation = "attention"
    view: AttentionView | None = None
    target: int | Tensor | None = None
    seed: int | None = None
    instances: Tensor | None = None
    evidence: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """A metric as one number an instance.

    Attributes:
        name: Its name in tables and options.
        title: Its name in words.
        larger_is_faithful: Whether a larger number speaks for the explanation.
        kind: ``"faithfulness"`` or ``"plausibility"``.
        attention_only: Whether it judges a model's attention as such, not any
            explanation it is given.
        compute: Maps a question to values ``(B,)``, nan where undefined.
    """

    name: str
    title: str
    larger_is_faithful: bool
    kind: str
    attention_only: bool
    compute: Callable[[Question], Tensor]


def _gradient(question: Question) -> Tensor:
    result = gradient_correlation(
        question.model, question.inputs, view=question.view, target=question.target
    )
    return _agreement(question, result, "auto")


def _loo(question: Question, removal: str) -> Tensor:
    result = loo_correlation(
        question.model,
        question.inputs,
        removal=removal,
        view=question.view,
        target=question.target,
    )
    return _agreement(question, result, output_noise(result.importance.dtype))


def _agreement(question: Question, result: Correlation, tolerance: Tolerance) -> Tensor:
    """Tau of the explanation in question, where it is not the attention itself."""
    if isinstance(question.explanation, str) and question.explanation == "attention":
        return result.statistic
    with torch.no_grad():
        reading = read(question.model, question.inputs, question.view)
        scores = scores_of(reading, question.explanation)
    importance = result.importance.to(scores.dtype)
    return rank_correlation(
        scores, importance, mask=result.mask, tie_tolerance=("auto", tolerance)
    ).statistic


def _permutation(question: Question) -> Tensor:
    return permutation_test(
        question.model,
        question.inputs,
        seed=question.seed,
        instances=question.instances,
        view=question.view,
    ).median_tvd


def _adversary(question: Question) -> Tensor:
    return adversarial_attention(
        question.model,
        question.inputs,
        n_adversaries=1,
        seed=question.seed,
        instances=question.instances,
        view=question.view,
    ).max_jsd


_ALL = (
    Score(
        "gradient_correlation",
        "tau with gradients",
        larger_is_faithful=True,
        kind="faithfulness",
        attention_only=False,
        compute=_gradient,
    ),
    Score(
        "loo_correlation_delete",
        "tau with leave-one-out, deleting",
        larger_is_faithful=True,
        kind="faithfulness",
        attention_only=False,
        compute=lambda question: _loo(question, "delete"),
    ),
    Score(
        "loo_correlation_mask_attention",
        "tau with leave-one-out, weight set to 0",
        larger_is_faithful=True,
        kind="faithfulness",
        attention_only=False,
        compute=lambda question: _loo(question, "mask_attention"),
    ),
    Score(
        "permutation_test",
        "output change when shuffled",
        larger_is_faithful=True,
        kind="faithfulness",
        attention_only=True,
        compute=_permutation,
    ),
    Score(
        "adversarial_attention",
        "divergence of an adversary",
        larger_is_faithful=False,
        kind="faithfulness",
        attention_only=True,
        compute=_adversary,
    ),
)

SCORES: dict[str, Score] = {score.name: score for score in _ALL}
