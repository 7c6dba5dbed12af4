"""What the output does when many positions are taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from faithattn.results.base import Result
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class RemovalCurves(Result):
    """How the explained probability falls as positions go in the order of an explanation.

    Attributes:
        comprehensiveness: p(x) - p(x without the top share), ``(B, F)``.
        sufficiency: p(x) - p(the top share alone), ``(B, F)``.
        aopc_comprehensiveness: Its mean over the shares, ``(B,)``; larger is
            more faithful.
        aopc_sufficiency: Its mean over the shares, ``(B,)``; smaller is more
            faithful.
        log_odds: Fall of ln(p / (1 - p)) without the top share, ``(B, F)``;
            larger is more faithful, nan for regression.
        deletion_area: Area under p as the most important positions go one by
            one, over the share that is gone, ``(B,)``; smaller is more faithful.
        insertion_area: Area under p as they come one by one to none, ``(B,)``;
            larger is more faithful.
        original: p(x), ``(B,)``.
        without: p without the k first positions, k = 0..L, ``(B, L + 1)``; nan
            where it was not computed.
        alone: p of the k first positions alone, likewise.
        length: Number of positions, ``(B,)``.
        fractions: The shares.
        explanation: What gave the order.
        removal: How positions were removed.

    Examples:
        >>> import torch
        >>> from faithattn import removal_curves
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> curves = removal_curves(TextClassifier(9), ids)
        >>> curves.comprehensiveness.shape, curves.without.shape
        (torch.Size([2, 5]), torch.Size([2, 6]))
        >>> curves.summary().quantity
        'AOPC comprehensiveness'
    """

    comprehensiveness: Tensor
    sufficiency: Tensor
    aopc_comprehensiveness: Tensor
    aopc_sufficiency: Tensor
    log_odds: Tensor
    deletion_area: Tensor
    insertion_area: Tensor
    original: Tensor
    without: Tensor
    alone: Tensor
    length: Tensor
    fractions: tuple[float, ...]
    explanation: str
    removal: str

    _same: ClassVar[tuple[str, ...]] = (
        *Result._same,
        "fractions",
        "explanation",
        "removal",
    )
    _padded: ClassVar[tuple[str, ...]] = ("without", "alone")

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of AOPC comprehensiveness."""
        return summarize(
            "removal_curves",
            "AOPC comprehensiveness",
            self.aopc_comprehensiveness,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "mean AOPC sufficiency": float(self.aopc_sufficiency.nanmean()),
                "mean log-odds fall": float(self.log_odds.nanmean()),
                "mean area under deletion": float(self.deletion_area.nanmean()),
                "mean area under insertion": float(self.insertion_area.nanmean()),
                "instances without an area": float(self.deletion_area.isnan().sum()),
            },
        )


