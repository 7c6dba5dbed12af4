"""Speed of ``kendall_tau``, p-values included, against a loop over SciPy's ``kendalltau``."""

from __future__ import annotations

import torch
from scipy.stats import kendalltau

from faithattn import kendall_tau
from tests.benchmarks.timing import Row, compared

_GOALS = {50: 1 / 25, 300: 1 / 4, 4000: 1.0}


def rows(smoke: bool) -> list[Row]:
    """One row per length, 1,000 tie-free float32 instances."""
    n_instances = 20 if smoke else 1000
    return [_row(length, n_instances, 1 if smoke else 3) for length in _GOALS]


def _row(length: int, n_instances: int, repeats: int) -> Row:
    generator = torch.Generator().manual_seed(length)
    x, y = (torch.rand(n_instances, length, generator=generator) for _ in range(2))
    pairs = list(zip(x.numpy(), y.numpy(), strict=True))
    return compared(
        f"kendall_tau, {n_instances:,} rows of {length:,}",
        lambda: kendall_tau(x, y),
        lambda: [kendalltau(a, b) for a, b in pairs],
        repeats,
        "SciPy in a loop",
        _GOALS[length],
    )
