"""Erasure the slow way: one instance, one order, one step at a time, by whole forwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from oracles import squash
from torch import Tensor

from faithattn import Run


class Scored:
    """Logits ``head(sum over rows and positions of a s) + c``; rows (B, L) or (B, H, 1, L)."""

    def __init__(
        self,
        attention: Tensor,
        scores: Tensor,
        *,
        constant: Sequence[float] = (0.0,),
        output: str = "auto",
        head: Callable[[Tensor], Tensor] = lambda z: z,
        mask: Tensor | None = None,
    ) -> None:
        self.attention, self.scores, self.output, self.head = attention, scores, output, head
        self.constant = torch.tensor(constant, dtype=scores.dtype)
        size, length = len(attention), attention.shape[-1]
        self.mask = torch.ones(size, length, dtype=torch.bool) if mask is None else mask
        self.forwards = 0

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        self.forwards += 1
        weights = (attention or {"row": self.attention})["row"]
        return Run(self.logits(weights[None])[0], {"row": weights}, self.mask, state=None)

    def logits(self, weights: Tensor) -> Tensor:
        total = (weights[..., None] * self.scores).flatten(2, -2).sum(2)
        return self.head(total) + self.constant


class Replayed(Scored):
    """The same with a replay, whose alternatives are counted."""

    replays = 0

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        run = super().run(inputs, attention=attention, features=features)
        return Run(run.logits, run.attention, run.mask, state=0)

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        self.replays += len(attention["row"])
        return self.logits(attention["row"])


def draws(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class Slow(NamedTuple):
    """One instance: its rows (R, L), where they may lie, and the model's logits under others."""

    rows: Tensor
    valid: Tensor
    logits: Callable[[Tensor], Tensor]
    output: str

    @property
    def positions(self) -> list[int]:
        return [int(t) for t in self.valid.any(0).nonzero()[:, 0]]

    @property
    def weights(self) -> Tensor:
        """Share of each position in the attention on real ones, (L,)."""
        inside = (self.rows * self.valid).sum(0)
        return inside / inside.sum()

    def without(self, gone: Sequence[int], renormalize: bool) -> Tensor | None:
        """Rows after the removal; None if nothing is left to renormalise."""
        rows, left = self.rows.clone(), 0.0
        for row, valid in zip(rows, self.valid, strict=True):
            mass = float(row[valid].sum())
            row[list(gone)] = torch.where(valid[list(gone)], 0, row[list(gone)])
            rest = float(row[valid].sum())
            left += rest
            if renormalize and rest > 0:
                row[valid] *= mass / rest
        return None if renormalize and left == 0 else rows

    def outputs(self, rows: Tensor) -> Tensor:
        output = self.output
        logits = self.logits(rows)
        if output == "auto":
            output = "sigmoid" if len(logits) == 1 else "softmax"
        return squash(logits, output)

    def decision(self, rows: Tensor) -> int:
        p = self.outputs(rows).tolist()
        return int(p[0] > 0.5) if len(p) == 1 else p.index(max(p))

    def flip(self, order: Sequence[int], renormalize: bool) -> tuple[int, float] | None:
        """Number of weights and share of attention removed at the first flip."""
        before = self.decision(self.rows)
        for count in range(1, len(order) + (not renormalize)):
            rows = self.without(order[:count], renormalize)
            if rows is None:
                return None
            if self.decision(rows) != before:
                return count, float(self.weights[list(order[:count])].sum())
        return None

    def fewest(self, renormalize: bool) -> int | None:
        """The smallest set whose removal flips the decision, of all sets."""
        before = self.decision(self.rows)
        for count in range(1, len(self.positions) + (not renormalize)):
            for gone in itertools.combinations(self.positions, count):
                rows = self.without(gone, renormalize)
                if rows is not None and self.decision(rows) != before:
                    return count
        return None

    def by(self, scores: Tensor) -> list[int]:
        """Positions by score, the largest first, of equal ones the first."""
        return sorted(self.positions, key=lambda t: (-float(scores[t]), t))

    def gradient(self) -> Tensor:
        """Derivative of the predicted class's probability by each weight, (R, L)."""
        point = self.rows.clone().requires_grad_()
        p = self.outputs(point)
        chosen = self.decision(self.rows)
        p = (p[0] if chosen else 1 - p[0]) if len(p) == 1 else p[chosen]
        (slope,) = torch.autograd.grad(p, point)
        return slope * self.valid


def instances(model: Any, inputs: Any, site: str) -> Iterator[Slow]:
    """Every instance of a batch, rows put in one at a time by whole forwards."""
    run = model.run(inputs)
    own = run.attention[site].detach()
    for b in range(len(own)):

        def logits(rows: Tensor, b: int = b) -> Tensor:
            mixed = torch.cat([own[:b], rows.view(own[b : b + 1].shape), own[b + 1 :]])
            return model.run(inputs, attention={site: mixed}).logits[b]

        rows = own[b].reshape(-1, own.shape[-1])
        valid = run.mask[b].expand(rows.shape) & (rows.sum(-1, keepdim=True) > 0)
        yield Slow(rows, valid, logits, model.output)
