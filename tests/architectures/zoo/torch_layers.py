"""Attention layers that come with torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import Entry, Weights, architecture, built, evaluated, texts
from .recurrent import LENGTHS, real


class MultiHead(nn.Module):
    """Embedding, nn.MultiheadAttention called as told, mean over real positions."""

    def __init__(self, call: Callable[[Tensor], dict[str, Any]], **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        self.attn = nn.MultiheadAttention(32, 4, **options)
        self.out, self.call = nn.Linear(32, 3), call

    def states(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        return x if self.attn.batch_first else x.transpose(0, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.states(ids)
        y = self.attn(x, x, x, **self.call(ids))[0]
        y = y if self.attn.batch_first else y.transpose(0, 1)
        keep = real(ids)[..., None]
        return self.out((y * keep).sum(1) / keep.sum(1))


def padded(ids: Tensor, **more: Any) -> dict[str, Any]:
    """A key padding mask, True on padding, and whatever else."""
    return {"key_padding_mask": ids == 0, **more}


def causal(ids: Tensor) -> Tensor:
    """Bool, True where attention is not allowed."""
    return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)


def distance(ids: Tensor) -> Tensor:
    """Float ``(B * H, L, L)``: a penalty on distance, padding off."""
    places = torch.arange(ids.shape[1])
    bias = -0.3 * (places[:, None] - places).abs().float()
    whole = bias.expand(len(ids), 4, *bias.shape).masked_fill(~real(ids)[:, None, None], -torch.inf)
    return whole.flatten(0, 1)


def multi_head(model: MultiHead, **more: Any) -> Entry:
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            x = model.states(ids)
            call = {**model.call(ids), "need_weights": True, "average_attn_weights": False}
            return {"attn": model.attn(x, x, x, **call)[1]}

    options = {"view": AttentionView("attn", heads=1), **more}
    return Entry(model, ids, ("attn",), own, "embedding", "embedding", heads=4, **options)


@architecture("nn.MultiheadAttention, need_weights, padding")
def multi_head_weights() -> Entry:
    return multi_head(built(lambda: MultiHead(padded, batch_first=True)))


@architecture("nn.MultiheadAttention, no weights, (L, B, E)")
def multi_head_plain() -> Entry:
    return multi_head(built(lambda: MultiHead(lambda ids: padded(ids, need_weights=False))))


@architecture("nn.MultiheadAttention, bool attn_mask (causal)")
def multi_head_bool() -> Entry:
    def call(ids: Tensor) -> dict[str, Any]:
        return padded(ids, attn_mask=causal(ids), average_attn_weights=False)

    return multi_head(built(lambda: MultiHead(call, batch_first=True)))


@architecture("nn.MultiheadAttention, float attn_mask (B·H, L, L)")
def multi_head_float() -> Entry:
    def call(ids: Tensor) -> dict[str, Any]:
        return {"attn_mask": distance(ids), "need_weights": False}

    return multi_head(built(lambda: MultiHead(call, batch_first=True)))


@architecture("nn.MultiheadAttention, add_bias_kv, add_zero_attn")
def multi_head_bias() -> Entry:
    def make() -> nn.Module:
        return MultiHead(padded, batch_first=True, add_bias_kv=True, add_zero_attn=True)

    return multi_head(built(make))


def returned(model: nn.Module, names: tuple[str, ...], forward: Callable[[], Any]) -> Weights:
    """What nn.MultiheadAttention returns when it is asked for weights of every head."""
    seen: Weights = {}

    def ask(_module: Any, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    parts = dict(model.named_modules())
    handles = [parts[name].register_forward_pre_hook(ask, with_kwargs=True) for name in names]

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _args, output: seen.__setitem__(name, output[1])

    handles += [parts[name].register_forward_hook(keep(name)) for name in names]
    try:
        with evaluated(model), torch.enable_grad():  # no fast path: it skips the layers
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return seen


class Encoder(nn.Module):
    """nn.TransformerEncoder with padding; its fast path zeroes padded positions."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
        self.out = nn.Linear(32, 2)

    def forward(self, ids: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*nested tensors.*")
            x = self.encoder(self.embedding(ids), src_key_padding_mask=ids == 0)
        keep = real(ids)[..., None]
        return self.out((x * keep).sum(1) / keep.sum(1))


def encoder(norm_first: bool) -> Entry:
    model = built(lambda: Encoder(norm_first=norm_first))
    ids = texts(LENGTHS)
    sites = tuple(f"encoder.layers.{index}.self_attn" for index in range(2))

    def own() -> Weights:
        return returned(model, sites, lambda: model(ids))

    view = AttentionView(sites[1], query=None)
    return Entry(model, ids, sites, own, "embedding", "embedding", view=view)


@architecture("nn.TransformerEncoder, padding")
def encoder_after() -> Entry:
    return encoder(norm_first=False)


@architecture("nn.TransformerEncoder, norm_first, padding")
def encoder_before() -> Entry:
    return encoder(norm_first=True)


class Sequences(nn.Module):
    """nn.Transformer from a padded source to a target of four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        self.starts = nn.Parameter(torch.zeros(4, 32))
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
        self.out = nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        target = self.starts.expand(len(ids), -1, -1)
        mask = nn.Transformer.generate_square_subsequent_mask(4)
        padding = torch.zeros(ids.shape).masked_fill(ids == 0, -torch.inf)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*nested tensors.*")
            states = self.transformer(
                self.embedding(ids),
                target,
                tgt_mask=mask,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
        return self.out(states[:, -1])


@architecture("nn.Transformer, cross attention")
def transformer() -> Entry:
    model = built(Sequences)
    ids = texts(LENGTHS)
    sites = (
        "transformer.encoder.layers.0.self_attn",
        "transformer.encoder.layers.1.self_attn",
        "transformer.decoder.layers.0.self_attn",
        "transformer.decoder.layers.0.multihead_attn",
        "transformer.decoder.layers.1.self_attn",
        "transformer.decoder.layers.1.multihead_attn",
    )

    def own() -> Weights:
        return returned(model, sites, lambda: model(ids))

    view = AttentionView(sites[-1], query=-1)
    return Entry(model, ids, sites, own, "embedding", "embedding", view=view)


class Queries(nn.Module):
    """nn.TransformerDecoder: learned queries read a padded text, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        self.queries = nn.Parameter(torch.zeros(2, 32))
        layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(32))
        self.out = nn.Linear(64, 1)

    def forward(self, ids: Tensor) -> Tensor:
        queries = self.queries.expand(len(ids), -1, -1)
        states = self.decoder(queries, self.embedding(ids), memory_key_padding_mask=ids == 0)
        return self.out(states.flatten(1))


@architecture("nn.TransformerDecoder, learned queries")
def queries() -> Entry:
    model = built(Queries)
    ids = texts(LENGTHS)
    sites = tuple(
        f"decoder.layers.{index}.{part}"
        for index in range(2)
        for part in ("self_attn", "multihead_attn")
    )

    def own() -> Weights:
        return returned(model, sites, lambda: model(ids))

    view = AttentionView(sites[-1])
    return Entry(model, ids, sites, own, "embedding", "embedding", view=view)
