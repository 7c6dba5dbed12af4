"""Projections, heads and scaled dot products that people write by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import Entry, Weights, architecture, built, evaluated, texts
from .oracle import sdpa_weights
from .recurrent import LENGTHS, real


class ByHand(nn.Module):
    """Projections and F.scaled_dot_product_attention, called as told; the last real state."""

    def __init__(self, call: Callable[[Tensor], dict[str, Any]], heads: int, groups: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32)
        self.places = nn.Embedding(16, 32)
        self.query = nn.Linear(32, 8 * heads)
        self.key, self.value = nn.Linear(32, 8 * groups), nn.Linear(32, 8 * groups)
        self.out, self.call = nn.Linear(8 * heads, 3), call

    def parts(self, ids: Tensor) -> list[Tensor]:
        x = self.embedding(ids) + self.places(torch.arange(ids.shape[1]))
        made = (self.query(x), self.key(x), self.value(x))
        return [each.unflatten(-1, (-1, 8)).transpose(1, 2) for each in made]

    def forward(self, ids: Tensor) -> Tensor:
        query, key, value = self.parts(ids)
        states = F.scaled_dot_product_attention(query, key, value, **self.call(ids))
        last = real(ids).sum(1) - 1
        return self.out(states.transpose(1, 2).flatten(2)[torch.arange(len(ids)), last])


def sdpa(call: Callable[[Tensor], dict[str, Any]], *, groups: int = 4) -> Entry:
    model = built(lambda: ByHand(call, 4, groups))
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            query, key, _ = model.parts(ids)
            options = dict(call(ids))
            if options.pop("enable_gqa", False):
                key = key.repeat_interleave(4 // groups, 1)
            return {"attention": sdpa_weights(query, key, **options)}

    return Entry(
        model,
        ids,
        ("attention",),
        own,
        "embedding",
        "embedding",
        options={"mask": 0, "embedding": "embedding"},
        view=AttentionView("attention", query=torch.tensor(LENGTHS) - 1),
    )


@architecture("F.sdpa by hand, is_causal")
def sdpa_causal() -> Entry:
    return sdpa(lambda _ids: {"is_causal": True})


@architecture("F.sdpa by hand, bool mask")
def sdpa_bool() -> Entry:
    return sdpa(lambda ids: {"attn_mask": real(ids)[:, None, None]})


@architecture("F.sdpa by hand, float mask and scale")
def sdpa_float() -> Entry:
    def call(ids: Tensor) -> dict[str, Any]:
        places = torch.arange(ids.shape[1])
        bias = -0.2 * (places[:, None] - places).abs().float()
        mask = bias + torch.zeros(ids.shape).masked_fill(ids == 0, -torch.inf)[:, None, None]
        return {"attn_mask": mask, "scale": 0.2}

    return sdpa(call)


@architecture("F.sdpa by hand, grouped queries")
def sdpa_grouped() -> Entry:
    return sdpa(lambda _ids: {"is_causal": True, "enable_gqa": True}, groups=2)


class Folded(nn.Module):
    """Heads in the batch, ``(B * H, L, L)``, as fairseq and the original torch code did it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        self.project, self.out = nn.Linear(32, 96), nn.Linear(32, 2)

    def scores(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        size, length = ids.shape
        parts = self.project(self.embedding(ids)).view(size, length, 3, 4, 8)
        query, key, value = parts.permute(2, 0, 3, 1, 4).reshape(3, size * 4, length, 8)
        padding = (ids == 0).repeat_interleave(4, 0)[:, None]
        return torch.bmm(query, key.mT).div(8**0.5).masked_fill(padding, -torch.inf), value

    def forward(self, ids: Tensor) -> Tensor:
        scores, value = self.scores(ids)
        states = torch.bmm(F.softmax(scores, dim=-1), value)
        states = states.view(len(ids), 4, -1, 8).transpose(1, 2).flatten(2)
        return self.out((states * real(ids)[..., None]).sum(1))


@architecture("heads folded into the batch, bmm")
def folded() -> Entry:
    model = built(Folded)
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            return {"attention": model.scores(ids)[0].softmax(-1).view(3, 4, 8, 8)}

    view = AttentionView("attention", heads=2)
    return Entry(model, ids, ("attention",), own, "embedding", "embedding", view=view, heads=4)
