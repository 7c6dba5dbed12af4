"""The same questions answered without faithattn: functions of torch patched by hand.

faithattn watches a model through a function mode. Here the functions themselves
are exchanged for slow ones written out, so that the two share nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from .entry import Entry, Weights

Visit = Callable[[Tensor], Tensor]


@dataclass
class Hand:
    """What a plain forward with patched functions gave.

    Attributes:
        logits: ``(B, C)``.
        attention: Weights by site, part of the graph.
        feature: Output of the entry's feature module, part of the graph.
    """

    logits: Tensor
    attention: Weights = field(default_factory=dict)
    feature: Tensor | None = None


def by_hand(entry: Entry, overrides: Weights | None = None) -> Hand:
    """Runs an entry with its attention recorded, and replaced where an override is given."""
    overrides = overrides or {}
    hand = Hand(torch.empty(0))
    names = iter(entry.sites)

    def visit(weights: Tensor) -> Tensor:
        if entry.skip(weights):
            return weights
        name = next(names)
        shown = _canonical(entry, weights)
        shown = overrides[name].to(shown) if name in overrides else shown
        hand.attention[name] = shown
        return _original(entry, shown, weights)

    def keep(_module: Any, _args: Any, output: Any) -> None:
        if hand.feature is None:
            hand.feature = output[0] if isinstance(output, tuple) else output

    def keep_input(_module: Any, args: Any) -> Any:
        first = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        hand.feature = first if hand.feature is None else hand.feature
        return (first, *args[1:])

    with ExitStack() as stack:
        parts = dict(entry.model.named_modules())
        part = parts[entry.feature]
        handle = (
            part.register_forward_pre_hook(keep_input)
            if entry.feature_is_input
            else part.register_forward_hook(keep)
        )
        stack.callback(handle.remove)
        for name in entry.outputs:
            hook = parts[name].register_forward_hook(lambda _m, _a, output: visit(output))
            stack.callback(hook.remove)
        if not entry.outputs:
            stack.enter_context(patched(visit))
        hand.logits = entry.forward()
    left = list(names)
    if left:
        raise AssertionError(f"the model never computed {left}")
    return hand


def _canonical(entry: Entry, weights: Tensor) -> Tensor:
    if entry.layout is not None:
        return entry.layout[0](weights)
    if entry.heads is not None and weights.ndim == 3:
        return weights.view(-1, entry.heads, *weights.shape[1:])
    return weights


def _original(entry: Entry, shown: Tensor, like: Tensor) -> Tensor:
    return entry.layout[1](shown) if entry.layout is not None else shown.reshape(like.shape)


@contextmanager
def patched(visit: Visit) -> Iterator[None]:
    """Every softmax and attention function of torch, in the open."""

    def softmax(scores: Tensor, dim: Any = None, *rest: Any, dtype: Any = None, **_: Any) -> Tensor:
        return visit(_softmax(scores if dtype is None else scores.to(dtype), dim))

    def log_softmax(scores: Tensor, dim: Any = None, *_: Any, **__: Any) -> Tensor:
        # What is added lets the gradient of exp(log(0)) be 1, as it is in the weights.
        return (visit(_softmax(scores, dim)) + 1e-30).log()

    def sdpa(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = (each.repeat_interleave(times, dim=-3) for each in (key, value))
        weights = sdpa_weights(query, key, attn_mask, is_causal, scale)
        return visit(weights) @ value

    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        for owner, name, function in (
            (F, "softmax", softmax),
            (F, "log_softmax", log_softmax),
            (F, "scaled_dot_product_attention", sdpa),
            (torch, "softmax", softmax),
            (torch, "log_softmax", log_softmax),
            (torch.Tensor, "softmax", softmax),
            (torch.Tensor, "log_softmax", log_softmax),
        ):
            stack.enter_context(mock.patch.object(owner, name, function))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


def _softmax(scores: Tensor, dim: int | None) -> Tensor:
    """Written out; torch's odd default where no dimension is named."""
    at = dim if dim is not None else (0 if scores.ndim in (0, 1, 3) else 1)
    exponential = (scores - scores.amax(at, keepdim=True).detach()).exp()
    return exponential / exponential.sum(at, keepdim=True)


def sdpa_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The weights inside scaled_dot_product_attention; rows without a key are 0."""
    scores = query @ key.transpose(-2, -1) * (scale or 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    empty = (scores == -math.inf).all(-1, keepdim=True)
    return _softmax(scores.masked_fill(empty, 0), -1).masked_fill(empty, 0)
