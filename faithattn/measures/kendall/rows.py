"""Pairs of inputs as checked, flat rows, and their division into chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_alike, require_floating, require_mask
from faithattn._memory import chunk_size
from faithattn.measures.kendall.inversions import bytes_per_row

# On the CPU a step should stay in the cache, yet repay its fixed cost of .5 ms: 1,000 rows of 4,000
# positions took 700 ms at 4 MB, 500 to 600 at 8 to 16 MB and 700 at 32 MB; shorter rows vary less.
_CACHE_BYTES = 8 * 2**20


class Rows(NamedTuple):
    """Two inputs (rows, positions) in float32 or float64, and the mask of both."""

    x: Tensor
    y: Tensor
    mask: Tensor | None

    def lengths(self) -> Tensor:
        """Returns how many positions of each row take part."""
        if self.mask is not None:
            return self.mask.sum(1)
        return torch.full(self.x.shape[:1], self.x.shape[1], device=self.x.device)


def checked_rows(x_name: str, x: Tensor, y_name: str, y: Tensor, mask: Tensor | None) -> Rows:
    """Checks two inputs of shape (..., positions) and flattens them."""
    require_floating(x_name, x)
    require_floating(y_name, y)
    require_alike(y_name, y, x_name, x)
    shape = (math.prod(x.shape[:-1]), x.shape[-1])
    if mask is not None:
        mask = require_mask(mask, x_name, x).reshape(shape)
    # Half precision compares the same in float32, which NumPy can sort.
    dtype = _result_dtype(x)
    wide = (value.detach().to(dtype).reshape(shape) for value in (x, y))
    return Rows(next(wide), next(wide), mask)


def _result_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype of results: that of the input, float32 for half precision."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def chunks(rows: Rows) -> Iterator[Rows]:
    """Divides rows into chunks that fit the budget; none if no row has two positions."""
    if rows.x.shape[1] < 2:
        return
    size = bytes_per_row(rows.x.shape[1])
    count = chunk_size(size, bytes_per_element=1)
    if rows.x.device.type == "cpu":
        count = max(1, min(count, _CACHE_BYTES // size))
    for start in range(0, rows.x.shape[0], count):
        part = slice(start, start + count)
        yield Rows(rows.x[part], rows.y[part], None if rows.mask is None else rows.mask[part])


def shaped_like(x: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Joins the results of all chunks, one value per row of ``x``; nan if there is no chunk."""
    shape, dtype = x.shape[:-1], _result_dtype(x)
    if not parts:
        return torch.full(shape, math.nan, dtype=dtype, device=x.device)
    return torch.cat(list(parts)).to(x.device, dtype).reshape(shape)
