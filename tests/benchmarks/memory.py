"""Peak memory beside the model's own pass, each in a process of its own.

Of the memory that a test holds, its result grows with what was asked for; the
rest must not grow with P and K past the chunk budget (256 MB unless set).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn import AttentionView, adapt, adversarial_attention, permutation_test
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from tests.benchmarks import models
from tests.benchmarks.peak import peak_of
from tests.benchmarks.timing import return_freed_memory

LIMIT_MEGABYTES = 1024
BUDGET_MEGABYTES = 256
_SLACK = 1.25  # chunks are cut by an estimate of what each alternative takes
_STEPS = 2  # of a search: memory does not grow with them
HEAD = (
    f"{'megabytes at the peak, each in a process of its own':<82}"
    f"{'model':>8}{'test':>8}{'result':>8}{'rest':>8}{'limit':>8}"
)


class Measured(NamedTuple):
    """Megabytes.

    Attributes:
        model: Peak of the model's own forward pass above the start.
        test: Peak of the test above the start.
        result: Tensors of the result.
    """

    model: float
    test: float
    result: float

    @property
    def rest(self) -> float:
        """What the test needs beside the model's own pass and the result."""
        return max(self.test - self.model - self.result, 0.0)  # nan stays nan


class _Task(NamedTuple):
    """What is measured: a test of a model on ``size`` texts of ``length`` words."""

    test: str
    kind: str
    size: int
    length: int
    count: int


def lines(smoke: bool) -> Iterator[str]:
    """The table of memory."""
    yield HEAD
    for task, limit in _tasks(smoke):
        found = _in_a_process(task)
        missed = " !" if found.rest > limit and not smoke else ""
        yield (
            f"{_words(task):<82}{found.model:>8.0f}{found.test:>8.0f}{found.result:>8.1f}"
            f"{found.rest:>8.0f}{limit:>8.0f}{missed}"
        )


def _tasks(smoke: bool) -> list[tuple[_Task, float]]:
    """Models of others and long texts; then more and more shuffles and adversaries."""
    if smoke:
        return [
            (_Task("permutation", "paper", 8, 50, 10), LIMIT_MEGABYTES),
            (_Task("published", "paper", 2, 10, 5), BUDGET_MEGABYTES * _SLACK),
        ]
    kinds = {"paper": (32, 4000), "lstm": (32, 4000), "encoder": (8, 64)}
    if models.HAS_TRANSFORMERS:
        kinds["bert"] = (8, 64)
    tasks = [
        (_Task("permutation", kind, *shape, 100), float(LIMIT_MEGABYTES))
        for kind, shape in kinds.items()
    ]
    within = BUDGET_MEGABYTES * _SLACK
    tasks += [
        (_Task("permutation", "paper", 32, 200, count), within) for count in (100, 1000, 10_000)
    ]
    tasks += [
        (_Task(test, "paper", 8, 100, count), within)
        for test in ("published", "search", "exact")
        for count in (5, 50, 500)
    ]
    return tasks


def _words(task: _Task) -> str:
    name = {
        "paper": "paper's model",
        "lstm": "adapted BiLSTM",
        "encoder": "nn.TransformerEncoder, last layer",
        "bert": "MiniLM, last layer",
    }[task.kind]
    shape = f"{name}, {task.size} x {task.length:,}"
    if task.test == "permutation":
        return f"permutation_test, P = {task.count:,}, {shape}"
    return f"adversarial_attention, {task.test}, K = {task.count}, {shape}"


def _in_a_process(task: _Task) -> Measured:
    """A process of its own: what other tasks left behind cannot hide a peak."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", *map(str, task)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(*map(float, done.stdout.split()))


def _measure(task: _Task) -> Measured:
    torch.set_num_threads(1)
    return_freed_memory()
    model, inputs, small, view, forward = _subject(task.kind, task.size, task.length)
    _run(task, model, small, view, 1)
    kept: list[Any] = []
    with torch.no_grad():
        forward()
        own = peak_of(forward)
    peak = peak_of(lambda: kept.append(_run(task, model, inputs, view, task.count)))
    values = [getattr(kept[0], field.name) for field in fields(kept[0])]
    size = sum(each.nbytes for each in values if isinstance(each, Tensor)) / 2**20
    unknown = float("nan")
    return Measured(unknown if own is None else own, unknown if peak is None else peak, size)


def _run(task: _Task, model: Any, inputs: Any, view: AttentionView | None, count: int) -> object:
    if task.test == "permutation":
        return permutation_test(model, inputs, view=view, n_permutations=count, seed=0)
    options: dict[str, Any] = {} if task.test == "exact" else {"n_steps": _STEPS}
    return adversarial_attention(
        model, inputs, view=view, method=task.test, n_adversaries=count, seed=0, **options
    )


def _subject(
    kind: str, size: int, length: int
) -> tuple[Any, Any, Any, AttentionView | None, Callable[[], object]]:
    """A model, a batch, a smaller one, the view, and the model's own pass."""
    if kind == "paper":
        model = build(lambda: TextClassifier(1000, encoder="average"), seed=0)
        ids = torch.randint(4, 1000, (size, length), generator=torch.Generator().manual_seed(0))
        return model, ids, ids[:2, :8], None, lambda: model(ids)
    make = {"lstm": lambda *n: models.additive("mul-sum", *n), "encoder": models.encoder}
    case, small = (
        models.bert("sdpa", *n) if kind == "bert" else make[kind](*n)
        for n in ((size, length), (2, 8))
    )
    view = None if kind == "lstm" else AttentionView.cls()
    return adapt(case.model), case.inputs, small.inputs, view, case.forward


if __name__ == "__main__":
    print(*_measure(_Task(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
