"""Whose feature each instance is given at a position, for feature permutation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faithattn.importance.attribution.explained import Explained
from faithattn.measures.draws import sort_keys


def exchanger(explained: Explained, seed: int, ids: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A function for Captum that exchanges one position between instances that have it.

    Captum shuffles all instances; here none keeps its own feature, and none
    is given padding.
    """
    donors = donors_of(explained.live, seed, ids)

    def exchange(values: Tensor, chosen: Tensor) -> Tensor:
        place = int(chosen[0, :, 0].nonzero())
        return torch.where(chosen, values[donors[:, place]], values)

    return exchange


def donors_of(live: Tensor, seed: int, ids: Tensor) -> Tensor:
    """Row to take from, ``(B, N)``: the next in a random cycle of the rows that have the place."""
    keys = sort_keys(seed, ids, 0, 1, live)[:, 0]
    order = keys.masked_fill(~live, torch.iinfo(keys.dtype).max).argsort(dim=0, stable=True)
    number = torch.arange(len(live), device=live.device)[:, None].expand_as(order)
    having = live.sum(0)
    following = torch.where(number < having, (number + 1) % having.clamp_min(1), number)
    return torch.empty_like(order).scatter_(0, order, order.gather(0, following))
