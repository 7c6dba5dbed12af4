"""Attention flow: the largest flow from a query through the layers to each position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from faithattn._checks import require_flags
from faithattn.measures.attention.layers import checked_layers, checked_rows, with_residual

_SCALE = 2**28  # capacities are whole numbers of 32 bits, sums included
_MOST = 4


def attention_flow(
    attention: Sequence[Tensor],
    *,
    rows: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention flow: the maximum flow from a query to each input position, one at a time.

    Positions of every layer are nodes, and attention with its residual,
    ``(A + I) / row sum`` of the mean over heads, is the capacity of the edges
    from a layer to the one below. Unlike a product, a flow is limited by the
    narrowest place on its way.

    One maximum flow a row and position is computed, on N layers of T x T edges:
    for a batch of B texts about ``B Q T`` times the cost of one, each growing as
    ``N T^2`` or faster. Short texts and single queries are quick, all queries of
    long texts are not.

    Args:
        attention: Self-attention by layer, the first layer first, each
            ``(B, L, L)`` or ``(B, H, L, L)``, floating point.
        rows: Capacities from a source to the positions above the last layer,
            ``(B, Q, L)``: one-hot queries, or a row of pooling attention. None
            is every position as a query. Each row sums to 4 at most.
        mask: Positions to which the flow is wanted, ``(B, L)`` bool; all if None.

    Returns:
        Flows ``(B, Q, L)`` in 0..1 for rows that sum to 1, 0 outside the mask.
        Capacities are rounded to multiples of 2**-28. Computed on the CPU; no
        gradient.

    Raises:
        TypeError: If an input is not floating point or the mask not boolean.
        ValueError: If the layers are not square and of one size, or a capacity
            is negative, too large or nan.

    References:
        Abnar & Zuidema (2020), "Quantifying attention flow in transformers".

    Examples:
        >>> import torch
        >>> layer = torch.full((1, 2, 2), 0.5)
        >>> attention_flow([layer, layer])
        tensor([[[1.0000, 0.5000],
                 [0.5000, 1.0000]]])
    """
    layers = checked_layers("attention", attention)
    start = checked_rows(rows, layers[-1])
    size, length = layers[0].shape[0], layers[0].shape[-1]
    wanted = torch.ones(size, length, dtype=torch.bool, device=start.device)
    if mask is not None:
        wanted = require_flags("mask", mask, "attention", wanted, "wanted")
    capacities = torch.stack([with_residual(layer.detach()) for layer in reversed(layers)], 1)
    _require_capacities("attention", capacities, capacities)
    _require_capacities("rows", start, start.sum(-1))
    edges = np.rint(capacities.double().cpu().numpy() * _SCALE).astype(np.int32)
    sources = np.rint(start.detach().double().cpu().numpy() * _SCALE).astype(np.int32)
    sinks = [row.nonzero()[:, 0].tolist() for row in wanted.cpu()]
    flows = [_flows(*each) for each in zip(edges, sources, sinks, strict=True)]
    found = torch.from_numpy(np.stack(flows)) / _SCALE
    return found.to(start)


def _require_capacities(name: str, values: Tensor, sums: Tensor) -> None:
    """Requires what can be rounded to whole numbers of 32 bits."""
    low, high = (float(each) for each in (values.min(), sums.max()))
    if not (low >= 0 and high <= _MOST):
        raise ValueError(
            f"{name} must hold capacities that are 0 or more and sum to {_MOST} at most; "
            f"got {low:g} to a sum of {high:g}. Divide rows by their sum."
        )


def _flows(
    edges: NDArray[np.int32], sources: NDArray[np.int32], sinks: list[int]
) -> NDArray[np.float64]:
    """Flows (Q, L) of one instance with edges (N, L, L), last layer first."""
    count, length = edges.shape[:2]
    layer, upper, lower = edges.nonzero()
    begin = 1 + layer * length + upper  # node 0 is the source
    end = 1 + (layer + 1) * length + lower
    nodes = 1 + (count + 1) * length
    flows = np.zeros((len(sources), length))
    for query, row in enumerate(sources):
        first = row.nonzero()[0]
        values = np.concatenate([row[first], edges[layer, upper, lower]])
        places = (np.concatenate([0 * first, begin]), np.concatenate([1 + first, end]))
        graph = csr_array((values, places), shape=(nodes, nodes))
        for sink in sinks:
            flows[query, sink] = maximum_flow(graph, 0, 1 + count * length + sink).flow_value
    return flows
