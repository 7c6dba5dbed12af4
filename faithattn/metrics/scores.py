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
from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.permutation import permutation_test
from faithattn.results.comparison.comparison import Column

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
)
SCORES: dict[str, Score] = {score.name: score for score in _ALL}
