"""What the output does when attention weights are taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faithattn.measures.matched import matched_pvalue
from faithattn.results.base import Result
from faithattn.statistics import Summary, describe, none_if_nan, summarize

_BINS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class FlipTable:
    """How often erasing the top weight, and another, flips the decision.

    Where the top was compared with several others, each of the four counts is
    what one random of them would give on average.

    Attributes:
        both: Instances in which either flips it.
        only_top: In which the top weight alone does.
        only_other: In which the other alone does.
        neither: In which none does.
        undefined: Instances without an answer; not in the counts.
        pvalue: Two-sided, exact, that the top flips as often as an other: McNemar's
            test of one other, and of several :func:`matched_pvalue`.
    """

    both: float
    only_top: float
    only_other: float
    neither: float
    undefined: int
    pvalue: float


@dataclass(frozen=True, eq=False)
class SingleErasure(Result):
    """Output without the largest attention weight, and without others.

    Attributes:
        flipped_top: Whether the decision flips without the top weight, ``(B,)``
            1 or 0; nan where undefined or nothing is decided.
        flipped_other: Share of the other weights that flip it, likewise.
        change_top: Jensen-Shannon divergence of the output from the original
            without the top weight, in nats, ``(B,)``; for regression the mean
            absolute difference.
        change_other: The same without another weight, averaged over those.
        delta_change: ``change_top - change_other``.
        delta_attention: The top weight less the others' mean, as shares of
            the weight on the real positions, ``(B,)``.
        n_others: With how many others the top was compared, ``(B,)``.
        exact: Whether these are all there are, ``(B,)`` bool.
        renormalize: Whether the weights left were divided by their sum.
        seed: Seed of the draws.
        n_random: How many others were asked for; None for all.

    Examples:
        >>> import torch
        >>> from faithattn import single_weight_erasure
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 3, 0, 0]])
        >>> result = single_weight_erasure(TextClassifier(9), ids, seed=0)
        >>> table = result.flips()
        >>> table.both + table.only_top + table.only_other + table.neither, table.undefined
        (1.0, 1)
    """

    flipped_top: Tensor
    flipped_other: Tensor
    change_top: Tensor
    change_other: Tensor
    delta_change: Tensor
    delta_attention: Tensor
    n_others: Tensor
    exact: Tensor
    renormalize: bool
    seed: int
    n_random: int | None

    _same: ClassVar[tuple[str, ...]] = (*Result._same, "renormalize", "seed", "n_random")

    def flips(self) -> FlipTable:
        """The published 2 x 2 table of flips, with its test."""
        defined = ~self.flipped_top.isnan()
        top, other = (each[defined].double() for each in (self.flipped_top, self.flipped_other))
        counts = self.n_others[defined]
        pvalue = math.nan
        if len(top):
            pvalue = matched_pvalue(
                top.cpu().numpy() > 0,
                (other * counts).round().long().cpu().numpy(),
                counts.cpu().numpy(),
            )
        return FlipTable(
            both=float((top * other).sum()),
            only_top=float((top * (1 - other)).sum()),
            only_other=float(((1 - top) * other).sum()),
            neither=float(((1 - top) * (1 - other)).sum()),
            undefined=int((~defined).sum()),
            pvalue=pvalue,
        )

    def by_delta_attention(self, edges: Sequence[float] = _BINS) -> list[dict[str, Any]]:
        """Statistics of ``delta_change``, and how often it is negative, by ``delta_attention``.

        A bin holds its lower edge, the last one its upper edge as well. Where
        attention says what matters, differences are negative only where the
        weights hardly differ.
        """
        gaps, changes = _array(self.delta_attention), _array(self.delta_change)
        number = np.digitize(np.nan_to_num(gaps, nan=-1.0), edges[:-1]) - 1
        number[gaps > edges[-1] * (1 + 1e-6)] = -1
        rows = []
        for index, (low, high) in enumerate(pairwise(edges)):
            chosen = changes[number == index]
            row = {"from": low, "to": high, **asdict(describe(chosen))}
            row.pop("significant")
            row["negative"] = float((chosen < 0).mean()) if len(chosen) else math.nan
            rows.append(row)
        return rows

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the difference, and the flips."""
        table, changes = self.flips(), _array(self.delta_change)
        known = changes[~np.isnan(changes)]
        return summarize(
            "single_weight_erasure",
            "difference of outputs, top - other"
            if self.output == "identity"
            else "Delta JS, top - other",
            self.delta_change,
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={
                "share of negative differences": float((known < 0).mean())
                if len(known)
                else math.nan,
                "slope on the difference of weights": self._slope(),
                "flips, both": table.both,
                "flips, top only": table.only_top,
                "flips, other only": table.only_other,
                "flips, neither": table.neither,
                "flips, exact p-value": table.pvalue,
            },
        )

    def _slope(self) -> float:
        """Least-squares slope of the difference in output on that in weight."""
        gaps, changes = _array(self.delta_attention), _array(self.delta_change)
        known = ~np.isnan(changes)
        centred = gaps[known] - gaps[known].mean() if known.any() else gaps[known]
        spread = float((centred**2).sum())
        return float((centred * changes[known]).sum()) / spread if spread > 0 else math.nan


