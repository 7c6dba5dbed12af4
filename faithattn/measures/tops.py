"""The positions of each row that score highest, near-ties taken as ties."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.kendall.pairs import Tolerance
from faithattn.measures.kendall.row_ranks import row_ranks

_RELATIVE = 1e-6  # "auto", as where rankings are correlated


def falling_ranks(scores: Tensor, mask: Tensor, tolerance: Tolerance = "auto") -> Tensor:
    """Ranks ``(B, L)`` from 0 for the largest score down; near-ties alike, int64.

    Positions outside the mask take ranks behind all others.
    """
    if scores.shape[1] < 2:
        return torch.zeros_like(scores, dtype=torch.int64)
    gap: Tensor | float
    if tolerance == "auto":
        counted = scores.isfinite() & mask
        gap = _RELATIVE * scores.abs().where(counted, 0).amax(1, keepdim=True)
    else:
        gap = tolerance
    return row_ranks(-scores.detach(), mask, gap).ranks.long()


def first_by_rank(ranks: Tensor, mask: Tensor, k: Tensor | int) -> Tensor:
    """The k positions ``(B, L)`` of the mask with the lowest ranks, bool; fewer where there are.

    Of equal ranks the lower position comes first. ``k`` is one number or ``(B, 1)``.
    """
    order = ranks.masked_fill(~mask, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    places = torch.arange(ranks.shape[1], device=ranks.device).expand_as(order)
    return (torch.empty_like(order).scatter_(1, order, places) < k) & mask
