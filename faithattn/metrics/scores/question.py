"""A question to the metrics, and a metric as one number an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from faithattn._checks import require_tensor
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, scores_of
from faithattn.importance.leave_one_out import Removal
from faithattn.results.comparison.comparison import Column

Found = TypeVar("Found")
READING = "reading"  # what a question knows by these names is the same for every explanation
GRADIENT = "gradient"
LEAVE_ONE_OUT = "leave one out"
SIGNED_LEAVE_ONE_OUT = "signed leave one out"


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
        rationale: What people hold to be the reason, ``(B, L)`` bool.
    """

    model: object
    inputs: Any
    explanation: Explanation = "attention"
    view: AttentionView | None = None
    target: int | Tensor | None = None
    removal: Removal = "delete"
    seed: int = 0
    instances: Tensor | None = None
    rationale: Tensor | None = None
    _known: dict[str, Any] = field(default_factory=dict, repr=False)
    _own: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def once(self, name: str, compute: Callable[[], Found]) -> Found:
        """What is the same for every explanation, computed at the first call."""
        return _kept(self._known, name, compute)

    def own(self, name: str, compute: Callable[[], Found]) -> Found:
        """What several metrics need of this explanation, computed at the first call."""
        return _kept(self._own, name, compute)

    @property
    def reading(self) -> Reading:
        """The model's run, without gradients."""

        def run() -> Reading:
            with torch.inference_mode(False), torch.no_grad():
                return read(self.model, self.inputs, self.view, replay=1)

        return self.once(READING, run)

    @property
    def scores(self) -> Tensor:
        """The explanation as scores ``(B, L)``, 0 outside the mask."""

        def compute() -> Tensor:
            return scores_of(
                self.reading,
                self.explanation,
                target=self.target,
                seed=self.seed,
                instances=self.instances,
                removal=self.removal,
            )

        return self.own("scores", compute)


def _kept(known: dict[str, Any], name: str, compute: Callable[[], Found]) -> Found:
    if name not in known:
        known[name] = compute()
    found: Found = known[name]
    return found


@dataclass(frozen=True)
class Score(Column):
    """A metric as one number an instance; what it is called is that of :class:`Column`.

    Attributes:
        compute: The values ``(B,)`` of a question; nan where undefined.
        by_default: Whether it is asked where no metrics are named.

    Examples:
        >>> import torch
        >>> from faithattn import compare_explanations
        >>> from faithattn.paper.models import TextClassifier
        >>> def largest(question: Question) -> torch.Tensor:
        ...     return question.scores.amax(-1)
        >>> score = Score("largest", "largest score", True, compute=largest)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> found = compare_explanations(TextClassifier(9), ids, metrics=[score])
        >>> found.statistics("attention", "largest").n
        1
    """

    compute: Callable[[Question], Tensor] = field(kw_only=True)
    by_default: bool = field(default=True, kw_only=True)

    def values(self, question: Question) -> Tensor:
        """The values ``(B,)``, on the CPU, whoever wrote the metric.

        Raises:
            TypeError: If they are no tensor.
            ValueError: If they are not one an instance.
        """
        found = require_tensor("values of a metric", self.compute(question)).detach().cpu()
        size = len(question.reading.rows.mask)
        if found.shape != (size,):
            raise ValueError(
                f"values of a metric must have shape ({size},), one an instance; "
                f"got {tuple(found.shape)}. Put nan where there is none."
            )
        return found

    @property
    def column(self) -> Column:
        """What the metric is called, without how it is computed."""
        return Column(**{each.name: getattr(self, each.name) for each in fields(Column)})
