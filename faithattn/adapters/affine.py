"""Logits that are affine in the chosen rows: found by differentiation, checked on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading
from faithattn.adapters.rows import Rows
from faithattn.errors import AdapterError
from faithattn.measures.draws import spans

_SCATTERED = 3
_GOLDEN_ANGLE = 2.399963229728653  # no multiple of it is near a whole turn: waves do not repeat
_AMPLITUDE = 5  # of logits: weights differ by up to four orders of magnitude
_MOST_OUTPUTS = 16  # one backward pass each; beyond, the replay itself is as quick
_TOLERANCE = 1e-4
# Names of autograd's nodes: straight on either side of a bend, so that a few points may miss it.
_BENDING = {
    *("Relu", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Elu", "Celu", "Gelu", "Silu", "Mish"),
    *("Softplus", "LogSigmoid", "Hardtanh", "Hardswish", "Hardsigmoid", "Hardshrink", "Softshrink"),
    *("Threshold", "Abs", "Maximum", "Minimum", "Max", "Min", "Amax", "Amin"),
    *("MaxPool1DWithIndices", "MaxPool2D", "MaxPool2DWithIndices", "AdaptiveMaxPool2D"),
}
_LOOSE = 10  # times the tolerance: before the scores are known, the scale is a guess


@dataclass(frozen=True)
class Affine:
    """``logits = sum over rows and positions of weight * scores + constant``.

    Attributes:
        scores: ``(B, R * L, C)``.
        constant: ``(B, C)``.
        holds: ``(B,)`` bool, the instances whose logits are so.
    """

    scores: Tensor
    constant: Tensor
    holds: Tensor

    def logits(self, rows: Tensor) -> Tensor:
        """Logits ``(B, K, C)`` of rows ``(B, K, R, L)``."""
        return torch.baddbmm(self.constant[:, None], rows.flatten(2), self.scores)


def find_affine(reading: Reading) -> Affine | None:
    """The affine form of the logits in the rows, or None if this batch refutes it."""
    affine = fit_affine(reading)
    return affine if affine is not None and bool(affine.holds.all()) else None


def unknown_reason(reading: Reading) -> str:
    """Why there is no affine form of a batch for which none was found."""
    count = reading.outputs.shape[-1]
    if count > _MOST_OUTPUTS:
        return f"logits are not looked at where there are more than {_MOST_OUTPUTS}, here {count}"
    return "the logits are not affine in the attention"


def fit_affine(reading: Reading, known: tuple[Tensor, Tensor] | None = None) -> Affine | None:
    """The affine form of those instances that have one; None if none has, or no derivative.

    ``known`` are rows (K, B, R, L) to hold it against, with the logits
    (K, B, C) that the model gave. Without them the model is asked, and one that
    bends is seen before anything is differentiated.
    """
    if reading.outputs.shape[-1] > _MOST_OUTPUTS:
        return None
    points = _points(reading.rows) if known is None else known[0]
    actual = _replayed(reading, points) if known is None else _widened(known[1])
    if known is None and _bends(_widened(reading.run.logits.detach()), actual):
        return None
    try:
        found = _differentiate(reading)
    except (RuntimeError, AdapterError):
        # What works without gradient may not work with it: NumPy inside, a value overwritten, an
        # operation without a derivative, another kernel than the recorded one.
        return None
    if found is None:
        return None
    scores, constant = found
    corners = _extremes(reading.rows, scores)
    points, actual = torch.cat([points, corners]), torch.cat([actual, _replayed(reading, corners)])
    expected = torch.baddbmm(constant[:, None], points.transpose(0, 1).flatten(2), scores)
    # One scale a logit: an excluded class has the lowest finite number as its constant.
    scale = 1 + scores.abs().amax(1) + constant.abs()
    near = (actual.transpose(0, 1) - expected).abs() <= _TOLERANCE * scale[:, None]
    holds = near.flatten(1).all(1)
    return Affine(scores, constant, holds) if holds.any() else None


def _differentiate(reading: Reading) -> tuple[Tensor, Tensor] | None:
    """Scores and constant at the model's own rows; None where straight pieces meet on the way."""
    rows = reading.rows.conditional
    with torch.enable_grad():
        point = rows[None].detach().requires_grad_()
        logits = _replay_logits(reading, point)[0]
        if _pieced(logits, point):
            return None
        count = logits.shape[-1]
        scores = torch.stack(
            [_slope(logits[:, c], point, retain=c + 1 < count)[0] for c in range(count)], -1
        ).flatten(1, 2)
    constant = logits.detach() - torch.bmm(rows.flatten(1)[:, None], scores)[:, 0]
    return scores, constant


