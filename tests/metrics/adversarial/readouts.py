"""Readouts of given attention and values, linear and not, with one row or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from faithattn import Run


class Readout:
    """Logits ``head(sum_t a_t v_t)`` for rows of attention (B, T) or (B, H, 1, T)."""

    def __init__(
        self,
        attention: Tensor,
        values: Tensor,
        output: str,
        head: Callable[[Tensor], Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        self.attention, self.values, self.output = attention, values, output
        self.head = head or (lambda context: context)
        self.mask = mask if mask is not None else torch.ones(len(values), values.shape[-2]).bool()
        self.calls = 0

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        weights = (attention or {"row": self.attention})["row"]
        logits = self.replay(0, {"row": weights[None]})[0]
        return Run(logits, {"row": weights}, self.mask, state=0)

    def replay(self, state: Any, attention: Any) -> Tensor:
        self.calls += 1
        weights = attention["row"]
        context = (weights[..., None] * self.values).sum(-2)
        return self.head(context if weights.ndim == 3 else context.flatten(2, -2).sum(2))


def rows(size: int, length: int, seed: int = 0, spread: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(size, length, generator=generator).double()).softmax(-1)


def values(size: int, length: int, count: int, seed: int = 1, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, length, count, generator=generator).double()


def squashed(logits: Tensor, output: str) -> Tensor:
    if output == "identity":
        return logits
    return logits.sigmoid() if output == "sigmoid" else logits.softmax(-1)


def distance(one: Tensor, other: Tensor, output: str) -> Tensor:
    change = (one - other).abs()
    return change.sum(-1) / 2 if output == "softmax" else change.mean(-1)
