"""Scores that know nothing of the model's reasons, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.inputs.belonging import counts_up, is_flags
from faithattn.adapters.inputs.source import paths
from faithattn.adapters.inputs.structure import is_integer
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.errors import AdapterError
from faithattn.explanations.asked import Asked
from faithattn.measures.draws import fresh_seed, instance_ids, uniform_noise


def random(asked: Asked) -> Tensor:
    """Uniform draws in 0..1, a function of seed, instance and position."""
    rows = asked.reading.rows
    ids = instance_ids(asked.instances, rows.mask)
    draws = uniform_noise(fresh_seed(asked.seed), ids, 1, rows.mask)[0]
    return draws.to(rows.conditional.dtype).masked_fill(~rows.mask, 0)


def uniform(asked: Asked) -> Tensor:
    """The same score for every position."""
    rows = asked.reading.rows
    return _normalised(rows.mask.to(rows.conditional.dtype))


def reversed_attention(asked: Asked) -> Tensor:
    """Mid-ranks of the attention from the other end: exactly the opposite order, ties kept."""
    rows = asked.reading.rows
    weights = rows.explanation.masked_fill(~rows.mask, -1)  # below all weights
    ordered = weights.sort(-1).values
    above = weights.shape[-1] - torch.searchsorted(ordered, weights, right=True)
    equal = weights.shape[-1] - torch.searchsorted(ordered, weights) - above
    ranks = above + equal.to(rows.conditional.dtype) / 2
    return _normalised(ranks.masked_fill(~rows.mask, 0))


def position(asked: Asked) -> Tensor:
    """The first position highest, in equal steps."""
    ranks = asked.reading.rows.mask.long().cumsum(-1)
    return _by_rank(asked, ranks[:, -1:] - ranks + 1)


def position_reversed(asked: Asked) -> Tensor:
    """The last position highest, in equal steps."""
    return _by_rank(asked, asked.reading.rows.mask.long().cumsum(-1))


def _by_rank(asked: Asked, ranks: Tensor) -> Tensor:
    rows = asked.reading.rows
    return _normalised(ranks.to(rows.conditional.dtype).masked_fill(~rows.mask, 0))


def _normalised(scores: Tensor) -> Tensor:
    """Scores that sum to 1; all 0 where there are none."""
    return scores / scores.sum(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)


def frequency(asked: Asked) -> Tensor:
    """One divided by how often a position's token occurs in the given batch: the rarest highest."""
    rows = asked.reading.rows
    ids = _ids(asked)
    real = rows.mask[:, : ids.shape[1]].to(ids.device)
    _, places, counts = torch.unique(ids[real], return_inverse=True, return_counts=True)
    scores = torch.zeros_like(rows.conditional[:, 0])
    scores[rows.mask] = 1 / counts[places].to(scores)
    return scores


def _ids(asked: Asked) -> Tensor:
    """The token ids ``(B, L)`` of the positions."""
    reading, mask = asked.reading, asked.reading.rows.mask
    if isinstance(reading.model, TorchAdapter):
        site = next(iter(reading.rows.attention))
        ids = reading.model.token_ids(reading.inputs, reading.run.state, site)
        found = [] if ids is None else [ids]
    else:
        found = [
            value
            for _, value in paths(reading.inputs)
            if value.ndim == 2 and is_integer(value)
            if not (is_flags(value) or counts_up(value))
        ]
    fitting = [each for each in found if _fits(each, mask)]
    if len(fitting) != 1:
        raise AdapterError(
            f"inputs must hold one tensor of token ids for the positions {tuple(mask.shape)}, for "
            f"frequencies to be counted; got {len(fitting)}. Pass scores (B, L) of your own."
        )
    return fitting[0]


def _fits(ids: Tensor, mask: Tensor) -> bool:
    """Whether ids are as long as the mask, but for keys behind them that are no positions."""
    length = ids.shape[1]
    return len(ids) == len(mask) and length <= mask.shape[1] and not bool(mask[:, length:].any())
