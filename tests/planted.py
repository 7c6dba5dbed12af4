"""Models whose faithfulness is known: what each test must say about them is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn import Run

Inputs = tuple[Tensor, Tensor, Tensor]  # attention (B, L), scores (B, L), mask (B, L)


class Linear:
    """The logit is sum_t a_t s_t; both are given. Each score is a one-number embedding."""

    output = "identity"

    def run(
        self,
        inputs: Inputs,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        own, scores, mask = inputs
        values = (features or {"score": scores[..., None]})["score"]
        if torch.is_grad_enabled() and not values.requires_grad:
            values = values.detach().requires_grad_()
        weights = (attention or {"row": own})["row"]
        logits = self.replay(values, {"row": weights[None]})[0]
        return Run(logits, {"row": weights}, mask, {"score": values}, state=values)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        return (attention["row"][..., None] * state).sum(-2)


class Sigmoid(Linear):
    """The same logit, as the probability of one class."""

    output = "sigmoid"


class Bag:
    """Attention and value are two numbers of each embedding; padding on either side, deletion."""

    output = "sigmoid"

    def run(
        self,
        inputs: Mapping[str, Tensor],
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        mask = inputs["mask"]
        x = (features or {"x": inputs["x"]})["x"]
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        own = x[..., 0].masked_fill(~mask, -torch.inf).softmax(-1)
        weights = (attention or {"row": own})["row"]
        logits = self.replay(x, {"row": weights[None]})[0]
        return Run(logits, {"row": weights}, mask, {"x": x}, state=x)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        values = (state[..., 1:] * state[..., :1].tanh()).sum(-1)
        return (attention["row"] * values).sum(-1, keepdim=True)

    def remove(self, inputs: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
        """Closes the gap from the right, so that left padding stays on the left."""
        size, length = inputs["mask"].shape
        keep = torch.arange(length) != positions[:, None]
        return {
            key: value[keep].view(size, length - 1, *value.shape[2:])
            for key, value in inputs.items()
        }


def rows(size: int, length: int, *, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Random distributions (size, length) in double precision."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(size, length, generator=generator, dtype=torch.float64)
    return (spread * draws).softmax(-1)


def whole(attention: Tensor, scores: Tensor) -> Inputs:
    """Inputs without padding."""
    return attention, scores, torch.ones(attention.shape, dtype=torch.bool)


def faithful(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    """A: every score is 1 or -1, so what a position does is its weight."""
    signs = torch.randn(size, length, generator=torch.Generator().manual_seed(1)).sign().double()
    return Linear(), whole(rows(size, length), signs)


def indifferent(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    """B: all values are equal, so attention cannot matter."""
    return Sigmoid(), whole(
        rows(size, length), torch.full((size, length), 0.7, dtype=torch.float64)
    )


def two_positions() -> tuple[Any, Inputs]:
    """C: hardly any adversary within epsilon."""
    return Sigmoid(), whole(
        torch.tensor([[0.7, 0.3]], dtype=torch.float64),
        torch.tensor([[2.0, -2.0]], dtype=torch.float64),
    )


def three_positions() -> tuple[Any, Inputs]:
    """D: half the weight on either side of the original gives its output, at ln 2."""
    return Sigmoid(), whole(
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64),
    )


def independent(size: int = 3000, length: int = 10) -> tuple[Any, Inputs]:
    """E: the attention knows nothing of the values."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(size, length, generator=generator, dtype=torch.float64)
    uniform = torch.rand(size, length, generator=generator, dtype=torch.float64)
    return Linear(), whole(uniform / uniform.sum(-1, keepdim=True), scores)


def suppressor(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    """F: the most attended position pushes the output down, the others up."""
    attention = rows(size, length)
    top = attention == attention.amax(-1, keepdim=True)
    return Sigmoid(), whole(attention, torch.where(top, -1.0, 1.0).double())


class Heads:
    """Two heads and two query rows; the second row may not use the last key."""

    output = "identity"

    def __init__(self) -> None:
        self.weights = rows(3 * 4, 5).view(3, 2, 2, 5)
        self.support = torch.ones(3, 2, 2, 5, dtype=torch.bool)
        self.support[:, :, 1, 4] = False

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Any:
        weights = (attention or {"heads": self.weights})["heads"]
        values = torch.arange(1.0, 6.0).double() ** 2
        mask = torch.ones(3, 5, dtype=torch.bool)
        mask[:, 0] = False
        logits = torch.cat([(weights * values).sum(-1).flatten(1)], -1)
        return Run(logits, {"heads": weights}, mask, support={"heads": self.support})
