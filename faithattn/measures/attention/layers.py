"""Attention of several layers: what is given, and how a layer passes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating


def checked_layers(name: str, layers: Sequence[Tensor]) -> list[Tensor]:
    """Requires square attention (B, L, L) or (B, H, L, L) of one size, first layer first."""
    checked = [require_floating(f"{name}[{n}]", layer) for n, layer in enumerate(layers)]
    if not checked:
        raise ValueError(f"{name} must hold at least one layer; got none. Pass (B, H, L, L) each.")
    size, length = checked[0].shape[0], checked[0].shape[-1]
    for n, layer in enumerate(checked):
        fits = layer.ndim in (3, 4) and layer.shape[-2:] == (length, length)
        if not fits or len(layer) != size:
            raise ValueError(
                f"{name} must have shape (B, L, L) or (B, H, L, L), alike in all layers but for H; "
                f"got {tuple(checked[0].shape)} and, in layer {n}, {tuple(layer.shape)}. "
                "Leave out layers over other positions."
            )
        require_device(f"{name}[{n}]", layer, f"{name}[0]", checked[0])
        require_dtype(f"{name}[{n}]", layer, f"{name}[0]", checked[0])
    return checked


def checked_rows(rows: Tensor | None, like: Tensor) -> Tensor:
    """Rows (B, Q, L) to start from; one for each position where none are given."""
    size, length = like.shape[0], like.shape[-1]
    if rows is None:
        return torch.eye(length, dtype=like.dtype, device=like.device).expand(size, -1, -1)
    rows = require_floating("rows", rows)
    if rows.ndim != 3 or rows.shape[0] != size or rows.shape[-1] != length:
        raise ValueError(
            f"rows must have shape (B, Q, L) with B = {size} and L = {length}; "
            f"got {tuple(rows.shape)}. Leave them out for every position."
        )
    require_device("rows", rows, "attention", like)
    require_dtype("rows", rows, "attention", like)
    return rows


def require_dtype(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Requires two tensors to have one dtype."""
    if value.dtype != other.dtype:
        raise ValueError(
            f"{name} must have the dtype of {other_name}; got {value.dtype} and {other.dtype}. "
            "Convert one of them."
        )


def over_heads(values: Tensor) -> Tensor:
    """Mean of (B, H, L, L) over the heads; (B, L, L) as it is."""
    return values.mean(1) if values.ndim == 4 else values


def with_residual(layer: Tensor) -> Tensor:
    """Attention of a layer and its residual connection, in equal parts, as rows that sum to 1.

    A row without any weight, as one of padding may be, passes on itself alone.
    """
    mixed = over_heads(layer) + torch.eye(layer.shape[-1], dtype=layer.dtype, device=layer.device)
    return mixed / mixed.sum(-1, keepdim=True)
