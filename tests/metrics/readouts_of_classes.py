"""A linear readout of three classes on any device."""

from __future__ import annotations

from typing import Any

import torch

from faithattn import Run


def classes(device: str) -> Any:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 8, 4, generator=generator, dtype=torch.float64)
    own, values = noise[..., 0].softmax(-1).to(device), 2 * noise[..., 1:].to(device)

    class Classes:
        output = "softmax"

        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
            weights = (attention or {"row": own})["row"]
            logits = self.replay(0, {"row": weights[None]})[0]
            mask = torch.ones_like(weights, dtype=torch.bool)
            return Run(logits, {"row": weights}, mask, state=0)

        def replay(self, state: Any, attention: Any) -> torch.Tensor:
            return (attention["row"][..., None] * values).sum(-2)

    return Classes()
