"""What the tests return: per-instance values that know how to sum themselves up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from faithattn.measures.adversary.outcomes import OUTCOMES
from faithattn.statistics import Summary, describe, none_if_nan, summarize


@dataclass(frozen=True, eq=False)
class Result:
    """Base of the results: instances on dimension 0 of every tensor.

    Attributes:
        predicted: Predicted class, ``(B,)``; -1 where there is none.
        max_attention: Largest weight of the explanation's rows among the
            positions of the mask, ``(B,)``.
        mass: Attention on the positions of the mask before conditioning, ``(B,)``.
        view: The attention that was tested.
        output: How logits became outputs.
        replay: How outputs under given attention were computed:
            ``"adapter"`` (its own replay), ``"recorded"`` (only what depends
            on the attention), ``"whole forwards"``; ``"none"`` where there
            were none, ``"mixed"`` where batches differ.
    """

    predicted: Tensor
    max_attention: Tensor
    mass: Tensor
    view: str
    output: str
    replay: str = field(default="none", kw_only=True)

    _same: ClassVar[tuple[str, ...]] = ("view", "output")
    _mixed: ClassVar[tuple[str, ...]] = ("replay",)
    _padded: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def concatenate(cls, results: Sequence[Self]) -> Self:
        """Joins the results of several batches, padded to one length with zeros.

        Raises:
            ValueError: If there are none, or their settings differ.
        """
        if isinstance(results, Result) or not results:
            got = "a single result" if isinstance(results, Result) else "none"
            raise ValueError(f"results must be a list of results; got {got}. Pass a list.")
        for result in results:
            if not isinstance(result, cls):
                raise TypeError(
                    f"results must be of one kind, {cls.__name__}; got {type(result).__name__}. "
                    "Join the results of each test by themselves."
                )
        first = results[0]
        joined: dict[str, Any] = {}
        for name in (each.name for each in fields(cls)):
            values = [getattr(result, name) for result in results]
            if isinstance(values[0], Tensor):
                _require_shared(name, [value.shape[1:] for value in values], cls._padded)
                joined[name] = _join(values)
                continue
            if name in cls._same:
                _require_shared(name, values)
            joined[name] = getattr(first, name)
        for name in cls._mixed:
            if any(getattr(result, name) != getattr(first, name) for result in results):
                joined[name] = "mixed"
        return cls(**joined)

    def records(self) -> list[dict[str, float | int | None]]:
        """One row per instance with every scalar; nan becomes None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        columns = {
            name: value.tolist()
            for name, value in values.items()
            if isinstance(value, Tensor) and value.ndim == 1
        }
        names = list(columns)
        return [
            {
                name: none_if_nan(value) if isinstance(value, float) else int(value)
                for name, value in zip(names, row, strict=True)
            }
            for row in zip(*columns.values(), strict=True)
        ]


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
            one logit counts towards the predicted class, a regression's as it
            is. nan where the logits are not affine in the attention or that
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
        feasible: Whether ``tvd <= epsilon``, ``(B, K)`` bool.
        max_jsd: Largest divergence among the feasible, ``(B,)``; 0, by the
            original itself, where none is; nan without positions.
        upper_bound: Proven ceiling of ``max_jsd``, ``(B,)``.
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


def _require_shared(name: str, values: Sequence[object], exempt: Sequence[str] = ()) -> None:
    """Requires what must not differ between results to be the same."""
    others = [value for value in values if value != values[0]]
    if others and name not in exempt:
        raise ValueError(
            f"results must share their settings; got {name} {values[0]!r} and {others[0]!r}. "
            "Join only results of one test."
        )


def _join(values: Sequence[Tensor]) -> Tensor:
    """Concatenates along dimension 0, padding the others with zeros."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    if all(list(value.shape[1:]) == shape for value in values):
        return torch.cat(list(values))
    joined = values[0].new_zeros(sum(len(value) for value in values), *shape)
    start = 0
    for value in values:
        window = (slice(start, start + len(value)), *(slice(size) for size in value.shape[1:]))
        joined[window] = value
        start += len(value)
    return joined
