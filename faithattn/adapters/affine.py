"""Logits that are affine in the chosen rows: found by differentiation, checked on random points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading

_CHECK_POINTS = 4
_MOST_OUTPUTS = 16  # one backward pass each; beyond, the replay itself is as quick
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Affine:
    """``logits = sum over rows and positions of weight * scores + constant``.

    Attributes:
        scores: ``(B, R * L, C)``.
        constant: ``(B, C)``.
    """

    scores: Tensor
    constant: Tensor

    def logits(self, rows: Tensor) -> Tensor:
        """Logits ``(B, K, C)`` of rows ``(B, K, R, L)``."""
        return torch.baddbmm(self.constant[:, None], rows.flatten(2), self.scores)


def find_affine(reading: Reading) -> Affine | None:
    """The affine form of the logits in the rows, or None if this batch refutes it."""
    rows = reading.rows.conditional
    if reading.outputs.shape[-1] > _MOST_OUTPUTS:
        return None
    with torch.enable_grad():
        point = rows[None].detach().requires_grad_()
        logits = _replay_logits(reading, point)[0]
        count = logits.shape[-1]
        scores = torch.stack(
            [_slope(logits[:, c], point, retain=c + 1 < count)[0] for c in range(count)], -1
        ).flatten(1, 2)
    constant = logits.detach() - torch.bmm(rows.flatten(1)[:, None], scores)[:, 0]
    affine = Affine(scores, constant)
    return affine if _holds(reading, affine) else None


def _slope(values: Tensor, point: Tensor, *, retain: bool) -> Tensor:
    """Gradient of the instances' values; zero where they do not depend on the point."""
    slope = None
    if values.requires_grad:
        (slope,) = torch.autograd.grad(values.sum(), point, retain_graph=retain, allow_unused=True)
    return torch.zeros_like(point) if slope is None else slope


def _holds(reading: Reading, affine: Affine) -> bool:
    """Compares with the model itself at random points of the simplex."""
    rows = reading.rows
    points = _check_points(rows.valid).to(rows.conditional.dtype)
    with torch.no_grad():
        actual = _replay_logits(reading, points)
    expected = affine.logits(points.transpose(0, 1)).transpose(0, 1)
    # One scale a logit: an excluded class has the lowest finite number as its constant.
    scale = 1 + affine.scores.abs().amax(1) + affine.constant.abs()
    return bool(((actual - expected).abs() <= _TOLERANCE * scale).all())


def _check_points(valid: Tensor) -> Tensor:
    """Scattered rows of the simplex ``(4, B, R, L)``, 0 where not valid."""
    size, lanes, length = valid.shape
    numbers = torch.arange(1, _CHECK_POINTS * lanes * length + 1, device=valid.device)
    # Sines of large steps: as irregular as a check needs, at the cost of one operation.
    spread = 4 * (numbers * 12.9898).sin().view(_CHECK_POINTS, 1, lanes, length)
    spread = spread.expand(-1, size, -1, -1).masked_fill(~valid, -torch.inf)
    return spread.softmax(-1).nan_to_num(0)


def _replay_logits(reading: Reading, rows: Tensor) -> Tensor:
    logits = reading.replay_override(reading.rows.override(rows))
    return logits if logits.dtype == torch.float64 else logits.float()
