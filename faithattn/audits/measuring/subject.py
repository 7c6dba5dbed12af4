"""One batch under one view, as every metric of an audit is given it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from faithattn.adapters.reading import Reading
from faithattn.adapters.view import AttentionView
from faithattn.audits.measuring.shared import Shared
from faithattn.explanations.given import scores_of
from faithattn.importance.leave_one_out import Removal
from faithattn.results.correlation import Correlation

Values = dict[str, Tensor]  # by field, (B,) each


@dataclass
class Subject:
    """One batch under one view.

    Attributes:
        model: What the user gave.
        inputs: What it takes.
        shared: What metrics share.
        name: Name of the view.
        view: The view itself.
        seed: Seed of whatever is drawn.
        ids: Ids ``(B,)`` of the instances.
        target: Class to explain; None is the prediction.
        rationale: What people hold to be the reason.
        removal: How positions are taken away where a metric says nothing else.
        controls: Whether random and uniform explanations are measured, too.
        positions: Scores ``(B, L)`` that metrics leave to be kept, by name.
        correlations: Those that are done, by metric.
    """

    model: object
    inputs: Any
    shared: Shared
    name: str
    view: AttentionView | None
    seed: int
    ids: Tensor
    target: int | Tensor | None
    rationale: Tensor | None
    removal: Removal
    controls: bool
    positions: dict[str, Tensor] = field(default_factory=dict)
    correlations: dict[str, Correlation] = field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        """The model, run."""
        return self.shared.readings[self.name]

    def random(self, reading: Reading) -> Tensor:
        """Random scores ``(B, L)``, as :func:`explain` draws them."""
        return scores_of(reading, "random", seed=self.seed, instances=self.ids)
