"""Weight on named positions beside what the model does with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.results.shares import share_interval
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class DeceptionResult(Result):
    """Whether positions matter more than an explanation shows.

    Attributes:
        flagged: 1 where the named positions have less than their even share of
            the weight, and the output changes by ``min_effect`` or more without
            them and by more than without the rivals, ``(B,)``; else 0; nan
            where undefined.
        share: Share of the explanation's positive scores on the named
            positions, ``(B,)``.
        even_share: Share of the positions that are named, ``(B,)``.
        effect: Output change when all named positions are removed, ``(B,)``.
        largest_single: Largest output change when one of them is, ``(B,)``.
        rival_share: Share of the weight on the rivals, ``(B,)``: as many of the
            other positions, those with the largest scores.
        rival_effect: Output change when all rivals are removed, ``(B,)``.
        named: How many positions are named, ``(B,)``.
        min_effect: Smallest change that is flagged.
        explanation: Name of the explanation.
        removal: How positions were removed.

    Examples:
        >>> import torch
        >>> from faithattn import deception_screen
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = deception_screen(TextClassifier(9), ids, tokens=[5])
        >>> result.named.tolist(), result.flagged.isnan().tolist()
        ([1, 0], [False, True])
    """

    flagged: Tensor
    share: Tensor
    even_share: Tensor
    effect: Tensor
    largest_single: Tensor
    rival_share: Tensor
    rival_effect: Tensor
    named: Tensor
    min_effect: float
    explanation: str
    removal: str

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "min_effect", "explanation", "removal")

    def summary(self) -> Summary:
        """Share of flagged instances, its Wilson interval, mean weights and effects."""
        low, high = share_interval(self.flagged)
        defined = ~self.flagged.isnan()
        named = {
            "weight on the named": self.share,
            "even share": self.even_share,
            "effect of the named": self.effect,
            "largest effect of one of them": self.largest_single,
            "weight on the rivals": self.rival_share,
            "effect of the rivals": self.rival_effect,
        }
        means = {name: float(value[defined].mean()) for name, value in named.items()}
        return summarize(
            "deception_screen",
            f"share of flagged instances, {self.explanation}, {self.removal}",
            self.flagged,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={"Wilson low": low, "Wilson high": high, **means},
        )
