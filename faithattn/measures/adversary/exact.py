"""The attention farthest from the original at almost the same output, exactly."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating, require_mask
from faithattn.measures.adversary.gains import NONE
from faithattn.measures.adversary.pairs import best_vertices
from faithattn.measures.adversary.slabs import sigmoid_slab
from faithattn.measures.adversary.vertices import Slab
from faithattn.measures.divergence import check_rows


def exact_adversary(
    attention: Tensor,
    scores: Tensor,
    bias: Tensor | float,
    *,
    epsilon: float,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The distribution farthest from the attention within epsilon of a sigmoid's output.

    For a model whose logit is affine in one attention row, ``sum_t a_t
    scores_t + bias``, squashed by a sigmoid. The allowed distributions are the
    simplex cut by two parallel planes, and the divergence is convex, so its
    maximum is at a vertex: on one position, or on two that meet a plane. The
    best of all of them is found; a linear bound leaves few pairs to compare.

    Args:
        attention: Original weights ``(B, L)``, rows that sum to 1 over the mask.
        scores: What each position adds to the logit, ``(B, L)``.
        bias: Rest of the logit, ``(B,)`` or a number.
        epsilon: Allowed change of the probability, above 0 (total variation of
            the two-class output).
        mask: ``(B, L)`` bool, True where weight may lie; default everywhere.

    Returns:
        The attention ``(B, L)``, in the dtype of ``attention``, and its
        Jensen-Shannon divergence ``(B,)`` from the original in nats, 0..ln 2;
        nan, and the original, where the mask holds no position.

    Raises:
        TypeError: If an argument is no floating-point tensor, or the mask not boolean.
        ValueError: If shapes differ, rows are no distributions, or epsilon is not above 0.

    References:
        The optimum of the constraint set of Jain & Wallace (2019), section 4.2.2; see
        docs/definitions.md, "Exact adversary".

    Examples:
        >>> import torch
        >>> attention, scores = torch.tensor([[0.7, 0.3]]), torch.tensor([[2.0, -2.0]])
        >>> found, jsd = exact_adversary(attention, scores, 0.0, epsilon=0.05)
        >>> round(jsd.item(), 4)
        0.0024
    """
    mask = _checked(attention, scores, bias, epsilon, mask)
    wide = attention.double().masked_fill(~mask, 0)
    values = scores.double().masked_fill(~mask, 0)
    rest = torch.as_tensor(bias, dtype=torch.float64, device=wide.device).expand(len(wide))
    low, high = sigmoid_slab((wide * values).sum(-1) + rest, epsilon)
    slab = Slab(wide, values, low - rest, high - rest, mask, torch.ones_like(rest))
    best = best_vertices(slab, 1, single=attention.dtype != torch.float64)
    defined = mask.any(-1)
    # The original is allowed: it is what is left where rounding leaves the slab no vertex.
    moves = defined & (best.value[:, 0] > NONE)
    found = torch.where(moves[:, None], best.rows(slab)[:, 0], attention.double())
    jsd = best.value[:, 0].masked_fill(~moves, 0).masked_fill(~defined, math.nan)
    return found.to(attention.dtype), jsd.to(attention.dtype)


def _checked(
    attention: Tensor, scores: Tensor, bias: Tensor | float, epsilon: float, mask: Tensor | None
) -> Tensor:
    """Raises for arguments that make no problem; returns the mask."""
    require_floating("attention", attention)
    require_floating("scores", scores)
    if attention.ndim != 2 or attention.shape[-1] == 0:
        raise ValueError(
            f"attention must have shape (B, L), L at least 1; got {tuple(attention.shape)}. "
            "Choose one row of each instance."
        )
    if scores.shape != attention.shape:
        raise ValueError(
            f"scores must have the shape of attention; got attention {tuple(attention.shape)} "
            f"and scores {tuple(scores.shape)}. Give every position one number."
        )
    require_device("scores", scores, "attention", attention)
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not 0 < epsilon < math.inf:
        raise ValueError(
            f"epsilon must be a number above 0; got {epsilon!r}. The published value is .01."
        )
    if mask is None:
        mask = torch.ones(attention.shape, dtype=torch.bool, device=attention.device)
    mask = require_mask(mask, "attention", attention)
    check_rows("attention", attention.double().masked_fill(~mask, 0), attention.dtype)
    rest = torch.as_tensor(bias)
    if rest.shape not in {(), (len(attention),)}:
        raise ValueError(
            f"bias must be a number or have shape ({len(attention)},); got {tuple(rest.shape)}. "
            "Give every instance one."
        )
    if not (scores[mask].isfinite().all() and rest.isfinite().all()):
        raise ValueError("scores and bias must be finite; got NaN or infinity. Mask those out.")
    return mask
