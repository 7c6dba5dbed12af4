"""Timing side by side: ours and the baseline in turn, in one process, on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table: how our time compares with a baseline's.

    ``ratio`` is ours divided by the baseline; ``goal`` is the ratio to stay
    below.
    """

    task: str
    ours: float
    baseline: float
    against: str
    goal: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline


def side_by_side(
    ours: Callable[[], object], baseline: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of both, taken in turn after one uncounted call each."""
    ours(), baseline()
    pairs = [(seconds(ours), seconds(baseline)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
