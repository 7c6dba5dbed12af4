"""Agreement of an explanation with what people say is the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class Plausibility(Result):
    """Agreement of an explanation with a rationale: plausible, which is not faithful.

    Of scores alone, without a model, ``predicted`` is -1, ``max_attention``
    and ``mass`` are nan.

    Attributes:
        average_precision: Of the positions ranked by score, ``(B,)``; nan, as
            all values, where nothing is marked, there are fewer than two
            positions or a score is nan.
        auroc: Probability that a marked position scores above another,
            ``(B,)``; nan where all are marked; .5 by chance.
        precision: Share of the k chosen positions that are marked, ``(B,)``.
        recall: Share of the marked positions that are chosen, ``(B,)``.
        f1: Harmonic mean of both, the published token F1, ``(B,)``.
        rationale_mass: Share of the positive scores on marked positions,
            ``(B,)``; nan also where no score is positive.
        span_f1: F1 of spans that match by half their union, ``(B,)``.
        average_precision_chance: Mean over all orders of the scores, exact.
        recall_chance: Likewise.
        f1_chance: Likewise.
        density: Share of the positions that are marked: the mean of
            ``precision`` and ``rationale_mass`` over all orders.
        outside: How many marked positions cannot be explained, ``(B,)``.
        k: How many positions are chosen; None for as many as are marked.
        explanation: Name of the explanation.
        grouped: Whether positions were summed by groups, such as words.

    Examples:
        >>> import torch
        >>> from faithattn import rationale_agreement
        >>> scores = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
        >>> result = rationale_agreement(scores, [[(1, 3)], [(2, 4)]])
        >>> result.average_precision, result.density
        (tensor([1.0000, 0.4167]), tensor([0.5000, 0.5000]))
    """

    average_precision: Tensor
    auroc: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    rationale_mass: Tensor
    span_f1: Tensor
    average_precision_chance: Tensor
    recall_chance: Tensor
    f1_chance: Tensor
    density: Tensor
    outside: Tensor
    k: int | None
    explanation: str
    grouped: bool

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "k", "explanation", "grouped")

    def summary(self) -> Summary:
        """Statistics of the average precision; means of the others and of chance in the notes."""
        named = {
            "average precision by chance": self.average_precision_chance,
            "AUROC": self.auroc,
            "precision": self.precision,
            "recall": self.recall,
            "recall by chance": self.recall_chance,
            "token F1": self.f1,
            "token F1 by chance": self.f1_chance,
            "span F1": self.span_f1,
            "mass on the rationale": self.rationale_mass,
            "precision and mass by chance": self.density,
        }
        notes = {name: float(value.nanmean()) for name, value in named.items()}
        if self.outside.any():
            notes["marked positions that cannot be explained"] = float(self.outside.sum())
        return summarize(
            "plausibility",
            f"average precision of the rationale, {self.explanation}",
            self.average_precision,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes=notes,
        )
