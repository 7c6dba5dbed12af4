"""One batch under attack: what every method of finding adversaries works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading
from faithattn.measures.adversary.gains import gain
from faithattn.measures.adversary.plausible import Limits, Plausible, resolve_limits
from faithattn.measures.divergence import jensen_shannon
from faithattn.measures.draws import noise_of, spans
from faithattn.measures.outputs import output_distance


class Judged(NamedTuple):
    """Rows with what the model itself says of them.

    Attributes:
        rows: ``(B, K, R, L)``.
        outputs: ``(B, K, C)``.
        tvd: Distance of the outputs from the original's, ``(B, K)``.
        jsd: Divergence of the rows, ``(B, K)``.
        feasible: Whether output and rows are within all limits, ``(B, K)`` bool.
    """

    rows: Tensor
    outputs: Tensor
    tvd: Tensor
    jsd: Tensor
    feasible: Tensor

    @property
    def worth(self) -> Tensor:
        """Divergence of what is feasible; what is not comes after all of it, ``(B, K)``."""
        return torch.where(self.feasible, self.jsd, self.jsd - 1)

    def chosen(self, places: Tensor) -> Judged:
        """The given ones ``(B, n)`` of each instance."""
        batch = torch.arange(len(places), device=places.device)[:, None]
        return Judged(*(each[batch, places] for each in self))

    def where(self, keep: Tensor, other: Judged) -> Judged:
        """These where ``keep`` ``(B, K)`` says so, the others elsewhere."""
        return Judged(
            *(
                torch.where(keep.view(*keep.shape, *[1] * (a.ndim - 2)), a, b)
                for a, b in zip(self, other, strict=True)
            )
        )

    def beside(self, other: Judged) -> Judged:
        """Both."""
        return joined([self, other])


class Found(NamedTuple):
    """What a method returns.

    Attributes:
        judged: Adversaries, at least as many as were asked for.
        upper: Proven ceiling of the divergence, ``(B,)``; infinity where none is.
        outcome: Number of the outcome of each instance, ``(B,)``.
        nodes: Nodes of the search tree, ``(B,)``.
        method: What ran.
    """

    judged: Judged
    upper: Tensor
    outcome: Tensor
    nodes: Tensor
    method: str


@dataclass(frozen=True)
class Attack:
    """What is attacked, and within which limits.

    Attributes:
        reading: The model, run once.
        limits: Limits on the rows.
        epsilon: Allowed output change.
        count: Number K of adversaries.
        seed: Seed of random starts.
        ids: Ids of the instances, ``(B,)``.
        find_affine: Finds the affine form of the logits, once.
    """

    reading: Reading
    limits: Limits
    epsilon: float
    count: int
    seed: int
    ids: Tensor
    find_affine: Callable[[], Affine | None]

    @property
    def original(self) -> Tensor:
        """The rows ``(B, R, L)``."""
        return self.reading.rows.conditional

    @property
    def affine(self) -> Affine | None:
        """The affine form of the logits, where this batch does not refute it."""
        return self.find_affine()

    def under(self, constraints: Plausible | None) -> Attack:
        """The same with limits on the rows."""
        limits = resolve_limits(constraints, self.original, self.reading.rows.valid)
        return replace(self, limits=limits)

    def within(self, epsilon: float, count: int = 1) -> Attack:
        """The same with another epsilon and number of adversaries."""
        return replace(self, epsilon=epsilon, count=count)

    def pieces(self, count: int, bytes_per_element: int) -> list[tuple[int, int]]:
        """Cuts ``count`` alternatives into pieces that fit the memory budget."""
        return spans(count, self.reading.alternatives_at_once(bytes_per_element=bytes_per_element))

    def judge(self, rows: Tensor) -> Judged:
        """Runs the model on rows ``(B, K, R, L)``, in chunks that fit the budget."""
        parts = []
        for first, last in self.pieces(rows.shape[1], 64):
            piece = rows[:, first:last]
            outputs, tvd = self.ask(piece)
            feasible = (tvd <= self.epsilon) & self.limits.hold(piece)
            parts.append((outputs, tvd, self.divergence(piece), feasible))
        return Judged(rows, *(torch.cat(each, 1) for each in zip(*parts, strict=True)))

    def ask(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The model's outputs ``(B, K, C)`` under rows, and their distances, at once."""
        outputs = self.reading.replay(rows.transpose(0, 1))
        tvd = output_distance(outputs, self.reading.outputs, self.reading.output)
        return outputs.transpose(0, 1), tvd.T

    def divergence(self, rows: Tensor) -> Tensor:
        """Mean JSD of the rows ``(B, K, R, L)`` that count, ``(B, K)``."""
        return self.mean(jensen_shannon(rows, self.original[:, None]))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``(B, K, R)`` over the rows that count, ``(B, K)``."""
        return self.reading.rows.mean(values.transpose(0, 1)).T

    def alone(self) -> Tensor:
        """Divergence of each row with all that may move on one position, ``(B, R, L)``."""
        weights = self.original.masked_fill(~self.limits.free, 0)
        mass = weights.sum(-1, keepdim=True)
        return mass * (math.log(2) / 2) + gain(mass.expand_as(weights), weights)

    def noise(self, draws: int, first: int = 0, last: int | None = None) -> Tensor:
        """Normal numbers (B, draws, R, L): by the numbers of the rows, which padding leaves.

        Of all draws, or of those from ``first`` to ``last``.
        """
        rows = self.reading.rows
        lanes = torch.arange(int(rows.numbers.max()) + 1, device=self.ids.device)
        some = torch.arange(first, draws if last is None else last, device=self.ids.device)
        numbers = (lanes[:, None] * draws + some).flatten()
        noise = noise_of(self.seed, self.ids, numbers, rows.mask).to(self.original.dtype)
        by_number = noise.view(len(lanes), -1, *noise.shape[1:]).permute(2, 0, 1, 3)
        batch = torch.arange(len(self.ids), device=noise.device)[:, None]
        return by_number[batch, rows.numbers].transpose(1, 2)


def joined(several: Sequence[Judged]) -> Judged:
    """All of them, side by side."""
    return Judged(*(torch.cat(parts, 1) for parts in zip(*several, strict=True)))


def best_of(judged: Judged, count: int) -> Judged:
    """The ``count`` adversaries that are feasible and farthest, in that order."""
    order = judged.worth.argsort(dim=-1, descending=True, stable=True)
    return judged.chosen(order[:, :count])
