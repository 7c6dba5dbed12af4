"""scaled_dot_product_attention with its weights on the way to its output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn.adapters.interception import kernels
from faithattn.adapters.interception.watcher import Place, Watcher
from faithattn.errors import AdapterError


def attended(
    watcher: Watcher,
    place: Place,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Shows the weights to the watcher and goes on with what it returns."""
    if query.is_nested or key.is_nested:
        raise AdapterError(
            f"attention must be computed on plain tensors; got nested ones in {place.name!r} "
            f"({place.where}). Run the model with padding and a mask."
        )
    query, key, value, attn_mask = kernels.as_autocast(query, key, value, attn_mask)
    if enable_gqa:
        key, value = kernels.repeat_heads(query, key), kernels.repeat_heads(query, value)
    weights = kernels.sdpa_weights(query, key, attn_mask, is_causal, scale)
    shape = weights.detach()

    def support() -> Tensor:
        return kernels.sdpa_support(shape, attn_mask, is_causal)

    used = watcher.weights(place, weights, -1, support)
    if dropout_p > 0:
        used = F.dropout(used, dropout_p)
    return torch.matmul(used.to(value.dtype), value)
