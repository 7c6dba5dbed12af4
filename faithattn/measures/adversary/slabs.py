"""What an output may be, as bounds on one affine function of the attention at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.adversary.gains import NONE
from faithattn.measures.adversary.pairs import best_vertices
from faithattn.measures.adversary.vertices import Slab


def sigmoid_slab(logit: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Tensor]:
    """Logits at which the probability is epsilon lower and higher; infinite beyond 0 and 1."""
    probability = torch.sigmoid(logit)
    opposite = torch.sigmoid(-logit)  # 1 - probability, without cancellation
    low = torch.log((probability - epsilon).clamp_min(0)) - torch.log(opposite + epsilon)
    high = torch.log(probability + epsilon) - torch.log((opposite - epsilon).clamp_min(0))
    return low, high


def margin(scores: Tensor, constant: Tensor, output: str) -> tuple[Tensor, Tensor] | None:
    """The one affine number that the output is a function of: ``(..., L)`` and ``(...)``.

    One logit, or the difference of two under a softmax; None where it takes more.
    A softmax of one class is always 1, whatever its logit: the number is 0.
    """
    if scores.shape[-1] == 1 and output == "softmax":
        return torch.zeros_like(scores[..., 0]), torch.zeros_like(constant[..., 0])
    if scores.shape[-1] == 1:
        return scores[..., 0], constant[..., 0]
    if scores.shape[-1] == 2 and output == "softmax":
        return scores[..., 1] - scores[..., 0], constant[..., 1] - constant[..., 0]
    return None


def slab_of(value: Tensor, epsilon: float | Tensor, output: str) -> tuple[Tensor, Tensor]:
    """Between which values of the margin the output is within epsilon, one or ``(n, 1)``."""
    if output == "identity":
        return value - epsilon, value + epsilon
    return sigmoid_slab(value, epsilon)


def relaxed_slabs(
    scores: Tensor, constant: Tensor, logits: Tensor, epsilon: float, output: str
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Slabs that every output within epsilon lies in: scores ``(B, L)``, low and high ``(B,)``.

    Several classes: the log-odds of each pair, ln(y_c / y_d) with either
    probability changed by epsilon at most. Labels: each of L within L epsilon.

    Args:
        scores: ``(B, L, C)``.
        constant: ``(B, C)``.
        logits: Of the original attention, ``(B, C)``.
        epsilon: Allowed change.
        output: How logits become outputs.
    """
    count = scores.shape[-1]
    if output != "softmax":
        each = [slab_of(logits[:, c], epsilon * count, output) for c in range(count)]
        return [
            (scores[..., c], low - constant[:, c], high - constant[:, c])
            for c, (low, high) in enumerate(each)
        ]
    y, slabs = logits.softmax(-1), []
    most, least = (y + epsilon).clamp_max(1).log(), (y - epsilon).clamp_min(0).log()
    for c in range(count):
        for d in range(c):
            rest = constant[:, c] - constant[:, d]
            low, high = least[:, c] - most[:, d], most[:, c] - least[:, d]
            slabs.append((scores[..., c] - scores[..., d], low - rest, high - rest))
    return slabs


def slab_bound(
    weights: Tensor,
    slabs: list[tuple[Tensor, Tensor, Tensor]],
    free: Tensor,
) -> Tensor:
    """Ceiling of the divergence, ``(B,)``: the smallest of the exact optima within each slab.

    Args:
        weights: The original attention ``(B, L)``, double precision.
        slabs: Scores, low and high ends that hold for whole rows.
        free: Where weights may change, ``(B, L)`` bool.
    """
    ceiling = torch.full(weights.shape[:1], torch.inf, dtype=weights.dtype, device=weights.device)
    for scores, low, high in slabs:
        best = best_vertices(free_slab(weights, scores, low, high, free), 1).value[:, 0]
        # The original lies in every slab, so that a vertex that rounding hides proves nothing.
        value = best.masked_fill(best == NONE, torch.inf)
        ceiling = torch.minimum(ceiling, value.clamp_min(0))
    return ceiling


def free_slab(weights: Tensor, scores: Tensor, low: Tensor, high: Tensor, free: Tensor) -> Slab:
    """The slab that is left for the positions that may change, the others as they are."""
    fixed = (weights * scores).masked_fill(free, 0).sum(-1)
    own = weights.masked_fill(~free, 0)
    # A row that may not change anywhere has no mass there; 1 divides it without harm.
    mass = own.sum(-1)
    mass = torch.where(mass > 0, mass, 1)
    return Slab(own, scores.masked_fill(~free, 0), low - fixed, high - fixed, free, mass)
