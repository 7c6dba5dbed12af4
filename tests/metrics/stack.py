"""A transformer of two layers and two heads with an adapter that knows its padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from faithattn import Run

SIZE, LENGTH, WIDTH = 3, 6, 4
LENGTHS = (6, 4, 5)


def inputs(*, before: int = 0, after: int = 0) -> dict[str, Tensor]:
    """Embedded texts with one special token first, padded on either side."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(SIZE, LENGTH, WIDTH, generator=generator, dtype=torch.float64)
    real = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    mask = real.clone()
    mask[:, 0] = False
    pad = torch.nn.functional.pad
    return {
        "x": pad(x, (0, 0, before, after), value=5.0),
        "real": pad(real, (before, after)),
        "mask": pad(mask, (before, after)),
    }


class Stack:
    """Logits from the mean of the real states of the last layer."""

    output = "softmax"

    def __init__(self, n_classes: int = 3, *, causal: bool = False) -> None:
        generator = torch.Generator().manual_seed(8)

        def matrix(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

        self.query, self.value = (
            [[matrix(WIDTH, WIDTH) for _ in range(2)] for _ in range(2)] for _ in range(2)
        )
        self.out = matrix(WIDTH, n_classes)
        self.causal = causal

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        x = (features or {"x": inputs["x"]})["x"]
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        real = inputs["real"]
        allowed = real[:, None].expand(-1, real.shape[1], -1)
        if self.causal:
            allowed = allowed & torch.ones(real.shape[1], real.shape[1]).tril().bool()
        used, states = {}, x
        for layer in range(2):
            name = f"layers.{layer}"
            scores = torch.stack(
                [states @ q @ states.transpose(1, 2) for q in self.query[layer]], 1
            )
            # Queries of padding on the left of a causal model may use no key at all.
            own = scores.masked_fill(~allowed[:, None], -1e9).softmax(-1)
            used[name] = own if name not in (attention or {}) else attention[name]
            mixed = [used[name][:, h] @ states @ self.value[layer][h] for h in range(2)]
            states = (states + mixed[0] + mixed[1]).tanh()
        pooled = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        support = dict.fromkeys(used, allowed[:, None].expand_as(used["layers.0"]))
        state = SimpleNamespace(real=dict.fromkeys(used, real), inputs=inputs, x=x)
        return Run(pooled @ self.out, used, inputs["mask"], {"x": x}, support, state)


class Replaying(Stack):
    """The same with a replay, which says how it works."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.counts: list[int] = []

    def replay(self, state: Any, attention: Any) -> Tensor:
        count = len(next(iter(attention.values())))
        self.counts.append(count)
        each = [{name: value[k] for name, value in attention.items()} for k in range(count)]
        shown = {"x": state.x}
        runs = [self.run(state.inputs, attention=one, features=shown) for one in each]
        return torch.stack([run.logits for run in runs])

    def replayed_by(self, state: Any) -> str:
        return "recorded" if state is not None else "whole forwards"
