"""Small models around one additive attention; each subclass says what happens after it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

L, E = 6, 4


class Attender(nn.Module):
    """Embeds, encodes, attends; ``after`` makes logits of states and weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(20, E)
            self.encoder = nn.GRU(E, E, batch_first=True)
            self.score = nn.Linear(E, 1)
            self.head = nn.Linear(E, 3)
            self.make()
        self.double().eval()

    def make(self) -> None:
        """Further layers."""

    def forward(self, ids: Tensor) -> Tensor:
        h, _ = self.encoder(self.embedding(ids))
        weights = torch.softmax(self.score(torch.tanh(h)).squeeze(-1), -1)
        return self.after(h, weights)

    def after(self, h: Tensor, weights: Tensor) -> Tensor:
        return self.head(context(h, weights))


def context(h: Tensor, weights: Tensor) -> Tensor:
    return torch.bmm(weights.unsqueeze(1), h).squeeze(1)


def after(function: Any, **layers: Any) -> Attender:
    """A model whose ``after`` is a function of (model, states, weights)."""

    class Model(Attender):
        def make(self) -> None:
            for name, layer in layers.items():
                setattr(self, name, layer())

        def after(self, h: Tensor, weights: Tensor) -> Tensor:
            result: Tensor = function(self, h, weights)
            return result

    return Model()


def ids(batch: int = 3) -> Tensor:
    return torch.arange(batch * L).reshape(batch, L) * 7 % 20


class TwoSites(Attender):
    """A second attention whose scores depend on the first."""

    def after(self, h: Tensor, weights: Tensor) -> Tensor:
        first = context(h, weights)
        second = F.softmax((h * first[:, None]).sum(-1), -1)
        return self.head(torch.tanh(first) + context(h, second))


class Encoder(nn.Module):
    """A transformer written by hand, eager attention, several layers."""

    def __init__(self, layers: int = 2, heads: int = 2, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embedding = nn.Embedding(20, width)
            self.layers = nn.ModuleList(
                nn.ModuleDict(
                    {
                        "qkv": nn.Linear(width, 3 * width),
                        "out": nn.Linear(width, width),
                        "norm": nn.LayerNorm(width),
                        "up": nn.Linear(width, 2 * width),
                        "down": nn.Linear(2 * width, width),
                    }
                )
                for _ in range(layers)
            )
            self.head = nn.Linear(width, 3)
        self.heads = heads
        self.double().eval()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        batch, length, width = x.shape
        for layer in self.layers:
            q, k, v = (
                part.view(batch, length, self.heads, -1).transpose(1, 2)
                for part in layer["qkv"](x).chunk(3, -1)
            )
            weights = F.softmax(q @ k.transpose(-2, -1) / 2, -1)
            mixed = (weights @ v).transpose(1, 2).contiguous().view(batch, length, width)
            x = layer["norm"](x + F.dropout(layer["out"](mixed), 0.1, self.training))
            x = x + layer["down"](F.gelu(layer["up"](x)))
        logits: Tensor = self.head(x[:, 0])
        return logits
