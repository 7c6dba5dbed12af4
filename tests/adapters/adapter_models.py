"""A small attention model, and an adapter for it written by hand, in parts that can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import Run
from faithattn.adapters.state import evaluating

IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
SAME_LENGTH = torch.tensor([[5, 6, 7], [4, 9, 8], [10, 11, 3]])
SITE, FEATURE = "a", "x"


class Model(nn.Module):
    """Embedding, one layer, additive attention, linear decoder; padding is 0 and masked."""

    def __init__(self, n_classes: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.embedding = nn.Embedding(12, 4, padding_idx=0)
            self.hidden = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
            self.score = nn.Linear(5, 1)
            self.out = nn.Linear(5, n_classes)
        self.double()

    def encode(self, x: Tensor, real: Tensor) -> Tensor:
        mean = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        return self.hidden(x + mean[:, None])

    def attend(self, states: Tensor, real: Tensor) -> Tensor:
        return self.score(states).squeeze(-1).masked_fill(~real, -1e9).softmax(-1)

    def decode(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.out((weights[..., None] * states).sum(-2))

    def forward(self, ids: Tensor) -> Tensor:
        states = self.encode(self.embedding(ids), ids != 0)
        return self.decode(self.attend(states, ids != 0), states)


class Adapter:
    """The protocol, one method a duty."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model: Any = Model() if model is None else model

    def run(
        self,
        inputs: Any,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        with evaluating(self.model):
            x = self.embed(inputs, features)
            states = self.encode(x, inputs)
            own = self.attend(states, inputs)
            given = None if attention is None else attention.get(SITE)
            used = own if given is None else self.use(given, own)
            logits = self.logits(used, states)
            weights = {SITE: own if given is None else self.report(given, own)}
            shown = {FEATURE: self.feature(x)}
            return Run(logits, weights, self.mask(inputs), shown, state=self.state(states))

    def embed(self, inputs: Tensor, features: Mapping[str, Tensor] | None) -> Tensor:
        x = features[FEATURE] if features else self.model.embedding(inputs)
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        return x

    def encode(self, x: Tensor, inputs: Tensor) -> Tensor:
        return self.model.encode(x, inputs != 0)

    def attend(self, states: Tensor, inputs: Tensor) -> Tensor:
        return self.model.attend(states, inputs != 0)

    def use(self, given: Tensor, own: Tensor) -> Tensor:
        return given

    def report(self, given: Tensor, own: Tensor) -> Tensor:
        return given

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.model.decode(weights, states)

    def feature(self, x: Tensor) -> Tensor:
        return x

    def mask(self, inputs: Tensor) -> Tensor:
        return inputs != 0

    def state(self, states: Tensor) -> Any:
        return states


class Replays:
    """Replay from the states, for any adapter."""

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        return self.logits(attention[SITE], state)  # type: ignore[attr-defined]


class Removes:
    """Deletion of one id a row; columns of padding go."""

    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        kept = torch.arange(inputs.shape[1]) != positions[:, None]
        shorter = inputs[kept].view(len(inputs), -1)
        return shorter[:, : max(1, int((shorter != 0).sum(1).max()))]


class Selects:
    """Selection of rows, without the padding that the others needed."""

    def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
        chosen = inputs[rows]
        return chosen[:, : max(1, int((chosen != 0).sum(1).max()))]


class Full(Replays, Removes, Selects, Adapter):
    """Everything an adapter may offer."""


def sparsemax(scores: Tensor) -> Tensor:
    """Projection of scores (..., L) onto the simplex, which leaves some out."""
    ordered = scores.sort(-1, descending=True).values
    total = ordered.cumsum(-1)
    rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    count = (1 + rank * ordered > total).sum(-1, keepdim=True)
    threshold = (total.gather(-1, count - 1) - 1) / count
    return (scores - threshold).clamp_min(0)