@dataclass(frozen=True, eq=False)
class FlipResult(Result):
    """Attention weights removed until the decision flips, by N orders of removal.

    An instance may never flip under one order and soon under another: means
    over those that flip compare different instances. ``censored`` has a
    value for both. Random orders are reported by the mean over their draws.

    Attributes:
        fraction: Share of the weights removed at the first flip, ``(B, N)``;
            nan where it never comes (for a random order: in any draw).
        censored: The same with 1 where it never comes, ``(B, N)``; nan only where
            there is no answer.
        removed_mass: Share of the attention on the real positions removed at
            the flip, ``(B, N)``; nan as ``fraction``.
        count: Number of weights removed at the flip, likewise.
        flipped: Whether the decision ever flips, ``(B, N)`` 1 or 0 (for a
            random order the share of draws); nan where there is no answer.
            Under ``"optimal"`` 0 says that no set of weights flips it, which
            is proven of the logits' affine form.
        random_fraction: ``fraction`` of each random draw, ``(B, n_random)``; no
            columns where there was no random order.
        orders: Names of the orders.
        renormalize: Whether the weights left were divided by their sum.
        n_random: Number of random draws.
        seed: Seed of the draws.

    Examples:
        >>> import torch
        >>> from faithattn import erasure_to_flip
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> result = erasure_to_flip(TextClassifier(9), ids, seed=0)
        >>> [row["order"] for row in result.table()]
        ['attention', 'attention_gradient', 'gradient_attention', 'random']
    """

    fraction: Tensor
    censored: Tensor
    removed_mass: Tensor
    count: Tensor
    flipped: Tensor
    random_fraction: Tensor
    orders: tuple[str, ...]
    renormalize: bool
    n_random: int
    seed: int

    _same: ClassVar[tuple[str, ...]] = (
        *Result._same,
        "orders",
        "renormalize",
        "n_random",
        "seed",
    )

    def table(self) -> list[dict[str, Any]]:
        """One row an order: statistics of ``censored``, flips, and what was removed at them.

        ``earlier_than_random`` is the share of the instances that differ from
        the mean of the random draws in which the order flips the decision earlier.
        """
        random = self.orders.index("random") if "random" in self.orders else None
        rows = []
        for index, name in enumerate(self.orders):
            values = self.censored[:, index]
            row = {"order": name, **asdict(describe(_array(values)))}
            row.pop("significant")
            row["flipped"] = float(self.flipped[:, index].nanmean())
            row["fraction_at_flip"] = float(self.fraction[:, index].nanmean())
            row["mass_at_flip"] = float(self.removed_mass[:, index].nanmean())
            if random is not None:
                gain = self.censored[:, random] - values
                differ = gain[gain.abs() > 1e-6]
                row["earlier_than_random"] = float((differ > 0).double().mean())
            rows.append(row)
        return rows

    def summary(self, order: str | None = None) -> Summary:
        """Mean, spread, quartiles and undefined count of ``censored`` of one order, the first.

        Raises:
            ValueError: If there is no such order.
        """
        name = self.orders[0] if order is None else order
        if name not in self.orders:
            raise ValueError(
                f"order must be one of {', '.join(self.orders)}; got {name!r}. "
                "Leave it out for the first."
            )
        notes = {}
        for index, each in enumerate(self.orders):
            notes[f"mean share by {each}"] = float(self.censored[:, index].nanmean())
            notes[f"never flipped by {each}"] = float((1 - self.flipped[:, index]).nansum())
        return summarize(
            "erasure_to_flip",
            f"share of weights removed at the flip by {name}, 1 if never",
            self.censored[:, self.orders.index(name)],
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes=notes,
        )

    def records(self) -> list[dict[str, float | int | None]]:
        """One row per instance with every scalar, and those of each order by name."""
        rows = super().records()
        for name in ("censored", "fraction", "removed_mass", "count", "flipped"):
            for index, order in enumerate(self.orders):
                for row, value in zip(rows, getattr(self, name)[:, index].tolist(), strict=True):
                    row[f"{name}_{order}"] = none_if_nan(value)
        return rows


def _array(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array
