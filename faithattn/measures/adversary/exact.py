"""The attention farthest from the original at almost the same output, exactly."""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating, require_mask
from faithattn.measures.divergence import check_rows

_BLOCK = 32  # positions of either side that are paired at once; few more can matter
_FIRST_LOOK = 8
_PAIRS = 1 << 20  # pairs that are compared at a time, where more can matter
_NONE = -math.inf


class _Problems(NamedTuple):
    """One problem for each instance and each end of the slab, ``(2 B, L)``.

    Attributes:
        weights: The original attention, 0 where masked.
        scores: What each position adds to the logit.
        level: The logit that must be met, ``(2 B, 1)``.
        alone: Divergence of all weight on one position.
        left: Positions below the level.
        right: Positions above it.
    """

    weights: Tensor
    scores: Tensor
    level: Tensor
    alone: Tensor
    left: Tensor
    right: Tensor


class _Best(NamedTuple):
    """The best pair of each problem: its divergence, positions and the weight of the first."""

    value: Tensor
    first: Tensor
    second: Tensor
    share: Tensor

    def better_of(self, other: _Best) -> _Best:
        """Problem by problem."""
        keep = self.value >= other.value
        return _Best(*(torch.where(keep, a, b) for a, b in zip(self, other, strict=True)))


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
    low, high = _slab((wide * values).sum(-1), rest, epsilon)
    alone = (_HALF_LN2 + _gain(torch.ones_like(wide), wide)).masked_fill(~mask, _NONE)
    inside = mask & (values >= low[:, None]) & (values <= high[:, None])
    value, place = alone.masked_fill(~inside, _NONE).max(-1)
    single = _Best(value, place, place, torch.ones_like(value))
    both = _problems(wide, values, torch.cat([low, high]), alone, mask)
    pair = _best_pair(both, value.repeat(2))
    return _assembled(attention, mask, single, pair)


_HALF_LN2 = math.log(2) / 2


def _assembled(
    attention: Tensor, mask: Tensor, single: _Best, pair: _Best
) -> tuple[Tensor, Tensor]:
    """The better of the two ends' pairs and the single position, as attention."""
    size = len(attention)
    lower = _Best(*(each[:size] for each in pair))
    upper = _Best(*(each[size:] for each in pair))
    best = single.better_of(lower.better_of(upper))
    found = torch.zeros(attention.shape, dtype=torch.float64, device=attention.device)
    found.scatter_(1, best.second[:, None], (1 - best.share)[:, None])
    found.scatter_add_(1, best.first[:, None], best.share[:, None])
    defined = mask.any(-1)
    found = torch.where(defined[:, None], found, attention.double())
    return found.to(attention.dtype), best.value.masked_fill(~defined, math.nan).to(attention.dtype)


