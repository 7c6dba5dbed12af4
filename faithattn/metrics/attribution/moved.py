"""A model at other features than those of its inputs, as an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import AttentionModel, Run


@dataclass(frozen=True, eq=False)
class Point:
    """Inputs, and the features ``(n, L, E)`` to use instead of theirs."""

    inputs: Any
    features: Tensor


class Moved:
    """Runs a model at points: an explanation of it is one of the model there."""

    def __init__(self, model: AttentionModel, name: str, output: str) -> None:
        self.model = model
        self.name = name
        self.output = output

    def run(
        self,
        inputs: Point,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model at a point."""
        used = dict(features or {self.name: inputs.features})
        if torch.is_grad_enabled():
            used = {
                name: value if value.requires_grad else value.detach().requires_grad_()
                for name, value in used.items()
            }
        return self.model.run(inputs.inputs, attention=attention, features=used)

    def select(self, inputs: Point, rows: Tensor) -> Point:
        """Returns the points of the given rows."""
        return Point(select(self.model, inputs.inputs, rows), inputs.features[rows])
