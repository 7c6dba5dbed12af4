"""Speed of ``kendall_tau``, p-values included, and of ``spearman_correlation``.

Against loops over SciPy's ``kendalltau`` and ``spearmanr``, and against
TorchMetrics' ``kendall_rank_corrcoef`` where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor

from faithattn import kendall_tau, spearman_correlation
from tests.benchmarks.timing import Row, compared

_GOALS = {50: 1 / 25, 300: 1 / 4, 4000: 1.0}
# TorchMetrics takes more than a minute for 1,000 rows of 4,000.
_TORCHMETRICS_INSTANCES = {50: 1000, 300: 1000, 4000: 100}


def rows(smoke: bool) -> Iterator[Row]:
    """One row per length and baseline; float32 scores, which have few ties or none."""
    repeats = 1 if smoke else 3
    count = 20 if smoke else 1000
    for length, goal in _GOALS.items():
        yield _against_scipy(kendall_tau, kendalltau, _draw(count, length), repeats, goal)
    for length in _GOALS:
        yield _against_scipy(spearman_correlation, spearmanr, _draw(count, length), repeats, 1.0)
    try:
        from torchmetrics.functional import kendall_rank_corrcoef
    except ImportError:
        print("torchmetrics is not installed: no row against it")
        return
    for length, most in _TORCHMETRICS_INSTANCES.items():
        pair = _draw(min(count, most), length)
        yield _against_torchmetrics(kendall_rank_corrcoef, pair, repeats)


def _against_scipy(
    ours: Callable[[Tensor, Tensor], object],
    theirs: Callable[..., object],
    pair: tuple[Tensor, Tensor],
    repeats: int,
    goal: float,
) -> Row:
    rows_of_both = list(zip(*(part.numpy() for part in pair), strict=True))
    return compared(
        _task(ours.__name__, pair[0]),
        lambda: ours(*pair),
        lambda: [theirs(a, b) for a, b in rows_of_both],
        repeats,
        "SciPy in a loop",
        goal,
    )


def _against_torchmetrics(theirs: Any, pair: tuple[Tensor, Tensor], repeats: int) -> Row:
    columns = [part.t().contiguous() for part in pair]  # it correlates columns
    return compared(
        _task("kendall_tau", pair[0]),
        lambda: kendall_tau(*pair),
        lambda: theirs(*columns, variant="b", t_test=True),
        repeats,
        "TorchMetrics, batched",
        1.0,
    )


def _task(name: str, x: Tensor) -> str:
    return f"{name}, {x.shape[0]:,} rows of {x.shape[1]:,}"


def _draw(n_instances: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    x, y = (torch.rand(n_instances, length, generator=generator) for _ in range(2))
    return x, y
