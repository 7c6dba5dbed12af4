"""The order in which an explanation takes positions away, and how many a share is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

_ROUNDING = 1e-9  # .1 of 30 positions is 3, not 4, whatever floats make of it


def ranks_of(scores: Tensor, mask: Tensor) -> Tensor:
    """Rank ``(B, L)`` of each position from 0, the largest score first.

    Of equal scores the lower position is ahead; what is outside the mask comes last.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    outside = (~mask).gather(-1, order)
    order = order.gather(-1, outside.byte().argsort(dim=-1, stable=True))
    places = torch.arange(scores.shape[-1], device=scores.device)
    return torch.empty_like(order).scatter_(-1, order, places.expand_as(order))


def undefined_rows(scores: Tensor, mask: Tensor) -> Tensor:
    """Rows ``(B,)`` that have no order: a nan among their scores, or no position."""
    return (scores.isnan() & mask).any(-1) | ~mask.any(-1)


def check_fractions(fractions: object) -> tuple[float, ...]:
    """Shares of positions in (0, 1], ascending."""
    if not isinstance(fractions, Sequence) or isinstance(fractions, str):
        raise TypeError(
            f"fractions must be a sequence of numbers; got {type(fractions).__name__}. "
            "Use (0.01, 0.05, 0.1, 0.2, 0.5)."
        )
    numbers = all(isinstance(each, Real) for each in fractions)
    if not numbers or not fractions or not all(0 < each <= 1 for each in fractions):
        raise ValueError(
            f"fractions must lie above 0 and at most at 1; got {tuple(fractions)}. "
            "Use (0.01, 0.05, 0.1, 0.2, 0.5)."
        )
    if list(fractions) != sorted(set(fractions)):
        raise ValueError(
            f"fractions must ascend; got {tuple(fractions)}. Sort them, and name each once."
        )
    return tuple(float(each) for each in fractions)


def counts_of(fractions: tuple[float, ...], lengths: Tensor) -> Tensor:
    """Number ``(B, F)`` of positions that each share is: rounded up, hence at least one."""
    distinct = {
        length: [max(1, math.ceil(share * length - _ROUNDING)) for share in fractions]
        for length in lengths.unique().tolist()  # type: ignore[no-untyped-call]
    }
    rows = [distinct[length] for length in lengths.tolist()]
    return torch.tensor(rows, device=lengths.device).view(len(lengths), len(fractions))


def steps_of(steps: int | None, lengths: Tensor, width: int) -> Tensor:
    """Which numbers of positions 0..width are points of a curve, ``(B, width + 1)`` bool.

    All up to the length of the row, or about so many evenly spaced ones.
    """
    numbers = torch.arange(width + 1, device=lengths.device)
    inside = numbers <= lengths[:, None]
    if steps is None:
        return inside
    if steps == 0:
        return torch.zeros_like(inside)
    # A number is a point if it is the rounded end of one of the equal steps.
    ends = torch.arange(steps + 1, device=lengths.device) * lengths[:, None].double() / steps
    ends = (ends + 0.5).floor().long()
    return torch.zeros_like(inside).scatter_(1, ends, True) & inside
