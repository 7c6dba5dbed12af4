"""What shuffled attention does to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class PermutationResult(Result):
    """Output change when attention is shuffled over positions.

    Attributes:
        tvd: Distance of the output under each random shuffle, ``(B, P)``.
        median_tvd: Its median, ``(B,)``; over all orders where ``exact``; nan
            with fewer than two positions.
        jsd: Divergence of each shuffled row from the original, ``(B, P)``.
        pvalue: (1 + shuffles whose predicted-class probability is not lower)
            / (1 + P), one-sided, ``(B,)``; the share of all orders, the own
            among them, where ``exact``; nan without a predicted class.
        seed: Seed of the shuffles.
        exact: Whether all orders were enumerated, ``(B,)`` bool.
        median_low: Lower end of the 95 % interval of the median over all
            orders, an order statistic of the shuffles, ``(B,)``; the median
            itself where ``exact``. The smallest distance where P is below 6,
            which does not reach 95 %.
        median_high: Its upper end, likewise.
        pvalue_error: Standard error of the p-value, sqrt(p (1 - p) / (1 + P)),
            ``(B,)``; 0 where ``exact``, nan without a p-value.
        effect: How far the own order's margin is from the mean over all
            orders, in standard deviations over all orders, ``(B,)``. The
            margin is the logit of the predicted class minus the runner-up's;
            one logit counts towards the predicted class, one regression output
            as it is. nan where the logits are not affine in the attention or that
            was not cheap to see, where rows use different positions, for
            several labels or regression outputs, and where order does not
            matter.
        effect_spread: That standard deviation, in logits, ``(B,)``.

    Examples:
        >>> import torch
        >>> from faithattn import permutation_test
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = permutation_test(TextClassifier(9), ids, n_permutations=20, seed=0)
        >>> PermutationResult.concatenate([result, result]).tvd.shape
        torch.Size([4, 20])
        >>> result.exact, torch.equal(result.median_low, result.median_high)
        (tensor([True, True]), True)
    """

    tvd: Tensor
    median_tvd: Tensor
    jsd: Tensor
    pvalue: Tensor
    seed: int
    exact: Tensor
    median_low: Tensor
    median_high: Tensor
    pvalue_error: Tensor
    effect: Tensor
    effect_spread: Tensor

    _same: ClassVar[tuple[str, ...]] = ("view", "output", "seed")

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the median change."""
        return summarize(
            "permutation_test",
            "median TVD",
            self.median_tvd,
            predicted=self.predicted,
            max_attention=self.max_attention,
            pvalues=self.pvalue,
            notes={
                "instances with every order enumerated": float(self.exact.sum()),
                "mean effect of the own order in standard deviations": float(self.effect.nanmean()),
            },
        )
