"""Timing side by side: ours, the baseline and the limit in turn, in one process, on one thread."""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tests.benchmarks.peak import peak_of

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table: how our time compares with a baseline's.

    Attributes:
        task: What was done.
        ours: Seconds of one call.
        baseline: Seconds of one call; nan where there is none, or it takes too long.
        ratio: Ours divided by the baseline, the median over pairs taken one
            right after the other.
        noise: Half the distance between the quartiles of those ratios.
        against: What the baseline is.
        goal: The ratio not to exceed; None where none is set.
        limit: Ours divided by the time of the least work there is to do.
        unit: What that least work is: ``F`` one forward pass over the same
            inputs, ``F+B`` forward and backward, ``bare`` the forward passes
            that the task needs, ``copy`` inputs and results copied once.
        peak: Megabytes that one call of ours takes above the start.
        broken: A condition beside the ratio that is not met, in words.
    """

    task: str
    ours: float
    baseline: float
    ratio: float
    noise: float
    against: str
    goal: float | None = None
    limit: float | None = None
    unit: str = ""
    peak: float | None = None
    broken: str = ""

    @property
    def missed(self) -> bool:
        """Whether the goal, or a condition beside it, is not met."""
        return bool(self.broken) or (self.goal is not None and not self.ratio <= self.goal)


def compared(
    task: str,
    ours: Work,
    baseline: Work | None,
    repeats: int,
    against: str,
    goal: float | None = None,
    *,
    times: float = 1,
    unit: str = "",
    limit: Work | None = None,
) -> Row:
    """Measures all in turn, the order changing, after one uncounted call each.

    Args:
        task: For the table.
        ours: Our call.
        baseline: The other; None where it would take too long.
        repeats: How often each is timed.
        against: What the baseline is.
        goal: The ratio not to exceed.
        times: Multiplies the baseline, where a share of its work stands for all.
        unit: Name of the limit.
        limit: The least work; None, with a unit, if it is the baseline.
    """
    # First calls load libraries and fill caches: quick ones are not judged by theirs.
    start = time.perf_counter()
    peak = peak_of(ours)
    if time.perf_counter() - start < 1:
        peak = peak_of(ours)
    works = [work for work in (ours, baseline, limit) if work is not None]
    for work in works[1:]:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats):
        for index in range(len(works))[:: -1 if repeat % 2 else 1]:
            taken[index].append(seconds(works[index]))
    return _row((task, against, goal, unit, peak), taken, (baseline, limit), times)


def once(
    task: str,
    ours: Work,
    baseline: Work | None,
    against: str,
    *,
    times: float = 1,
    unit: str = "",
    limit: Work | None = None,
) -> Row:
    """One call each, for what takes seconds, and no memory; otherwise as :func:`compared`."""
    works = [work for work in (ours, baseline, limit) if work is not None]
    taken = [[seconds(work)] for work in works]
    return _row((task, against, None, unit, None), taken, (baseline, limit), times)


def within(task: str, ours: Work, repeats: int, allowed: float, *, calls: int = 1) -> Row:
    """Seconds of one of so many calls' worth of work beside those that are allowed."""
    peak = peak_of(ours)
    taken = [seconds(ours) / calls for _ in range(repeats)]
    ratios = [each / allowed for each in taken]
    spread = _spread(ratios)
    return Row(
        task, statistics.median(taken), allowed, *spread, "the time allowed", goal=1.0, peak=peak
    )


def _row(
    words: tuple[str, str, float | None, str, float | None],
    taken: list[list[float]],
    others: tuple[Work | None, Work | None],
    times: float,
) -> Row:
    task, against, goal, unit, peak = words
    mine, rest = taken[0], taken[1:]
    baseline = [each * times for each in rest.pop(0)] if others[0] else [math.nan]
    ratio, noise = _spread(_ratios(mine, baseline))
    limit = None
    if unit:
        limit = _spread(_ratios(mine, rest[0] if others[1] else baseline))[0]
    medians = [statistics.median(each) for each in (mine, baseline)]
    return Row(task, *medians, ratio, noise, against, goal, limit, unit, peak)


def _ratios(mine: list[float], others: list[float]) -> list[float]:
    if len(others) < len(mine):  # nan alone
        others = others * len(mine)
    return [a / b if b else math.nan for a, b in zip(mine, others, strict=True)]


def _spread(values: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return middle, (high - low) / 2


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
    largest = 1 << 30
    return _mallopt(_TRIM_THRESHOLD, largest) and _mallopt(_MMAP_THRESHOLD, largest)


def return_freed_memory() -> bool:
    """Has glibc give back every large block as soon as it is freed; returns whether it does.

    What the process has is then what is held, and not what lay between blocks
    that were kept, which can be several times as much.
    """
    return _mallopt(_MMAP_THRESHOLD, 1 << 17)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def _mallopt(parameter: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(parameter, value))
    except (AttributeError, OSError):  # another C library
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
