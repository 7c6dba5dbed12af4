"""Every explanation by every metric, in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torch import Tensor

from faithattn.adapters.view import AttentionView, check_view
from faithattn.errors import reason_of
from faithattn.explanations.given import Explanation
from faithattn.explanations.kinds import kind_of
from faithattn.importance.leave_one_out import Removal, check_removal
from faithattn.metrics.scores.people import marked
from faithattn.metrics.scores.question import Question, Score
from faithattn.metrics.scores.table import SCORES
from faithattn.results.comparison.comparison import NOT_ATTENTION, Comparison

Explained: TypeAlias = "Explanation | Callable[[Any, Any], Tensor]"
EXPLANATIONS = (
    "attention",
    "gradient_attention",
    "gradient_importance",
    "integrated_gradients",
    "leave_one_out",
    "random",
)


def compare_explanations(
    model: object,
    inputs: Any,
    *,
    explanations: Sequence[str] | Mapping[str, Explained] = EXPLANATIONS,
    metrics: Sequence[str | Score] | None = None,
    removal: Removal = "delete",
    rationale: Tensor | Sequence[Sequence[Any]] | None = None,
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> Comparison:
    """Every explanation by every metric, with intervals, times and undefined counts.

    What fails, such as an attribution that the model does not allow, leaves
    its cells empty and says why; the rest of the table stands.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanations: Names that :func:`explain` knows, Captum's methods among
            them, or a mapping from names of your own to such names, to scores
            ``(B, L)``, or to functions ``(model, inputs) -> (B, L)``. The
            default holds attention beside gradients, removal, integrated
            gradients and random scores.
        metrics: Names, or :class:`Score` objects of your own; None takes all
            that apply.
        removal: How positions are taken away; see
            :func:`leave_one_out_importance`.
        rationale: What people hold to be the reason, which the metrics of
            plausibility need: ``(B, L)`` bool, or a list of spans or
            positions for each instance, as :func:`rationale_mask` takes.
        view: Which attention is meant; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        seed: Seed of whatever is drawn.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.

    Returns:
        The values of every cell, one an instance, which print, draw and
        summarise themselves.

    Raises:
        AdapterError: If the model itself cannot be read.
        TypeError: If an argument has the wrong type.
        ValueError: If the name of an explanation or a metric is unknown, or
            there is nothing to compare.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> found = compare_explanations(TextClassifier(9), ids, metrics=["loo_correlation"])
        >>> found.values["attention", "loo_correlation"].shape
        torch.Size([2])
    """
    named = _named(explanations)
    scores = _chosen(metrics, rationale is not None)
    check_view(view)
    removed = check_removal(removal)
    asked = Question(
        model,
        inputs,
        view=view,
        target=target,
        removal=removal,
        seed=seed,
        instances=instances,
    )
    mask = asked.reading.rows.mask
    if rationale is not None:
        asked = replace(asked, rationale=marked(rationale, mask))
    table = _Table(asked)
    for name, explanation in named.items():
        table.explain(name, explanation)
    for score in scores:
        table.judge(score)
    return Comparison(
        tuple(named),
        tuple(score.column for score in scores),
        table.values,
        table.all_reasons(scores),
        table.seconds,
        table.metric_seconds,
        str(asked.reading.rows.view),
        removed,
        scores={name: (each.scores.cpu(),) for name, each in table.questions.items()},
        size=len(mask),
    )


@dataclass
class _Table:
    """The cells as they are filled."""

    asked: Question
    questions: dict[str, Question] = field(default_factory=dict)
    values: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    metric_seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def explain(self, name: str, given: Explained) -> None:
        """Computes the scores of one explanation."""
        start, asked = time.perf_counter(), self.asked
        try:
            ready = given if isinstance(given, str | Tensor) else given(asked.model, asked.inputs)
            question = replace(asked, explanation=ready)
            _ = question.scores
            self.questions[name] = question
        except Exception as error:  # whatever a method raises is the reason of an empty row
            self.failed[name] = reason_of(error)
        self.seconds[name] = time.perf_counter() - start

    def judge(self, score: Score) -> None:
        """Fills the column of one metric."""
        start = time.perf_counter()
        for name, question in self.questions.items():
            cell = (name, score.name)
            attention = isinstance(question.explanation, str) and (
                question.explanation == "attention"
            )
            if score.attention_only and not attention:
                self.reasons[cell] = NOT_ATTENTION
                continue
            try:
                self.values[cell] = score.values(question)
            except Exception as error:  # as above, for one cell
                self.reasons[cell] = reason_of(error)
        self.metric_seconds[score.name] = time.perf_counter() - start

    def all_reasons(self, scores: Sequence[Score]) -> dict[tuple[str, str], str]:
        """Why cells are missing, those of explanations that failed among them."""
        failed = {
            (name, score.name): reason for name, reason in self.failed.items() for score in scores
        }
        return {**failed, **self.reasons}


def _named(explanations: object) -> dict[str, Explained]:
    """The explanations by name."""
    if isinstance(explanations, Mapping):
        named = dict(explanations)
    elif isinstance(explanations, str | Tensor) or not isinstance(explanations, Sequence):
        got = "a string" if isinstance(explanations, str) else type(explanations).__name__
        raise TypeError(
            "explanations must be several names, or a mapping from names to scores; "
            f"got {got}. Pass ['attention'], or {{'mine': scores}}."
        )
    else:
        named = {each if isinstance(each, str) else "": each for each in explanations}
    wrong = [each for each in named if not isinstance(each, str) or not each]
    if wrong or not named:
        raise ValueError(
            f"explanations must have names; got {wrong[0] if wrong else 'none'!r}. "
            "Pass a mapping, as in {'mine': scores}."
        )
    for name, each in named.items():
        if not isinstance(each, str | Tensor) and not callable(each):
            raise TypeError(
                "explanations must be names, scores (B, L) or functions; "
                f"got {type(each).__name__} for {name!r}. Convert it with torch.as_tensor."
            )
        if isinstance(each, str):
            kind_of(each, argument="explanations")  # an unknown name is a slip, no failure
    return named


def _chosen(metrics: Sequence[str | Score] | None, rationale: bool) -> list[Score]:
    """The metrics that are asked for; without a rationale, by default those that need none."""
    if metrics is None:
        usual = [each for each in SCORES.values() if each.by_default]
        return [each for each in usual if rationale or each.kind != "plausibility"]
    if isinstance(metrics, str | Score) or not isinstance(metrics, Sequence) or not metrics:
        raise TypeError(
            f"metrics must be several names or scores, or None for all; got {metrics!r}. "
            "Pass ['loo_correlation']."
        )
    unknown = [each for each in metrics if not isinstance(each, Score) and each not in SCORES]
    if unknown:
        raise ValueError(
            f"metrics must be among {', '.join(SCORES)}, or Score objects; got {unknown[0]!r}. "
            "Leave metrics out for all."
        )
    chosen = [each if isinstance(each, Score) else SCORES[each] for each in metrics]
    names = [each.name for each in chosen]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"metrics must be named once each; got {twice[0]!r} twice. Drop one.")
    blind = [each.name for each in chosen if each.kind == "plausibility"]
    if blind and not rationale:
        raise ValueError(
            f"rationale must be given for {blind[0]}; got None. Pass (B, L) bool, True at the "
            "positions that people hold to be the reason."
        )
    return chosen
