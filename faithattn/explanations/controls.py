"""Scores that know nothing of the model's reasons, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.errors import AdapterError
from faithattn.explanations.asked import Asked
from faithattn.explanations.token_ids import token_ids
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
    found = token_ids(asked.reading)
    if len(found) != 1:
        raise AdapterError(
            "inputs must hold one tensor of token ids for the positions "
            f"{tuple(rows.mask.shape)}, for frequencies to be counted; got {len(found)}. "
            "Pass scores (B, L) of your own."
        )
    (ids,) = found
    real = rows.mask[:, : ids.shape[1]].to(ids.device)
    _, places, counts = torch.unique(ids[real], return_inverse=True, return_counts=True)
    scores = torch.zeros_like(rows.conditional[:, 0])
    scores[rows.mask] = 1 / counts[places].to(scores)
    return scores
