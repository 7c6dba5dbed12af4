"""Every metric as one number an instance, so that all of them can be put to one question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, scores_of
from faithattn.importance.gradient import gradient_importance
from faithattn.importance.leave_one_out import Removal, leave_one_out_of
from faithattn.measures.rank import Tolerance, rank_correlation
from faithattn.measures.signs import sign_agreement, top_signs
from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.permutation import permutation_test
from faithattn.metrics.plausibility import rationale_agreement
from faithattn.results.comparison.comparison import Column
from faithattn.results.plausibility import Plausibility

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Question:
    """An explanation of one batch, and how the metrics are to look at it.

    What does not depend on the explanation is computed once:
    ``dataclasses.replace(question, explanation=other)`` shares it.

    Attributes:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name that ``explain`` knows, or scores ``(B, L)``.
        view: Which attention is meant; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        removal: How positions are taken away.
        seed: Seed of whatever is drawn.
        instances: Ids ``(B,)`` of the rows; default ``arange(B)``.
        evidence: What people hold to be the reason, ``(B, L)`` bool.
    """

    model: object
    inputs: Any
    explanation: Explanation = "attention"
    view: AttentionView | None = None
    target: int | Tensor | None = None
    removal: Removal = "delete"
    seed: int = 0
    instances: Tensor | None = None
    evidence: Tensor | None = None
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, compute: Callable[[], Found]) -> Found:
        """What is the same for every explanation, computed at the first call."""
        if name not in self._known:
            self._known[name] = compute()
        found: Found = self._known[name]
        return found

    @property
    def reading(self) -> Reading:
        """The model's run, without gradients."""

        def run() -> Reading:
            with torch.inference_mode(False), torch.no_grad():
                return read(self.model, self.inputs, self.view, replay=1)

        return self.once("reading", run)

    @property
    def scores(self) -> Tensor:
        """The explanation as scores ``(B, L)``, 0 outside the mask."""
        if isinstance(self.explanation, Tensor):
            return scores_of(self.reading, self.explanation)
        name = self.explanation
        return self.once(f"scores of {name}", lambda: scores_of(self.reading, name))


@dataclass(frozen=True)
class Score(Column):
    """A metric as one number an instance; what it is called is that of :class:`Column`.

    Attributes:
        compute: The values ``(B,)`` of a question; nan where undefined.
    """

    compute: Callable[[Question], Tensor] = field(kw_only=True)

    @property
    def column(self) -> Column:
        """What the metric is called, without how it is computed."""
        return Column(**{each.name: getattr(self, each.name) for each in fields(Column)})


def _gradient_correlation(question: Question) -> Tensor:
    def compute() -> Tensor:
        return gradient_importance(
            question.model, question.inputs, view=question.view, target=question.target
        )

    return _tau(question, question.once("gradient", compute), "auto")


def _loo_correlation(question: Question) -> Tensor:
    def compute() -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return leave_one_out_of(question.reading, question.removal, question.target)

    noise = output_noise(question.reading.run.logits.dtype)
    return _tau(question, question.once("leave one out", compute), noise)


def _tau(question: Question, importance: Tensor, noise: Tolerance) -> Tensor:
    scores = question.scores
    return rank_correlation(
        scores,
        importance.to(scores.dtype),
        mask=question.reading.rows.mask,
        tie_tolerance=("auto", noise),
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


def _violation(question: Question) -> Tensor:
    mask, noise = question.reading.rows.mask, output_noise(question.reading.run.logits.dtype)
    return top_signs(question.scores, _effects(question), mask, noise).violated


def _polarity(question: Question) -> Tensor:
    mask, noise = question.reading.rows.mask, output_noise(question.reading.run.logits.dtype)
    return sign_agreement(question.scores, _effects(question), mask, noise, 1).weighted


def _effects(question: Question) -> Tensor:
    """How far the probability of the class falls without each position."""

    def compute() -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            return leave_one_out_of(
                question.reading, question.removal, question.target, signed=True
            )

    return question.once("signed leave one out", compute).to(question.scores.dtype)


def _agreement(question: Question) -> Plausibility:
    if question.evidence is None:
        raise ValueError("evidence must be given; got None. Pass (B, L) bool.")
    mask = question.reading.rows.mask
    return rationale_agreement(question.scores, question.evidence, mask=mask)


_ALL = (
    Score("gradient_correlation", "tau with gradients", True, compute=_gradient_correlation),
    Score("loo_correlation", "tau with leave-one-out", True, compute=_loo_correlation),
    Score(
        "permutation_test",
        "median TVD of shuffles",
        True,
        attention_only=True,
        compute=_permutation,
    ),
    Score("adversarial_attention", "eps-max JSD", False, attention_only=True, compute=_adversary),
    Score("faithfulness_violation", "share of violations", False, compute=_violation),
    Score("polarity_agreement", "weight of the right sign", True, compute=_polarity),
    Score(
        "average_precision",
        "average precision of the evidence",
        True,
        kind="plausibility",
        compute=lambda question: _agreement(question).average_precision,
    ),
    Score(
        "rationale_mass",
        "share of weight on the evidence",
        True,
        kind="plausibility",
        compute=lambda question: _agreement(question).rationale_mass,
    ),
    Score(
        "token_f1",
        "token F1 of as many positions as the evidence has",
        True,
        kind="plausibility",
        compute=lambda question: _agreement(question).f1,
    ),
)
SCORES: dict[str, Score] = {score.name: score for score in _ALL}
