"""How attention, gradients and leave-one-out rank the words of each text."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from faithattn.measures.rank import Tolerance, tolerance_pair
from faithattn.measures.tops import falling_ranks
from faithattn.metrics.correlation import output_noise
from faithattn.results.correlation import Correlation


class Ranking(NamedTuple):
    """One score's ranking of n texts.

    Attributes:
        ranks: ``(n, L)`` int64, 0 for the largest score; near-ties alike.
        defined: Whether the score tells any two positions apart, ``(n,)`` bool;
            False, too, where it is nan.
    """

    ranks: Tensor
    defined: Tensor


def rankings(gradient: Correlation, loo: Correlation, rows: Tensor) -> dict[str, Ranking]:
    """The three rankings of some instances of two results, by name.

    Near-ties are merged with the tolerances that the correlations used, so
    that float noise ranks nothing: equal words are tied for every score.

    Args:
        gradient: Attention and gradients of N texts.
        loo: Attention and leave-one-out of the same texts.
        rows: Places ``(n,)`` of the wanted texts among the N.

    Returns:
        ``"attention"``, ``"gradient"`` and ``"leave_one_out"``.

    Raises:
        ValueError: If the two results are not of the same texts.
    """
    if gradient.mask.shape != loo.mask.shape or not bool((gradient.mask == loo.mask).all()):
        raise ValueError(
            "gradient and loo must be of the same texts; got masks of shape "
            f"{tuple(gradient.mask.shape)} and {tuple(loo.mask.shape)} that differ. "
            "Run both on one batch, in one order."
        )
    noise = output_noise(loo.importance.dtype)
    attention, by_gradient = tolerance_pair(gradient.tie_tolerance)
    by_removal = tolerance_pair(loo.tie_tolerance)[1]
    mask = gradient.mask[rows]
    return {
        "attention": _ranking(gradient.explanation[rows], mask, attention),
        "gradient": _ranking(gradient.importance[rows], mask, by_gradient),
        "leave_one_out": _ranking(
            loo.importance[rows], mask, noise if by_removal == "auto" else by_removal
        ),
    }


def _ranking(scores: Tensor, mask: Tensor, tolerance: Tolerance) -> Ranking:
    ranks = falling_ranks(scores, mask, tolerance)
    told_apart = ranks.where(mask, 0).amax(1) > 0
    return Ranking(ranks, told_apart & ~(scores.isnan() & mask).any(1))
