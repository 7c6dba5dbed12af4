"""Long documents and passages with many entities: peak memory and seconds of each test.

Every model is measured in a process of its own. Of the memory that a test holds
beside the model's own forward pass and its result, the chunk budget (256 MB
unless set) is the limit, however long the text is and however many outputs
there are.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn import (
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.models import PublishedModel, QuestionAnswerer, TextClassifier
from faithattn.paper.training import build
from tests.benchmarks.memory import BUDGET_MEGABYTES, Measured
from tests.benchmarks.peak import peak_of
from tests.benchmarks.timing import return_freed_memory

HEAD = (
    f"{'megabytes at the peak and seconds, each model in a process of its own':<82}"
    f"{'model':>8}{'test':>8}{'result':>8}{'rest':>8}{'limit':>8}{'seconds':>10}"
)
ENCODERS = ("average", "cnn", "bilstm")
TESTS: dict[str, Callable[[Any, Any], object]] = {
    "gradient": gradient_correlation,
    "permutation": lambda model, inputs: permutation_test(model, inputs, seed=0),
    "adversary, auto": lambda model, inputs: adversarial_attention(model, inputs, seed=0),
    "adversary, published": lambda model, inputs: adversarial_attention(
        model, inputs, method="published", seed=0
    ),
    "leave-one-out": loo_correlation,
}
_OUTPUTS: dict[str, dict[str, Any]] = {
    "one logit": {},
    "4 classes": {"n_outputs": 4},
    "5 labels": {"n_outputs": 5, "output": "sigmoid"},
}
_QUESTIONS = "550 entities"
_WORDS = {_QUESTIONS: 70_000}  # as many as the news stories have; elsewhere few will do
_ASKED, _OFFERED = 16, 26  # words of a question, entities of a story


class Task(NamedTuple):
    """What is measured: a model with outputs of a kind, on ``size`` texts of ``length`` words."""

    kind: str
    encoder: str
    size: int
    length: int


class Line(NamedTuple):
    """A test, its megabytes, and its seconds."""

    test: str
    memory: Measured
    seconds: float


def lines(smoke: bool) -> Iterator[str]:
    """The table of long texts."""
    yield HEAD
    for task in _tasks(smoke):
        yield from _in_a_process(task)


def measured(task: Task, tests: dict[str, Callable[[Any, Any], object]]) -> Iterator[Line]:
    """Runs tests of a model one after the other, once on less to begin with."""
    model, inputs, small = subject(task)
    with torch.no_grad():
        model.run(small)
        own = peak_of(lambda: model.run(inputs))
    for name, test in tests.items():
        test(model, small)
        kept: list[Any] = []
        start = time.perf_counter()
        peak = peak_of(lambda test=test, kept=kept: kept.append(test(model, inputs)))  # type: ignore[misc]
        seconds = time.perf_counter() - start
        values = [getattr(kept[0], field.name) for field in fields(kept[0])]
        size = sum(each.nbytes for each in values if isinstance(each, Tensor)) / 2**20
        unknown = float("nan")
        memory = Measured(unknown if own is None else own, unknown if peak is None else peak, size)
        yield Line(name, memory, seconds)


def subject(task: Task) -> tuple[PublishedModel, Any, Any]:
    """A model, a batch, and a smaller one; its outputs are decided, as after training."""
    words = _WORDS.get(task.kind, 5000)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(4, words, (task.size, task.length), generator=draw)
    if task.kind != _QUESTIONS:
        options = _OUTPUTS[task.kind]
        text = build(lambda: TextClassifier(words, encoder=task.encoder, **options), seed=0)
        return _decided(text), ids, ids[:, :8]
    count = int(task.kind.split()[0])
    model = build(lambda: QuestionAnswerer(words, count, encoder=task.encoder), seed=0)
    offered = torch.rand(task.size, count, generator=draw).argsort(1) < _OFFERED
    asked = torch.randint(4, words, (task.size, _ASKED), generator=draw)
    inputs = {"passage": ids, "question": asked, "candidates": offered}
    return _decided(model), inputs, {**inputs, "passage": ids[:, :8]}


def _decided(model: Any) -> Any:
    model.requires_grad_(False)
    model.decoder.weight.mul_(20)
    return model


def _tasks(smoke: bool) -> list[Task]:
    """Documents of as many words as the clinical ones, and passages of the news stories' size."""
    if smoke:
        return [Task("5 labels", "average", 1, 50), Task(_QUESTIONS, "average", 2, 20)]
    documents = [Task(kind, encoder, 1, 4000) for encoder in ENCODERS for kind in _OUTPUTS]
    return documents + [Task(_QUESTIONS, encoder, 8, 760) for encoder in ENCODERS]


def _tests(task: Task) -> dict[str, Callable[[Any, Any], object]]:
    """All tests; leaving words out of a BiLSTM's text takes minutes, and as long for any output."""
    if task.encoder == "bilstm" and task.kind in _OUTPUTS and task.kind != "5 labels":
        return {name: test for name, test in TESTS.items() if name != "leave-one-out"}
    return TESTS


def _in_a_process(task: Task) -> Iterator[str]:
    """A process of its own: what other models left behind cannot hide a peak."""
    command = [sys.executable, "-m", "tests.benchmarks.long_documents", *map(str, task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield line.rstrip("\n")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _line(task: Task, found: Line) -> str:
    """One line of the table; ``!`` where the budget did not hold."""
    name = f"{found.test}, {task.kind}, {task.encoder}, {task.size} x {task.length:,}"
    memory = found.memory
    missed = " !" if memory.rest > BUDGET_MEGABYTES else ""
    return (
        f"{name:<82}{memory.model:>8.0f}{memory.test:>8.0f}{memory.result:>8.1f}"
        f"{memory.rest:>8.0f}{BUDGET_MEGABYTES:>8.0f}{found.seconds:>10.1f}{missed}"
    )


def _main(task: Task) -> None:
    torch.set_num_threads(1)
    return_freed_memory()
    for found in measured(task, _tests(task)):
        print(_line(task, found), flush=True)


if __name__ == "__main__":
    _main(Task(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
