"""Planted models as pairs of model and inputs, and others that only tests need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn import Run
from faithattn.planted import Linear, Planted, Sigmoid, rows, toys, whole

__all__ = [
    "Bag",
    "Heads",
    "Linear",
    "Sigmoid",
    "faithful",
    "independent",
    "indifferent",
    "rows",
    "suppressor",
    "three_positions",
    "two_positions",
    "whole",
]

Inputs = tuple[Tensor, Tensor, Tensor]  # attention (B, L), scores (B, L), mask (B, L)


def _pair(case: Planted) -> tuple[Any, Inputs]:
    return case.model, case.inputs


def faithful(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    return _pair(toys.faithful(size, length))


def indifferent(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    return _pair(toys.indifferent(size, length))


def two_positions() -> tuple[Any, Inputs]:
    return _pair(toys.two_positions())


def three_positions() -> tuple[Any, Inputs]:
    return _pair(toys.three_positions())


def independent(size: int = 3000, length: int = 10) -> tuple[Any, Inputs]:
    return _pair(toys.independent(size, length))


def suppressor(size: int = 6, length: int = 9) -> tuple[Any, Inputs]:
    return _pair(toys.suppressor(size, length))


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
