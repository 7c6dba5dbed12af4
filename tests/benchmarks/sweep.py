"""Cost against length T, texts N, adversaries K and shuffles P, one of them at a time.

A cell that would take more than ten seconds a call, by how the last one grew, is
left out; of a slow baseline a share of the work stands for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn import (
    adversarial_attention,
    exact_adversary,
    gradient_correlation,
    jensen_shannon_divergence,
    kendall_tau,
    loo_correlation,
    permutation_test,
    permute_attention,
)
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops, pieces
from tests.benchmarks.timing import Row, Work, compared, once

_LONGEST = 10.0  # seconds of one call
_SLOW, _QUICK = 3.0, 0.5
_ROWS = 4  # of a batch, where the plain loop over its rows is slow


class Setting(NamedTuple):
    """One cell: length, texts, adversaries and shuffles."""

    T: int = 50
    N: int = 32
    K: int = 5
    P: int = 100


@dataclass(frozen=True)
class Cell:
    """A row of the table with its place in the sweep.

    Attributes:
        axis: ``T``, ``N``, ``K`` or ``P``.
        setting: Where on it, and what the others are.
        series: What was measured.
        row: Its times.
    """

    axis: str
    setting: Setting
    series: str
    row: Row

    @property
    def value(self) -> int:
        """Where on its axis it is."""
        found: int = getattr(self.setting, self.axis)
        return found


class _Task(NamedTuple):
    """What is timed in one cell; ``times`` as in :func:`compared`."""

    ours: Work
    baseline: Work
    against: str
    times: float
    unit: str
    limit: Work


class _Series(NamedTuple):
    """A family of cells.

    Attributes:
        name: Of the function.
        make: A cell's work.
        growth: Exponent, by axis where it is not 1, of the time.
    """

    name: str
    make: Callable[[Setting, Any], _Task]
    growth: dict[str, int]


_AXES = {
    "T": (Setting(N=8), (10, 50, 300, 1000, 4000)),
    "N": (Setting(), (1, 8, 32, 256)),
    "K": (Setting(), (1, 5, 20)),
    "P": (Setting(), (10, 100, 1000)),
}
_TINY = {
    "T": (Setting(6, 2, 2, 3), (4, 6)),
    "N": (Setting(6, 2, 2, 3), (1, 2)),
    "K": (Setting(6, 2, 2, 3), (1, 2)),
    "P": (Setting(6, 2, 2, 3), (3, 6)),
}


def rows(smoke: bool) -> Iterator[Row | str]:
    """The rows of all cells."""
    for cell in cells(smoke):
        yield cell if isinstance(cell, str) else cell.row


def cells(smoke: bool) -> Iterator[Cell | str]:
    """Every cell: the tests over all axes, the pure pieces where they depend on them."""
    sweep = _Sweep(_TINY if smoke else _AXES, 1 if smoke else 3)
    bilstm, average = (data.classifier(kind, small=smoke) for kind in ("bilstm", "average"))
    for axis, tests in _TESTS.items():
        for series in tests:
            yield from sweep.along(axis, series, bilstm, ", BiLSTM")
    for series in _TESTS["T"]:
        yield from sweep.along("T", series, average, ", average")
    for axis, several in _PIECES.items():
        for series in several:
            yield from sweep.along(axis, series, None, "")


@dataclass(frozen=True)
class _Sweep:
    """Where the axes lead, and how often a quick cell is timed."""

    axes: dict[str, tuple[Setting, tuple[int, ...]]]
    repeats: int

    def along(self, axis: str, series: _Series, model: Any, which: str) -> Iterator[Cell | str]:
        """One series along one axis, as far as time allows."""
        around, values = self.axes[axis]
        spent, before = 0.0, values[0]
        for value in values:
            setting = around._replace(**{axis: value})
            expected = spent * (value / before) ** series.growth.get(axis, 1)
            at = ", ".join(f"{name} = {number:,}" for name, number in _named(setting, series.name))
            task = f"{series.name}{which}, {at}"
            if expected > _LONGEST:
                yield f"{task}: left out, about {expected:.0f} s a call"
                return
            repeats = self.repeats if expected < _QUICK else int(expected < _SLOW)
            row = _measured(task, series.make(setting, model), repeats)
            if series.name == "loo_correlation" and row.limit:
                row = replace(row, limit=row.limit / setting.T, unit="bare")
            yield Cell(axis, setting, f"{series.name}{which}", row)
            spent, before = row.ours, value


def _measured(task: str, work: _Task, repeats: int) -> Row:
    """Quick cells several times after a first call; of slow ones the first call alone."""
    options: dict[str, Any] = {"times": work.times, "unit": work.unit, "limit": work.limit}
    if repeats:
        return compared(task, work.ours, work.baseline, repeats, work.against, **options)
    return once(task, work.ours, work.baseline, work.against, **options)


def _named(setting: Setting, name: str) -> list[tuple[str, int]]:
    """The numbers that a function depends on."""
    used = {"permutation_test": "TNP", "permute_attention": "TNP"}.get(name, "TN")
    used = "TNK" if name.startswith("adversarial") else used
    return [(letter, getattr(setting, letter)) for letter in used]


def _permutation(at: Setting, model: TextClassifier) -> _Task:
    ids = data.texts(at.N, at.T)
    return _Task(
        lambda: permutation_test(model, ids, n_permutations=at.P, seed=0),
        lambda: loops.permutation(_encoded(model, ids), at.P),
        "decoder, NumPy in loops",
        1,
        "F",
        lambda: loops.forward(model, [ids]),
    )


def _gradient(at: Setting, model: TextClassifier) -> _Task:
    ids = data.texts(at.N, at.T)
    return _Task(
        lambda: gradient_correlation(model, ids),
        lambda: loops.gradient(model, ids),
        "published loop, SciPy",
        1,
        "F+B",
        lambda: loops.forward_backward(model, ids),
    )


def _leave_one_out(at: Setting, model: TextClassifier) -> _Task:
    """A tenth of the deletions stand for all of the loop; its taus are left out."""
    ids = data.texts(at.N, at.T)
    original = _encoded(model, ids).original
    places = range(1, at.T + 1, 10 if at.T > 10 else 1)
    return _Task(
        lambda: loo_correlation(model, ids),
        lambda: loops.deletions(model, ids, original, places),
        "published loop",
        at.T / len(places),
        "F",
        lambda: loops.forward(model, [ids]),
    )


def _adversarial(method: str) -> Callable[[Setting, TextClassifier], _Task]:
    """Ours by a method, beside the published loop: ten of its 500 steps stand for all."""

    def make(at: Setting, model: TextClassifier) -> _Task:
        ids = data.texts(at.N, at.T)
        batch, share = _encoded(model, ids), 10
        return _Task(
            lambda: adversarial_attention(model, ids, method=method, n_adversaries=at.K, seed=0),
            lambda: loops.search(batch, share, at.K),
            "published loop, 500 steps",
            loops.STEPS / share,
            "F",
            lambda: loops.forward(model, [ids]),
        )

    return make


def _shuffles(at: Setting, _: None) -> _Task:
    rows, _ = pieces.uneven(at.N, at.T)
    mask, few = torch.ones_like(rows, dtype=torch.bool), rows[:_ROWS]
    return _Task(
        lambda: permute_attention(rows, mask=mask, n_permutations=at.P, seed=0),
        lambda: pieces.shuffles(few, at.P),
        "NumPy in a loop",
        len(rows) / len(few),
        "copy",
        lambda: rows[:, None].expand(-1, at.P, -1).clone(),
    )


def _divergence(at: Setting, _: None) -> _Task:
    p, q = pieces.uneven(at.N, at.T)[0], pieces.uneven(at.N, at.T)[1].softmax(-1)
    return _Task(
        lambda: jensen_shannon_divergence(p, q),
        lambda: pieces.divergences(p, q),
        "SciPy in a loop",
        1,
        "copy",
        lambda: (p.clone(), q.clone()),
    )


def _tau(at: Setting, _: None) -> _Task:
    x, y = pieces.uneven(at.N, at.T)
    mask = torch.ones_like(x, dtype=torch.bool)
    return _Task(
        lambda: kendall_tau(x, y),
        lambda: loops.taus(x, y, mask),
        "SciPy in a loop",
        1,
        "copy",
        lambda: (x.clone(), y.clone()),
    )


def _vertices(at: Setting, _: None) -> _Task:
    rows, scores = pieces.uneven(at.N, at.T)
    few = 1 if at.T > 1000 else min(_ROWS, at.N)
    return _Task(
        lambda: exact_adversary(rows, scores, 0.0, epsilon=0.01),
        lambda: pieces.best_vertices(rows[:few], scores[:few], 0.01),
        "every pair, NumPy",
        at.N / few,
        "copy",
        lambda: (rows.clone(), scores.clone()),
    )


def _encoded(model: TextClassifier, ids: Tensor) -> loops.Encoded:
    with torch.no_grad():
        return loops.encoded(model, ids)


_PERMUTATION = _Series("permutation_test", _permutation, {})
_GRADIENT = _Series("gradient_correlation", _gradient, {})
_LOO = _Series("loo_correlation", _leave_one_out, {"T": 2})
_EXACT, _SEARCH, _PUBLISHED = (
    _Series(f"adversarial_attention, {method}", _adversarial(method), {"K": 2})
    for method in ("exact", "search", "published")
)
_SHUFFLES = _Series("permute_attention", _shuffles, {})
_DIVERGENCE = _Series("jensen_shannon_divergence", _divergence, {})
_TAU = _Series("kendall_tau", _tau, {})
_VERTICES = _Series("exact_adversary", _vertices, {})
_TESTS = {
    "T": (_PERMUTATION, _GRADIENT, _LOO, _EXACT, _SEARCH),
    "N": (_PERMUTATION, _GRADIENT, _LOO, _EXACT, _SEARCH),
    "K": (_EXACT, _SEARCH, _PUBLISHED),
    "P": (_PERMUTATION,),
}
_PIECES = {
    "T": (_DIVERGENCE, _TAU, _SHUFFLES, _VERTICES),
    "N": (_DIVERGENCE, _TAU, _SHUFFLES, _VERTICES),
    "P": (_SHUFFLES,),
}
