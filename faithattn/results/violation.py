"""Whether an explanation and the model agree on which way positions push the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.results.shares import chance_of_as_few, share_interval
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class ViolationResult(Result):
    """Whether the position held up as the reason pushes the output the other way.

    Attributes:
        violated: 1 where it does, 0 where not, ``(B,)``; nan where undefined.
        position: The position with the largest absolute score, ``(B,)``; -1
            where undefined.
        weight: Its score, ``(B,)``.
        change: How far the probability falls without it, ``(B,)``.
        chance: Share of all positions whose score and change have opposite
            signs, ``(B,)``: how often a position drawn at random violates.
        explanation: Name of the explanation.
        removal: How positions were removed.

    Examples:
        >>> import torch
        >>> from faithattn import faithfulness_violation
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = faithfulness_violation(TextClassifier(9), ids)
        >>> sorted(result.summary().notes)
        ['Wilson high', 'Wilson low', 'a random position violates', 'p of as few by chance']
    """

    violated: Tensor
    position: Tensor
    weight: Tensor
    change: Tensor
    chance: Tensor
    explanation: str
    removal: str

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "explanation", "removal")

    def summary(self) -> Summary:
        """Share of violations, its Wilson interval, and what chance would give."""
        low, high = share_interval(self.violated)
        return summarize(
            "faithfulness_violation",
            f"share of violations, {self.explanation}, {self.removal}",
            self.violated,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "Wilson low": low,
                "Wilson high": high,
                "a random position violates": float(self.chance.nanmean()),
                "p of as few by chance": chance_of_as_few(self.violated, self.chance),
            },
        )


@dataclass(frozen=True, eq=False)
class PolarityResult(Result):
    """Shares of the positions with an effect whose score has the effect's sign.

    Attributes:
        agreement: Share of those positions, ``(B,)``; nan where undefined.
        weighted: The same, each position counted by its absolute score.
        top: The same among the k largest absolute scores.
        agreement_chance: What shuffled scores give on average, exact.
        weighted_chance: Likewise.
        top_chance: Likewise.
        positions: How many positions have an effect, ``(B,)``.
        k: How many largest scores ``top`` looks at.
        explanation: Name of the explanation.
        removal: How positions were removed.

    Examples:
        >>> import torch
        >>> from faithattn import polarity_agreement
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = polarity_agreement(TextClassifier(9), ids)
        >>> result.positions.tolist(), result.k
        ([3, 2], 3)
    """

    agreement: Tensor
    weighted: Tensor
    top: Tensor
    agreement_chance: Tensor
    weighted_chance: Tensor
    top_chance: Tensor
    positions: Tensor
    k: int
    explanation: str
    removal: str

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "k", "explanation", "removal")

    def summary(self) -> Summary:
        """Statistics of the share weighted by scores; the others and chance in the notes."""
        named = {
            "chance": self.weighted_chance,
            "unweighted": self.agreement,
            "chance unweighted": self.agreement_chance,
            f"top {self.k}": self.top,
            f"chance top {self.k}": self.top_chance,
        }
        return summarize(
            "polarity_agreement",
            f"share of weight with the sign of the effect, {self.explanation}, {self.removal}",
            self.weighted,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={name: float(value.nanmean()) for name, value in named.items()},
        )