def _extremes(rows: Rows, scores: Tensor) -> Tensor:
    """Where each logit would be highest and lowest, (2 C, B, R, L): a clamp on it shows there."""
    shape = (*rows.conditional.shape, scores.shape[-1])
    each = scores.view(shape).movedim(-1, 0)
    corners = []
    for sign in (1, -1):
        best = (sign * each).masked_fill(~rows.valid, -torch.inf).argmax(-1, keepdim=True)
        corners.append(torch.zeros_like(each).scatter_(-1, best, 1))
    found = torch.cat(corners).to(rows.conditional.dtype)
    return torch.where(rows.valid, found, rows.conditional)


def _pieced(logits: Tensor, point: Tensor) -> bool:
    """Whether a function of straight pieces lies between a leaf and the logits.

    A hidden layer of rectifiers can be affine on all rows that are tried and
    bend in a corner of the simplex: such a model is affine in no proven way.
    """
    nodes, above = [logits.grad_fn], dict[Any, list[Any]]()
    leaf = None
    while nodes:
        node = nodes.pop()
        for below, _ in () if node is None else node.next_functions:
            if below is None:
                continue
            if below not in above:
                above[below] = []
                nodes.append(below)
            above[below].append(node)
            leaf = below if getattr(below, "variable", None) is point else leaf
    nodes, seen = [leaf], set[Any]()
    while nodes:
        for node in above.get(nodes.pop(), []):
            if node.name().split("Backward")[0] in _BENDING:
                return True
            if node not in seen:
                seen.add(node)
                nodes.append(node)
    return False


def _slope(values: Tensor, point: Tensor, *, retain: bool) -> Tensor:
    """Gradient of the instances' values; zero where they do not depend on the point."""
    slope = None
    if values.requires_grad:
        (slope,) = torch.autograd.grad(values.sum(), point, retain_graph=retain, allow_unused=True)
    return torch.zeros_like(point) if slope is None else slope


def _bends(own: Tensor, actual: Tensor) -> bool:
    """Whether no instance's logits lie on a line from the model's rows to the first point."""
    end, middle = actual[0], actual[-1]
    scale = 1 + own.abs() + end.abs()
    near = (middle - own / 2 - end / 2).abs() <= _LOOSE * _TOLERANCE * scale
    return not bool(near.all(-1).any())


def _points(rows: Rows) -> Tensor:
    """Scattered rows of the simplex, then the middle of the way to the first, (K, B, R, L).

    They depend on the numbers of real positions and rows alone, so that an
    instance is judged alike in any batch.
    """
    rank = rows.mask.cumsum(-1)[:, None]
    lanes = torch.arange(1, _SCATTERED + 1, device=rank.device)[:, None, None, None]
    waves = ((rows.numbers[..., None] * _SCATTERED + lanes) * rank * _GOLDEN_ANGLE).sin()
    spread = waves.to(rows.conditional.dtype).mul_(_AMPLITUDE)
    scattered = spread.masked_fill_(~rows.valid, -torch.inf).softmax(-1).nan_to_num_(0)
    return torch.cat([scattered, (scattered[:1] + rows.conditional) / 2])


def _replayed(reading: Reading, points: Tensor) -> Tensor:
    """Logits (K, B, C) of rows (K, B, R, L), without gradient and within the budget."""
    step = reading.alternatives_at_once(bytes_per_element=48)
    with torch.no_grad():
        pieces = [
            _replay_logits(reading, points[first:last]) for first, last in spans(len(points), step)
        ]
    return torch.cat(pieces)


def _replay_logits(reading: Reading, rows: Tensor) -> Tensor:
    return _widened(reading.replay_override(reading.rows.override(rows)))


def _widened(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
