"""Scores by what is attended to: value norms and effective attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine, fit_affine
from faithattn.adapters.reading import Reading
from faithattn.adapters.rows import Rows
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.view import as_tuple
from faithattn.errors import AdapterError
from faithattn.explanations.asked import Asked, mean_of_queries, split, weights_of
from faithattn.measures.attention.effective import effective_attention
from faithattn.measures.attention.value_norms import value_norms


def value_norm(asked: Asked) -> Tensor:
    """Norm of the weighted, transformed values, summed over heads as vectors."""
    reading = asked.reading
    if not isinstance(reading.model, TorchAdapter):
        return _norms_to_logits(reading)
    weights = split(reading.rows, weights_of(reading.rows))
    found = [
        value_norms(weights[:, index] * used, values.to(weights.dtype))
        for index, (values, used) in enumerate(_values(reading))
    ]
    return mean_of_queries(reading.rows, torch.stack(found, 1))


def effective(asked: Asked) -> Tensor:
    """Attention minus its projection on the left null space of the transformed values."""
    reading = asked.reading
    if not isinstance(reading.model, TorchAdapter):
        return _effective_to_logits(reading)
    rows = reading.rows
    weights = split(rows, rows.of(rows.attention)).to(rows.conditional.dtype)
    keys = split(rows, _usable(reading))
    found = []
    for index, (values, used) in enumerate(_values(reading)):
        own = weights[:, index] * used
        effect = effective_attention(own, values, mask=keys[:, index] & used)
        found.append(effect.attention.mean(1))
    return mean_of_queries(rows, torch.stack(found, 1))


def _values(reading: Reading) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each site, values ``(B, heads, L, E)`` of its chosen heads, and which weights use them.

    The latter are those of the chosen rows, ``(B, heads, queries, L)``.
    """
    model, rows = reading.model, reading.rows
    for index, (name, weights) in enumerate(rows.attention.items()):
        if isinstance(model, TorchAdapter):
            values, used = model.transformed_values(reading.run.state, name, weights)
            flags = dict.fromkeys(rows.attention, used.reshape(weights.shape))
            chosen = split(rows, rows.of(flags))[:, index]
            heads = rows.view.heads
            yield values if heads is None else values[:, list(as_tuple(heads))], chosen


def _usable(reading: Reading) -> Tensor:
    """The keys ``(B, R, L)`` that each row may use: those told, else all with weight."""
    rows, support = reading.rows, reading.run.support or {}
    allowed = {
        name: support[name] if name in support else (weights > 0) | _over(rows.mask, weights)
        for name, weights in rows.attention.items()
    }
    return rows.of(allowed)


def _over(mask: Tensor, weights: Tensor) -> Tensor:
    return mask.view(len(mask), *[1] * (weights.ndim - 2), -1)


def _norms_to_logits(reading: Reading) -> Tensor:
    """Norms of what weights add to the logits, for an adapter that shows nothing between."""
    rows, affine = reading.rows, _affine(reading)
    moved = rows.conditional[..., None] * _scores(rows, affine)
    norms = split(rows, moved).sum(2).norm(dim=-1)
    return _where_affine(mean_of_queries(rows, norms), affine, rows)


def _effective_to_logits(reading: Reading) -> Tensor:
    """Effective attention by what weights add to the logits; each row has values of its own."""
    rows, affine = reading.rows, _affine(reading)
    found = effective_attention(
        rows.conditional[:, :, None], _scores(rows, affine), mask=rows.valid
    ).attention
    weights = split(rows, found[:, :, 0] * rows.mass[..., None]).mean(2)
    return _where_affine(mean_of_queries(rows, weights), affine, rows)


def _affine(reading: Reading) -> Affine:
    affine = fit_affine(reading)
    if affine is None:
        raise AdapterError(
            "logits must be affine in the chosen rows, for their values to be known from an "
            f"adapter; those of {type(reading.model).__name__} are not, have no derivative or are "
            "many. Adapt the nn.Module itself, or use an explanation that needs no values."
        )
    return affine


def _scores(rows: Rows, affine: Affine) -> Tensor:
    """What a unit of each conditional row adds to the logits, ``(B, R, L, C)``."""
    scores = affine.scores.to(rows.conditional.dtype)
    return scores.reshape(*rows.conditional.shape, -1)


def _where_affine(scores: Tensor, affine: Affine, rows: Rows) -> Tensor:
    """Undefined where the logits of an instance are not affine."""
    return scores.masked_fill(~affine.holds[:, None] & rows.mask, torch.nan)
