"""Whether the signs of scores are those of what positions do."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.measures.tops import falling_ranks, first_by_rank


class TopSigns(NamedTuple):
    """The position with the largest absolute score of each row, ``(B,)`` each."""

    violated: Tensor  # 1 where its score and its effect have opposite signs; nan undefined
    position: Tensor  # -1 where undefined
    score: Tensor
    effect: Tensor
    chance: Tensor  # share of all positions with opposite signs


class SignAgreement(NamedTuple):
    """Shares of the positions with an effect whose score has its sign, ``(B,)`` each."""

    share: Tensor
    weighted: Tensor  # each position counts by its absolute score
    top: Tensor  # among the k largest absolute scores
    share_chance: Tensor  # means over all orders of the scores
    weighted_chance: Tensor
    top_chance: Tensor
    counted: Tensor  # positions with an effect, int64


def top_signs(scores: Tensor, effects: Tensor, mask: Tensor, noise: float) -> TopSigns:
    """Compares the signs of scores ``(B, L)`` and effects at the top of each row.

    Effects within ``noise`` are none: they oppose nothing. A row is undefined
    without positions, with a nan score, with only zeros as scores, or if the
    effect at its top is nan. Scores and effects outside the mask are not looked at.
    """
    size = scores.abs().masked_fill(~mask, 0)
    found = (size > 0).any(1) & ~(scores.isnan() & mask).any(1)
    first = first_by_rank(falling_ranks(size, mask), mask, 1)
    at = first.to(torch.uint8).argmax(1, keepdim=True)
    score, effect = (each.gather(1, at)[:, 0] for each in (scores, effects))
    defined = found & ~effect.isnan()
    known = mask & ~effects.isnan()
    opposed = (scores * _without_noise(effects, noise) < 0) & known
    chance = opposed.sum(1).to(score.dtype) / known.sum(1)
    violated = opposed.gather(1, at)[:, 0].to(score.dtype)
    nans = (each.masked_fill(~defined, torch.nan) for each in (violated, score, effect, chance))
    violated, score, effect, chance = nans
    return TopSigns(violated, at[:, 0].masked_fill(~defined, -1), score, effect, chance)


def sign_agreement(
    scores: Tensor, effects: Tensor, mask: Tensor, noise: float, k: int
) -> SignAgreement:
    """Shares of positions ``(B, L)`` whose score has the sign of their effect.

    Counted are the positions of the mask whose effect is above ``noise``; a
    score of 0 has no sign and agrees with none. Rows without such a position,
    or with a nan score, are undefined (nan), and weighted where all their
    scores are 0. Chances are exact: a score is as likely at any counted position.
    """
    counted = mask & (effects.abs() > noise)  # a nan is above nothing
    plus, minus = ((scores * side > 0) & counted for side in (1, -1))
    agrees = (scores * effects > 0) & counted
    size = scores.abs().masked_fill(~counted, 0)
    top = first_by_rank(falling_ranks(size, counted), counted, k)
    n_counted = counted.sum(1)
    positive = ((effects > 0) & counted).sum(1).to(size.dtype) / n_counted
    undefined = (scores.isnan() & mask).any(1)

    def share(weights: Tensor) -> tuple[Tensor, Tensor]:
        total = weights.sum(1)  # 0 / 0 is the nan that is due
        part, up, down = ((weights * each).sum(1) / total for each in (agrees, plus, minus))
        chance = up * positive + down * (1 - positive)
        return part.masked_fill(undefined, torch.nan), chance.masked_fill(undefined, torch.nan)

    each, weighted, largest = (share(weights.to(size.dtype)) for weights in (counted, size, top))
    return SignAgreement(
        each[0], weighted[0], largest[0], each[1], weighted[1], largest[1], n_counted
    )


def _without_noise(effects: Tensor, noise: float) -> Tensor:
    return effects.where(effects.abs() > noise, 0)