def _slab(logit: Tensor, rest: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Between which sums over the positions the probability changes by at most epsilon."""
    probability = torch.sigmoid(logit + rest)
    opposite = torch.sigmoid(-logit - rest)  # 1 - probability, without cancellation
    low = torch.log((probability - epsilon).clamp_min(0)) - torch.log(opposite + epsilon)
    high = torch.log(probability + epsilon) - torch.log((opposite - epsilon).clamp_min(0))
    return low - rest, high - rest


def _gain(share: Tensor, weight: Tensor) -> Tensor:
    """What weight on a position adds to the divergence, ln(2) / 2 where nothing lies anywhere."""
    half = (_xlogx(share) + _xlogx(weight)) / 2
    return half - _xlogx((share + weight) / 2) - weight * _HALF_LN2


def _xlogx(x: Tensor) -> Tensor:
    """Products x ln x, 0 at 0; quicker than xlogy, which is not vectorised."""
    return x * x.clamp_min(torch.finfo(x.dtype).tiny).log()


def _problems(
    weights: Tensor, scores: Tensor, level: Tensor, alone: Tensor, mask: Tensor
) -> _Problems:
    twice = [each.repeat(2, 1) for each in (weights, scores, alone, mask)]
    met = level.isfinite()[:, None] & twice[3]
    level = level[:, None]
    left, right = met & (twice[1] < level), met & (twice[1] > level)
    return _Problems(twice[0], twice[1], level, twice[2], left, right)


def _best_pair(problems: _Problems, known: Tensor) -> _Best:
    """The best pair of each problem, if it is better than what is known."""
    best = _nothing(known)
    for count in (_FIRST_LOOK, _FIRST_LOOK, _BLOCK):
        first, second, _, _ = _leading(problems, torch.maximum(known, best.value), count)
        best = best.better_of(_compared(problems, first, second))
    value = torch.maximum(known, best.value)
    _, _, below, above = _leading(problems, value, 1)
    for row in ((below > _BLOCK) | (above > _BLOCK)).nonzero()[:, 0].tolist():
        one = _Problems(*(each[row : row + 1] for each in problems))
        rest = _searched(one, value[row : row + 1])
        for mine, other in zip(best, rest, strict=True):
            mine[row] = torch.where(rest.value[0] > best.value[row], other[0], mine[row])
    return best


def _nothing(like: Tensor) -> _Best:
    places = torch.zeros(like.shape, dtype=torch.long, device=like.device)
    return _Best(torch.full_like(like, _NONE), places, places.clone(), torch.ones_like(like))


def _slopes(problems: _Problems, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of the lines from each position to (level, value) in the plane of score and divergence.

    The divergence of a pair is at most that of the chord between its ends at
    the level. It can exceed ``value`` only if the chord passes above that
    point: if the slope on the right is at least the one on the left.
    """
    value = value[:, None].clamp_min(0)
    gap = problems.level - problems.scores
    slope = (value - problems.alone) / gap
    left = slope.masked_fill(~problems.left, math.inf)
    return left, slope.masked_fill(~problems.right, _NONE)


def _leading(
    problems: _Problems, value: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The most promising positions on either side, and how many there can be that matter."""
    left, right = _slopes(problems, value)
    count = min(count, left.shape[1])
    first, second = left.topk(count, largest=False), right.topk(count)
    below = (left <= second.values[:, :1]).sum(-1)
    above = (right >= first.values[:, :1]).sum(-1)
    return first.indices, second.indices, below, above


def _compared(problems: _Problems, first: Tensor, second: Tensor) -> _Best:
    """The best of all pairs between two lists of positions."""
    on_left = problems.left.gather(1, first)[:, :, None]
    possible = on_left & problems.right.gather(1, second)[:, None]
    low, high = problems.scores.gather(1, first), problems.scores.gather(1, second)
    distance = (high[:, None] - low[:, :, None]).masked_fill(~possible, 1)
    share = ((high[:, None] - problems.level[..., None]) / distance).masked_fill(~possible, 0.5)
    share = share.clamp(0, 1)
    one = _gain(share, problems.weights.gather(1, first)[:, :, None])
    other = _gain(1 - share, problems.weights.gather(1, second)[:, None])
    value = (_HALF_LN2 + one + other).masked_fill(~possible, _NONE).flatten(1)
    top = value.max(-1)
    row, column = top.indices // second.shape[1], top.indices % second.shape[1]
    return _Best(
        top.values,
        first.gather(1, row[:, None])[:, 0],
        second.gather(1, column[:, None])[:, 0],
        share.flatten(1).gather(1, top.indices[:, None])[:, 0],
    )


def _searched(problem: _Problems, value: Tensor) -> _Best:
    """The best of all pairs of one problem that the bound leaves, a slice at a time."""
    best = _nothing(value)
    sides = [_extreme(problem, side) for side in (problem.left[0], problem.right[0])]
    left, right = (each[0, side] for each, side in zip(_slopes(problem, value), sides, strict=True))
    firsts, seconds = sides[0][left.argsort()], sides[1][right.argsort(descending=True)]
    step = max(1, _PAIRS // max(1, len(seconds)))
    for chunk in torch.split(firsts, step):
        value = torch.maximum(value, best.value)
        left, right = (each[0] for each in _slopes(problem, value))
        chunk = chunk[left[chunk] <= right[seconds].max()]
        partners = seconds[right[seconds] >= left[chunk].min()] if len(chunk) else seconds[:0]
        if len(partners):
            best = best.better_of(_compared(problem, chunk[None], partners[None]))
    return best


def _extreme(problem: _Problems, side: Tensor) -> Tensor:
    """Of positions with the same weight, the two whose scores lie at the ends.

    For a fixed partner the divergence is convex in the share, which rises with
    the score: no position between the ends is better than both.
    """
    places = side.nonzero()[:, 0]
    by_score = places[problem.scores[0, places].argsort(stable=True)]
    order = by_score[problem.weights[0, by_score].argsort(stable=True)]
    weights = problem.weights[0, order]
    change = weights[1:] != weights[:-1]
    edge = torch.ones(1, dtype=torch.bool, device=order.device)
    return order[torch.cat([edge, change]) | torch.cat([change, edge])]


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
