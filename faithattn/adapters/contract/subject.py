"""An adapter under test, with what its checks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.protocol import AttentionModel, Run
from faithattn.measures.draws import normal_noise


@dataclass(frozen=True)
class Subject:
    """The adapter under test, its inputs, its condition before, and a run without gradients."""

    adapter: AttentionModel
    inputs: Any
    base: Run
    before: Mapping[str, Any]

    def logits(self, **overrides: Any) -> Tensor:
        """Logits of a run with overrides."""
        with torch.no_grad():
            return self.adapter.run(self.inputs, **overrides).logits

    def moved(self, logits: Tensor, other: Tensor | None = None) -> float | None:
        """The largest difference from the base logits that is more than float noise."""
        base = self.base.logits if other is None else other
        if logits.shape != base.shape:
            return float("inf")
        noise = 1e-4 if base.dtype in (torch.float32, torch.float64) else 2e-2
        gap = (logits - base).detach().abs()
        # Each logit has its own noise: an excluded class may be the lowest finite number.
        over = ~(gap <= noise * (1 + base.detach().abs()))  # nan counts as moved
        return float(gap[over].max()) if over.any() else None

    def alternatives(self, site: str, count: int) -> Tensor:
        """Other attention of the site, zero where it was: (count, B, ...)."""
        weights = self.base.attention[site].detach()
        flat = weights.double().flatten(1)
        everywhere = torch.ones_like(flat, dtype=torch.bool)
        ids = torch.arange(len(flat), device=flat.device)
        noise = normal_noise(1, ids, count, everywhere).view(count, *weights.shape)
        mixed = weights.double() * noise.exp()
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp_min(1e-300)
        return mixed.to(weights.dtype)


def modules(adapter: object) -> list[nn.Module]:
    """The modules an adapter is or holds, and all that they hold."""
    held = [adapter, *getattr(adapter, "__dict__", {}).values()]
    parts = [part for each in held if isinstance(each, nn.Module) for part in each.modules()]
    return list(dict.fromkeys(parts))