@dataclass(frozen=True, eq=False)
class NormalizedAOPC(Result):
    """AOPC scaled by the best and the worst order.

    Attributes:
        comprehensiveness: Scaled AOPC of the first positions going, ``(B,)`` in
            0..1; larger is more faithful.
        sufficiency: Scaled AOPC of the first positions alone, likewise; smaller
            is more faithful.
        aopc_comprehensiveness: Before scaling: the mean over k = 1..T-1, ``(B,)``.
        aopc_sufficiency: Before scaling, likewise.
        lower: Smallest AOPC of an order, ``(B,)``.
        upper: Largest AOPC of an order, ``(B,)``.
        exact: Whether these are the bounds over all orders, ``(B,)`` bool;
            else the best that a search met.
        width: Sets that the search kept at each step.
        explanation: What gave the order.
        removal: How positions were removed.

    Examples:
        >>> import torch
        >>> from faithattn import normalized_aopc
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = normalized_aopc(TextClassifier(9), ids)
        >>> result.summary().notes["instances with exact bounds"]
        2.0
    """

    comprehensiveness: Tensor
    sufficiency: Tensor
    aopc_comprehensiveness: Tensor
    aopc_sufficiency: Tensor
    lower: Tensor
    upper: Tensor
    exact: Tensor
    width: int
    explanation: str
    removal: str

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "width", "explanation", "removal")

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the scaled comprehensiveness."""
        return summarize(
            "normalized_aopc",
            "normalized AOPC comprehensiveness",
            self.comprehensiveness,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "mean normalized sufficiency": float(self.sufficiency.nanmean()),
                "instances with exact bounds": float(self.exact.sum()),
                "mean distance of the bounds": float((self.upper - self.lower).nanmean()),
            },
        )


@dataclass(frozen=True, eq=False)
class SoftRemoval(Result):
    """Comprehensiveness and sufficiency where embeddings lose elements at random.

    Attributes:
        sufficiency: Normalised soft sufficiency, ``(B,)`` in 0..1; larger is
            more faithful.
        comprehensiveness: Normalised soft comprehensiveness, likewise.
        raw_sufficiency: S before it is normalised, ``(B,)``, mean over draws.
        raw_comprehensiveness: C before it is normalised, likewise.
        baseline: S0 of an input of zeros, ``(B,)``.
        n_samples: Number of draws.
        scaled: Whether scores were brought to 0..1.
        seed: Seed of the draws.
        explanation: What gave the importance.

    Examples:
        >>> import torch
        >>> from faithattn import soft_removal
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = soft_removal(TextClassifier(9), ids, seed=0)
        >>> sorted(result.records()[0])[:3]
        ['baseline', 'comprehensiveness', 'mass']
    """

    sufficiency: Tensor
    comprehensiveness: Tensor
    raw_sufficiency: Tensor
    raw_comprehensiveness: Tensor
    baseline: Tensor
    n_samples: int
    scaled: bool
    seed: int
    explanation: str

    _same: ClassVar[tuple[str, ...]] = (
        *Result._same,
        "n_samples",
        "scaled",
        "seed",
        "explanation",
    )

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of soft comprehensiveness."""
        return summarize(
            "soft_removal",
            "normalised soft comprehensiveness",
            self.comprehensiveness,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "mean normalised soft sufficiency": float(self.sufficiency.nanmean()),
                "mean baseline": float(self.baseline.nanmean()),
            },
        )


@dataclass(frozen=True, eq=False)
class RemovalAgreement(Result):
    """How far several removals say the same.

    Attributes:
        tau: Kendall's tau-b between the leave-one-out importance under each
            two removals, ``(B, N, N)``; nan where undefined, also with itself.
        aopc_comprehensiveness: Under each removal, ``(B, N)``.
        aopc_sufficiency: Under each removal, ``(B, N)``.
        importance: Leave-one-out importance under each, ``(B, N, L)``.
        removals: Their names.
        fractions: Shares of positions.
        explanation: What gave the order.

    Examples:
        >>> import torch
        >>> from faithattn import removal_agreement
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> found = removal_agreement(TextClassifier(9), ids, removals=("delete", "zero_embedding"))
        >>> found.mean_tau.shape, found.undefined.tolist()
        (torch.Size([2, 2]), [[0, 0], [0, 0]])
    """

    tau: Tensor
    aopc_comprehensiveness: Tensor
    aopc_sufficiency: Tensor
    importance: Tensor
    removals: tuple[str, ...]
    fractions: tuple[float, ...]
    explanation: str

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "removals", "fractions", "explanation")
    _padded: ClassVar[tuple[str, ...]] = ("importance",)

    @property
    def mean_tau(self) -> Tensor:
        """Mean tau over the instances where it is defined, ``(N, N)``."""
        return self.tau.nanmean(0)

    @property
    def undefined(self) -> Tensor:
        """Number of instances without a tau, ``(N, N)``."""
        return self.tau.isnan().sum(0)

    @property
    def agreement(self) -> Tensor:
        """Mean tau ``(B,)`` of each instance over the pairs of different removals."""
        count = len(self.removals)
        pairs = torch.ones(count, count, device=self.tau.device).triu(1).bool()
        return self.tau[:, pairs].nanmean(-1)

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the mean tau of each instance."""
        names = self.removals
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        mean, undefined = self.mean_tau, self.undefined
        notes = {f"mean tau, {names[i]} and {names[j]}": float(mean[i, j]) for i, j in pairs}
        notes |= {f"undefined, {names[i]} and {names[j]}": float(undefined[i, j]) for i, j in pairs}
        return summarize(
            "removal_agreement",
            "mean Kendall tau between removals",
            self.agreement,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes=notes,
        )
