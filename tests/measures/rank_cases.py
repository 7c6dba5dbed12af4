"""Inputs and oracles that the tests of rank agreement share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy.stats import kendalltau
from torch import Tensor

RowMeasure = Callable[[Any, Any], Any]  # of two one-dimensional arrays
NAN, INF = math.nan, math.inf
LEVELS = {"no ties": None, "few ties": 60, "many ties": 7, "two values": 2}


def scipy_tau(x: Tensor, y: Tensor, mask: Tensor | None = None, method: str = "auto") -> Tensor:
    """SciPy's statistic and p-value of each row, (rows, 2)."""
    mask = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    results = []
    for a, b, keep in zip(x.double(), y.double(), mask, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kendalltau(a[keep].numpy(), b[keep].numpy(), method=method)
        results.append([float(found.statistic), float(found.pvalue)])
    return torch.tensor(results, dtype=torch.float64)


def assert_same(result: Sequence[Tensor], expected: Tensor, *, rtol: float = 1e-11) -> None:
    statistic, pvalue = result
    torch.testing.assert_close(
        statistic.double(), expected[:, 0], rtol=rtol, atol=rtol, equal_nan=True
    )
    # SciPy rounds p-values to 0 a little above the smallest float64, hence the tiny tolerance.
    torch.testing.assert_close(
        pvalue.double(), expected[:, 1], rtol=rtol, atol=1e-300, equal_nan=True
    )


def draw(rows: int, length: int, levels: int | None, generator: torch.Generator) -> Tensor:
    if levels is None:
        return torch.rand(rows, length, generator=generator, dtype=torch.float64)
    return torch.randint(levels, (rows, length), generator=generator).double()


def draw_pair(length: int, levels: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Rows from unrelated to almost equal and reversed."""
    generator = torch.Generator().manual_seed(seed)
    x, y = draw(14, length, levels, generator), draw(14, length, levels, generator)
    if levels is None:
        y[4:8] = x[4:8] + 0.2 * y[4:8]
        y[8:10] = -x[8:10] + 0.001 * y[8:10]
    y[10:12], y[12:14] = x[10:12], -x[12:14]
    return x, y


def garbage(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Fills masked positions with values that would ruin a result."""
    junk = torch.tensor([NAN, INF, -INF, 1e300], dtype=torch.float64)
    index = torch.arange(x.numel()).view(x.shape)
    return x.where(mask, junk[index % 4]), y.where(mask, junk[(index // 3) % 4])


def assert_equal(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


def by_row(measure: RowMeasure, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """A measure of two one-dimensional rows, taken of the real positions of each row."""
    mask = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    values = []
    for a, b, keep in zip(x, y, mask, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values.append(measure(a[keep].numpy(), b[keep].numpy()))
    return torch.tensor(values, dtype=torch.float64)
