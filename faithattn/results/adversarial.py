"""Attention that is far from the original at almost the same output."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from faithattn.measures.adversary.outcomes import OUTCOMES
from faithattn.results.base import Result
from faithattn.statistics import Summary, describe, summarize


@dataclass(frozen=True, eq=False)
class AdversarialResult(Result):
    """Attention as different as can be found at almost the same output.

    Attributes:
        attention: Adversaries ``(B, K, ..., L)`` in the shape of the site, as
            ``run(attention=...)`` takes them; feasible and by JSD first. Of
            S sites, ``(B, K, S, ..., L)`` in the order of the view.
        original: The model's own attention ``(B, ..., L)``, or ``(B, S, ..., L)``.
        probabilities: Outputs under them, ``(B, K, C)``, from the model itself.
        tvd: Distance of those outputs from the original's, ``(B, K)``.
        jsd: Divergence of their rows from the original's, ``(B, K)``.
        feasible: Whether ``tvd <= epsilon`` and the rows obey the constraints, ``(B, K)`` bool.
        max_jsd: Largest divergence among the feasible, ``(B,)``; 0, by the
            original itself, where none is; nan without positions.
        upper_bound: Proven ceiling of ``max_jsd``, ``(B,)``; where it is not that of
            the farthest corner, of the affine form that the model was found to have.
        certified: Whether ``max_jsd`` reaches the ceiling to 1e-4, ``(B,)`` bool.
        epsilon: Allowed output change.
        method: How they were found; ``"mixed"`` where ``"auto"`` differs by batch.
        n_steps: Steps of the published search.
        seed: Seed of the random starts.
        outcome: How the attack ended, a number ``(B,)``; :attr:`endings` says it in words.
        n_nodes: Nodes of the tree that were looked at for the ceiling, ``(B,)``.
        constraints: Limits besides the output.

    Examples:
        >>> import torch
        >>> from faithattn import adversarial_attention
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = adversarial_attention(TextClassifier(9), ids, seed=0)
        >>> result.strongest.shape, bool((result.max_jsd <= result.upper_bound).all())
        (torch.Size([2, 5]), True)
        >>> result.endings[0]
        'the optimum, in closed form'
    """

    attention: Tensor
    original: Tensor
    probabilities: Tensor
    tvd: Tensor
    jsd: Tensor
    feasible: Tensor
    max_jsd: Tensor
    upper_bound: Tensor
    certified: Tensor
    epsilon: float
    method: str
    n_steps: int
    seed: int
    outcome: Tensor
    n_nodes: Tensor
    constraints: str

    _same: ClassVar[tuple[str, ...]] = (
        "view",
        "output",
        "epsilon",
        "n_steps",
        "seed",
        "constraints",
    )
    _mixed: ClassVar[tuple[str, ...]] = ("replay", "method")
    _padded: ClassVar[tuple[str, ...]] = ("attention", "original")

    @property
    def strongest(self) -> Tensor:
        """The adversary behind ``max_jsd``, ``(B, ..., L)``; the original where none is."""
        found = self.feasible[:, 0].view(-1, *[1] * (self.original.ndim - 1))
        return torch.where(found, self.attention[:, 0], self.original)

    @property
    def endings(self) -> tuple[str, ...]:
        """How the attack on each instance ended, in words."""
        return tuple(OUTCOMES[number] for number in self.outcome.tolist())

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the largest divergence."""
        defined = ~self.max_jsd.isnan()
        return summarize(
            "adversarial_attention",
            "epsilon-max JSD",
            self.max_jsd,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "instances without a feasible adversary": float(
                    (~self.feasible.any(-1) & defined).sum()
                ),
                "instances certified": float(self.certified.sum()),
                "mean distance to the ceiling": float(
                    (self.upper_bound - self.max_jsd)[defined].mean()
                ),
            },
        )


@dataclass(frozen=True, eq=False)
class AdversarialFrontier(Result):
    """Largest divergence of attention against allowed output change, Q constraints by E epsilons.

    Attributes:
        max_jsd: Largest divergence found, ``(B, Q, E)``; nan without positions.
        tvd: Output change of what was found, likewise.
        upper_bound: Proven ceiling, likewise.
        certified: Whether the two meet to 1e-4, likewise, bool.
        epsilons: The allowed changes, ascending.
        constraints: What was asked of the adversaries, in words.
        method: How they were found.
        seed: Seed of random starts.

    Examples:
        >>> import torch
        >>> from faithattn import adversarial_frontier
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> frontier = adversarial_frontier(TextClassifier(9), ids, epsilons=(0.01, 0.1))
        >>> [curve["epsilon"] for curve in frontier.curves()]
        [0.01, 0.1]
    """

    max_jsd: Tensor
    tvd: Tensor
    upper_bound: Tensor
    certified: Tensor
    epsilons: tuple[float, ...]
    constraints: tuple[str, ...]
    method: str
    seed: int

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "epsilons", "constraints", "seed")
    _mixed: ClassVar[tuple[str, ...]] = ("replay", "method")

    def curves(self) -> list[dict[str, Any]]:
        """One row for each constraint and epsilon: statistics of the divergence, mean ceiling."""
        rows = []
        for q, constraint in enumerate(self.constraints):
            for e, epsilon in enumerate(self.epsilons):
                values, ceiling = self.max_jsd[:, q, e], self.upper_bound[:, q, e]
                found = describe(values.detach().double().cpu().numpy())
                row = {"constraint": constraint, "epsilon": epsilon, **asdict(found)}
                row.pop("significant")
                defined = ~ceiling.isnan()
                row["ceiling"] = float(ceiling[defined].mean())
                row["certified"] = int(self.certified[:, q, e].sum())
                rows.append(row)
        return rows

    def summary(self) -> Summary:
        """Mean, spread, quartiles of the divergence at the largest epsilon, first constraint."""
        return summarize(
            "adversarial_frontier",
            f"epsilon-max JSD at {self.epsilons[-1]:g}, constraints {self.constraints[0]}",
            self.max_jsd[:, 0, -1],
            predicted=self.predicted,
            max_attention=self.max_attention,
        )
