"""Speed of ``kendall_tau``, p-values included, against a loop over SciPy's ``kendalltau``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import kendalltau

from faithattn.measures.rank import kendall_tau

LENGTHS = (50, 300, 4000)
BASELINE = "Python loop over scipy.stats.kendalltau"


def rows(smoke: bool) -> list[dict[str, Any]]:
    """Returns one row a length: seconds of both for all instances, and their ratio."""
    n_instances = 20 if smoke else 1000
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(length, n_instances, repeats=1 if smoke else 3) for length in LENGTHS]
    finally:
        torch.set_num_threads(threads)


def _row(length: int, n_instances: int, repeats: int) -> dict[str, Any]:
    """Times one length in float32, tie-free, without a mask."""
    generator = torch.Generator().manual_seed(length)
    x, y = (torch.rand(n_instances, length, generator=generator) for _ in range(2))
    pairs = list(zip(x.numpy(), y.numpy(), strict=True))
    ours = _seconds(lambda: kendall_tau(x, y), repeats + 2)
    baseline = _seconds(lambda: [kendalltau(a, b) for a, b in pairs], repeats)
    return {
        "task": f"kendall_tau, {length} positions",
        "ours_s": ours,
        "baseline_s": baseline,
        "ratio": baseline / ours,
        "baseline": BASELINE,
        "settings": f"{n_instances} instances, float32, one thread, p-values included",
    }


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Returns the shortest of several timings."""
    timings = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        timings.append(time.perf_counter() - start)
    return min(timings)
