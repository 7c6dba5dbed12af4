"""A transformer encoder of two layers, with a padded batch; its first token is special."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn import AttentionView, Run, TorchAdapter, adapt

SIZE, HEADS = 6, 2
IDS = torch.tensor([[1, 5, 6, 7, 8, 5], [1, 9, 3, 0, 0, 0], [1, 4, 9, 2, 6, 0]])
REAL = IDS != 0


class Encoder(nn.Module):
    """Classifies by the first state, or by attention pooling over all of them."""

    def __init__(self, *, causal: bool = False, pooling: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.embed = nn.Embedding(12, SIZE, padding_idx=0)
            layer = nn.TransformerEncoderLayer(SIZE, HEADS, 8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.score, self.out = nn.Linear(SIZE, 1), nn.Linear(SIZE, 3)
            for part in self.parameters():
                if part.ndim > 1:
                    nn.init.normal_(part, std=0.8)
        self.causal, self.pooling = causal, pooling
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        states = self.encoder(self.embed(ids), mask=later, src_key_padding_mask=ids == 0)
        if not self.pooling:
            return self.out(states[:, 0] + (states * (ids != 0)[..., None]).sum(1) / 4)
        scores = self.score(states)[..., 0].masked_fill(ids == 0, -1e9)
        return self.out((scores.softmax(-1)[..., None] * states).sum(1))


LAYERS = ("encoder.layers.0.self_attn", "encoder.layers.1.self_attn")


def adapted(*, causal: bool = False, pooling: bool = False) -> TorchAdapter:
    """The transformer, its first token left out of the explanations."""
    return adapt(Encoder(causal=causal, pooling=pooling), mask=lambda ids: ids > 1)


def attention_of(adapter: TorchAdapter, ids: Tensor = IDS) -> Mapping[str, Tensor]:
    with torch.no_grad():
        return adapter.run(ids).attention


class ByHand:
    """An adapter as anybody writes one: no more than the protocol."""

    def __init__(self, inner: Any, *, detached: bool = False) -> None:
        self.inner, self.output, self.detached = inner, "softmax", detached

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        run = self.inner.run(inputs, attention=attention, features=features)
        weights = run.attention
        if self.detached:
            weights = {name: each.detach() for name, each in weights.items()}
        return Run(run.logits, weights, run.mask, run.features, run.support)


def padded(ids: Tensor, more: int) -> Tensor:
    return F.pad(ids, (0, more))


VIEWS = {
    "first token": AttentionView.cls(),
    "one head": AttentionView.cls(heads=1),
    "first layer, every query": AttentionView(LAYERS[0]),
    "everything": AttentionView(LAYERS),
}
