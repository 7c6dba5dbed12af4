"""What attention of the caller's own does to the output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.measures.rank import RankCorrelation, kendall_tau
from faithattn.results.base import Result
from faithattn.results.shares import share_interval
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class SubstitutionResult(Result):
    """How far given attention is from the model's own, and how far the output moves with it.

    Attributes:
        tvd: Distance of the output under the given attention from the
            original's, ``(B,)``; nan with fewer than two positions.
        jsd: Divergence of the given rows from the model's, mean over the rows,
            nats, 0..ln 2, ``(B,)``; nan likewise.
        flipped: 1 where the predicted class changes, 0 where not, ``(B,)``;
            nan likewise, and where there is no predicted class.

    Examples:
        >>> import torch
        >>> from faithattn import attention_substitution
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = attention_substitution(TextClassifier(9), ids, torch.ones(2, 5))
        >>> sorted(result.summary().notes)
        ['Wilson high', 'Wilson low', 'mean JSD', 'p of tau', 'share flipped', 'tau of JSD and TVD']
    """

    tvd: Tensor
    jsd: Tensor
    flipped: Tensor

    @property
    def association(self) -> RankCorrelation:
        """Kendall's tau-b of JSD and TVD over the instances, and its two-sided p-value.

        Positive where attention that is further away moves the output further.
        Changes of the output below float noise count as none; nan where all
        instances agree in one of the two, or fewer than two are defined.
        """
        noise = 1e-13 if self.tvd.dtype == torch.float64 else 5e-7
        moved = torch.where(self.tvd.abs() > noise, self.tvd, 0)
        defined = ~(self.tvd.isnan() | self.jsd.isnan())
        return kendall_tau(self.jsd, moved, mask=defined)

    def summary(self) -> Summary:
        """Statistics of the change; divergence, flips and how the two go together in the notes."""
        low, high = share_interval(self.flipped)
        tau = self.association
        return summarize(
            "attention_substitution",
            "TVD",
            self.tvd,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "mean JSD": float(self.jsd.nanmean()),
                "share flipped": float(self.flipped.nanmean()),
                "Wilson low": low,
                "Wilson high": high,
                "tau of JSD and TVD": float(tau.statistic),
                "p of tau": float(tau.pvalue),
            },
        )
