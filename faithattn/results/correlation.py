"""Agreement of attention with an importance score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class Correlation(Result):
    """Rank agreement of attention with an importance score.

    Attributes:
        statistic: Kendall's tau-b, ``(B,)`` in -1..1; nan where undefined.
        pvalue: Two-sided p-value, ``(B,)``.
        explanation: Attention ``(B, L)``, 0 outside the mask; ``(B, G)``
            where positions were grouped.
        importance: Importance, likewise.
        mask: Bool, likewise.
        measure: ``"gradient_correlation"`` or ``"loo_correlation"``.
        removal: How positions were removed; None for gradients.
        detached: Whether the gradient held the attention fixed; None for removal.
        tie_tolerance: What counted as a tie.
        grouped: Whether positions were summed by groups, such as words.

    Examples:
        >>> import torch
        >>> from faithattn import loo_correlation
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = loo_correlation(TextClassifier(9), ids)
        >>> result.importance.shape, sorted(result.records()[0])
        (torch.Size([2, 5]), ['mass', 'max_attention', 'predicted', 'pvalue', 'statistic'])
    """

    statistic: Tensor
    pvalue: Tensor
    explanation: Tensor
    importance: Tensor
    mask: Tensor
    measure: str
    removal: str | None
    detached: bool | None
    tie_tolerance: str | float | tuple[str | float, str | float]
    grouped: bool = field(default=False, kw_only=True)

    _same: ClassVar[tuple[str, ...]] = (
        "view",
        "output",
        "measure",
        "removal",
        "detached",
        "tie_tolerance",
        "grouped",
    )
    _padded: ClassVar[tuple[str, ...]] = ("explanation", "importance", "mask")

    def summary(self) -> Summary:
        """Mean, spread, quartiles, undefined count and share with p <= .05."""
        return summarize(
            self.measure,
            "Kendall tau",
            self.statistic,
            predicted=self.predicted,
            max_attention=self.max_attention,
            pvalues=self.pvalue,
        )
