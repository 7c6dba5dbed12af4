"""The farthest feasible point of a line between two attentions, by running the model on it."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.metrics.adversarial.attack import Attack, Judged, joined

_POINTS = 7  # looked at in every round


def along(attack: Attack, start: Tensor, end: Tensor, rounds: int) -> Judged:
    """The best point of each segment from ``start`` to ``end``, both ends included.

    Divergence is convex along a segment, so the farthest feasible point lies
    where feasible ones end. A round looks at points evenly spread, and the
    next between the neighbours of the best. Where nothing is feasible, the
    point nearest to it is followed.

    Args:
        attack: The batch under attack.
        start: Rows ``(B, K, R, L)``; one feasible end finds a feasible point.
        end: Rows, likewise.
        rounds: How often to look; each divides the distance by four.
    """
    pieces = attack.pieces(start.shape[1], 64 * (_POINTS + 2))
    return joined([_along(attack, start[:, a:b], end[:, a:b], rounds) for a, b in pieces])


def restored(attack: Attack, rows: Tensor, rounds: int = 6) -> Judged:
    """The best point between the original, which is feasible, and each of the rows."""
    return along(attack, attack.original[:, None].expand_as(rows), rows, rounds)


def _along(attack: Attack, start: Tensor, end: Tensor, rounds: int) -> Judged:
    low = torch.zeros(start.shape[:2], dtype=start.dtype, device=start.device)
    high, steps = torch.ones_like(low), torch.linspace(0, 1, _POINTS + 2, device=low.device)
    best, place, inner = None, low, slice(0, None)
    for _ in range(rounds):
        shares = low[..., None] + (high - low)[..., None] * steps[inner].to(low.dtype)
        judged = _judged(attack, start, end, shares)
        best, place = _better(best, place, judged, shares)
        width = (high - low) / (_POINTS + 1)
        low, high = (place - width).clamp_min(0), (place + width).clamp_max(1)
        inner = slice(1, -1)  # the ends are known by now
    if best is None:
        raise ValueError(f"rounds must be at least 1; got {rounds}. Look once.")
    return best


def _judged(attack: Attack, start: Tensor, end: Tensor, shares: Tensor) -> Judged:
    """Judges the points of shares ``(B, K, n)``, the results ``(B, K * n)`` long."""
    weight = shares[..., None, None].to(start.dtype)
    points = start[:, :, None].lerp(end[:, :, None], weight)  # what both share stays as it is
    return attack.judge(points.flatten(1, 2))


def _better(
    best: Judged | None, place: Tensor, judged: Judged, shares: Tensor
) -> tuple[Judged, Tensor]:
    """The better of what is known and of new points, segment by segment."""
    size, count, n = shares.shape
    value = _value(judged).view(size, count, n)
    top = value.max(-1)
    offsets = torch.arange(count, device=top.indices.device) * n
    new = judged.chosen(top.indices + offsets)
    spot = shares.gather(-1, top.indices[..., None])[..., 0]
    if best is None:
        return new, spot
    keep = _value(best) >= top.values
    return best.where(keep, new), torch.where(keep, place, spot)


def _value(judged: Judged) -> Tensor:
    """Divergence where feasible, else how near the output is: below all that is feasible."""
    return torch.where(judged.feasible, judged.jsd, -1 - judged.tvd)
