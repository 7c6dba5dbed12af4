"""The output of an attention layer, differentiated by its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BASE = 16  # rows are numbered in digits so small that half precision tells them apart
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
_COARSE = 5e-2  # of half precision


class UntoldError(Exception):
    """Why the values of a layer cannot be read off its output."""


@dataclass(frozen=True)
class LayerOutput:
    """A tensor that holds the output of a layer, row by row.

    Attributes:
        number: Its number among the results after the weights.
        result: The tensor.
        axis: Where the numbers of one row are.
        rows: ``(B, H, Lq)`` int64, its row for each head and query, -1 where it has none.
        values: Derivative by the weights, ``(B, H, Lk, E)``.
    """

    number: int
    result: Tensor
    axis: int
    rows: Tensor
    values: Tensor

    def agrees(self, difference: Tensor, after: Tensor) -> bool:
        """Whether it is what the values say it is after a difference of weights (B, H, Lq, Lk)."""
        if after.shape != self.result.shape:
            return False
        wide = self.values.dtype
        change = (after - self.result).to(wide).movedim(self.axis, -1).flatten(0, -2)
        expected = torch.zeros_like(change)
        for head in range(self.rows.shape[1]):
            rows = self.rows[:, head]
            moved = torch.einsum("bqk,bke->bqe", difference[:, head].to(wide), self.values[:, head])
            expected.index_add_(0, rows[rows >= 0], moved[rows >= 0])
        tolerance = _TOLERANCE.get(self.result.dtype, _COARSE)
        noise = 32 * torch.finfo(self.result.dtype).eps * self.result.abs().amax().to(wide)
        return bool((change - expected).abs().amax() <= tolerance * change.abs().amax() + noise)


def layer_output(number: int, value: Tensor, leaf: Tensor) -> LayerOutput:
    """Reads rows and values off a tensor that depends on the weights.

    Raises:
        UntoldError: If its numbers are not in rows, one for each query.
    """
    axes = [value.ndim - 1, *range(value.ndim - 1)]
    for axis in axes:
        rows = _rows_of(value, leaf, axis)
        if rows is not None:
            values = _values(value, leaf, axis, *rows)
            return LayerOutput(number, value.detach().clone(), axis, rows[0], values)
    raise UntoldError("its output has not one row for each query")


def _rows_of(value: Tensor, leaf: Tensor, axis: int) -> tuple[Tensor, Tensor] | None:
    """The row (B, H, Lq) of each head and query, -1 for none, and how many keys it sees."""
    width = value.shape[axis]
    count = value.numel() // width
    places = torch.arange(count, device=value.device)
    pattern = torch.arange(1, width + 1, device=value.device, dtype=torch.float64).cos()
    base = _slope(value, leaf, axis, pattern.expand(count, width))
    square = base.square().sum(-1)
    responds = square > 0
    rows, weight = torch.zeros_like(square, dtype=torch.long), 1
    while weight < count:
        digits = places // weight % _BASE
        slope = _slope(value, leaf, axis, (digits[:, None] + 1) * pattern)
        ratio = (slope * base).sum(-1) / square.masked_fill(~responds, 1) - 1
        whole = ratio.round()
        if bool(((ratio - whole).abs() > 0.25)[responds].any()):
            return None
        rows += whole.long().masked_fill(~responds, 0) * weight
        weight *= _BASE
    known = rows[responds]
    if not len(known) or int(known.min()) < 0 or int(known.max()) >= count:
        return None
    for head in range(rows.shape[1]):
        own = rows[:, head][responds[:, head]]
        if bool((own.sort().values.diff() == 0).any()):
            return None
    return rows.masked_fill(~responds, -1), (base != 0).sum(-1)


def _values(value: Tensor, leaf: Tensor, axis: int, rows: Tensor, seen: Tensor) -> Tensor:
    """Derivative (B, H, Lk, E); each query that sees all keys tells another number of them."""
    width = value.shape[axis]
    count = value.numel() // width
    full = (seen == seen.amax(-1, keepdim=True)).all(1) & (rows >= 0).all(1)  # (B, Lq)
    step = int(full.sum(-1).min())
    if step == 0:
        raise UntoldError("its heads see different keys")
    queries = full.byte().argsort(dim=-1, descending=True, stable=True)[:, :step]
    index = queries[:, None].expand(-1, rows.shape[1], -1)
    chosen = rows.gather(2, index)
    values = []
    for first in range(0, width, step):
        taken = min(step, width - first)
        cotangent = torch.zeros(count, width, dtype=torch.float64, device=value.device)
        columns = torch.arange(first, first + taken, device=value.device)
        cotangent[chosen[:, :, :taken], columns.expand_as(chosen[:, :, :taken])] = 1
        slope = _slope(value, leaf, axis, cotangent)
        own = index[:, :, :taken, None].expand(-1, -1, -1, slope.shape[-1])
        values.append(slope.gather(2, own).transpose(2, 3))
    return torch.cat(values, -1)


def _slope(value: Tensor, leaf: Tensor, axis: int, cotangent: Tensor) -> Tensor:
    """Derivative (B, H, Lq, Lk) of rows (n, E) weighted by a cotangent, in single at least."""
    turned = value.movedim(axis, -1).shape
    weights = cotangent.to(value.dtype).reshape(turned).movedim(-1, axis)
    (slope,) = torch.autograd.grad(value, leaf, weights, retain_graph=True)
    wide = slope if slope.dtype == torch.float64 else slope.float()
    if wide.ndim == 2:
        return wide[:, None, None]
    return wide[:, None] if wide.ndim == 3 else wide
