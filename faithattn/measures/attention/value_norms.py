"""Attention weighted by what it moves: norms of weighted, transformed values."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating
from faithattn._memory import chunk_size
from faithattn.measures.draws import spans


def value_norms(attention: Tensor, values: Tensor) -> Tensor:
    """Norm of what each key adds to each query's output, summed over heads as vectors.

    ``|| sum over h of a[h, i, j] f_h(x_j) ||``, where ``f_h(x_j)`` is the value
    of key j transformed by head h's part of the output projection. For one
    head it is ``a[i, j] ||f(x_j)||``. Vectors of different heads can cancel.

    Args:
        attention: Weights, shape ``(B, H, Q, L)``, floating point.
        values: Transformed values, shape ``(B, H, L, E)``; same dtype.

    Returns:
        Norms ``(B, Q, L)``, zero or more, in units of the output.

    Raises:
        TypeError: If an input is not floating point.
        ValueError: If the shapes do not go together.

    References:
        Kobayashi, Kuribayashi, Yokoi & Inui (2020), "Attention is not only a
        weight: analyzing transformers with vector norms", equation 8.

    Examples:
        >>> import torch
        >>> attention = torch.tensor([[[[0.5, 0.5]], [[0.5, 0.5]]]])
        >>> values = torch.tensor([[[[3.0, 4.0], [1.0, 0.0]], [[3.0, 4.0], [-1.0, 0.0]]]])
        >>> value_norms(attention, values)
        tensor([[[5., 0.]]])
    """
    weights, vectors = require_floating("attention", attention), require_floating("values", values)
    if weights.ndim != 4 or vectors.ndim != 4 or _outer(weights, -1) != _outer(vectors, -2):
        raise ValueError(
            "values must have shape (B, H, L, E) for attention (B, H, Q, L); got "
            f"{tuple(vectors.shape)} for {tuple(weights.shape)}. Give one vector a head and key."
        )
    require_device("values", vectors, "attention", weights)
    # Not by the scalar products of the heads, in which vectors that cancel lose their digits.
    size, _, queries, length = weights.shape
    step = chunk_size(size * length * vectors.shape[-1], bytes_per_element=2 * vectors.itemsize)
    parts = [
        torch.einsum("bhqk,bhke->bqke", weights[:, :, first:last], vectors).norm(dim=-1)
        for first, last in spans(queries, step)
    ]
    return torch.cat(parts, 1)


def _outer(value: Tensor, keys: int) -> tuple[int, ...]:
    return (*value.shape[:2], value.shape[keys])
