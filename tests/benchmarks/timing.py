"""Timing side by side: ours and the baseline in turn, in one process, on one thread."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table: how our time compares with a baseline's.

    ``ratio`` is ours divided by the baseline, the median over pairs taken one
    right after the other; ``goal`` is the ratio to stay below, ``noise`` half
    the distance between the quartiles of those ratios.
    """

    task: str
    ours: float
    baseline: float
    ratio: float
    noise: float
    against: str
    goal: float | None = None


def compared(
    task: str,
    ours: Work,
    baseline: Work,
    repeats: int,
    against: str,
    goal: float | None = None,
    *,
    times: float = 1,
) -> Row:
    """Measures both in turn, the order changing, after one uncounted call each.

    ``times`` multiplies the baseline, where a share of its work stands for all.
    """
    ours(), baseline()
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            second = seconds(baseline)
            pairs.append((seconds(ours), second))
        else:
            pairs.append((seconds(ours), seconds(baseline)))
    pairs = [(mine, other * times) for mine, other in pairs]
    ratios = [mine / other for mine, other in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Row(task, medians[0], medians[1], middle, (high - low) / 2, against, goal)


def seconds(work: Work) -> float:
    """CPU time of one call, which counts other programs less than a clock on the wall."""
    start = time.process_time()
    work()
    return time.process_time() - start


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed; returns whether it does.

    Otherwise it gives large blocks back to the system, or not, as they happen to
    lie: page faults then cost either side up to a tenth, at random.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    trim_threshold, mmap_threshold, largest = -1, -3, 1 << 30
    return bool(mallopt(trim_threshold, largest) and mallopt(mmap_threshold, largest))


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
