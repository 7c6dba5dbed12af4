"""What a run under ``adapt`` costs beside the bare model: forward, and forward + backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from faithattn import adapt
from tests.benchmarks import models
from tests.benchmarks.models import Case
from tests.benchmarks.timing import Row, compared


def rows(smoke: bool) -> Iterator[Row]:
    """Ratios of ``adapt(model).run(inputs)`` to the model itself."""
    long, short = ((2, 8), (1, 4)) if smoke else ((8, 64), (1, 8))
    few, many = (1, 1) if smoke else (41, 401)
    lstm = models.additive("mul-sum", *((2, 8) if smoke else (32, 50)))
    encoder = models.encoder(*long)
    yield _capture(lstm, few)
    yield _capture(encoder, few, "forward, fast path")
    yield _capture(encoder, few, "forward, no fast path", around=_no_fast_path)
    graded = [(lstm, "embedding"), (encoder, "embedding")]
    if models.HAS_TRANSFORMERS:
        for kind in ("sdpa", "eager"):
            case = models.bert(kind, *long)
            yield _capture(case, few, goal=1.05)
            yield _capture(models.bert(kind, *short), many, goal=1.25)
            graded.append((case, "bert.embeddings.word_embeddings"))
    for case, name in graded:
        yield _gradient(case, name, 1 if smoke else 11)


def _capture(
    case: Case,
    repeats: int,
    against: str = "bare forward",
    goal: float | None = None,
    around: Callable[[], object] | None = None,
) -> Row:
    adapter = adapt(case.model)
    bare = case.forward if around is None else lambda: _within(around, case.forward)
    with torch.no_grad():
        return compared(
            f"run(): {case.sized}",
            lambda: adapter.run(case.inputs),
            bare,
            repeats,
            against,
            goal,
            unit="F",
        )


def _gradient(case: Case, embedding: str, repeats: int) -> Row:
    """Logits and their gradient by the embeddings, with the parameters frozen on neither side."""
    adapter = adapt(case.model, embedding=embedding)

    def ours() -> Tensor:
        run = adapter.run(case.inputs)
        return torch.autograd.grad(run.logits.sum(), run.features[embedding])[0]

    def plain() -> Tensor:
        with _leaf(case.model.get_submodule(embedding)) as found:
            returned = case.forward()
            logits = returned if isinstance(returned, Tensor) else returned.logits
        return torch.autograd.grad(logits.sum(), found[0])[0]

    task = f"run() + gradient: {case.sized}"
    return compared(task, ours, plain, repeats, "forward + backward", unit="F+B")


@contextmanager
def _leaf(embedding: nn.Module) -> Iterator[list[Tensor]]:
    """The output of an embedding as a leaf to differentiate by."""
    found: list[Tensor] = []

    def hook(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_())
        return found[0]

    handle = embedding.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def _no_fast_path() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def _within(around: Callable[[], object], work: Callable[[], object]) -> None:
    with around():  # type: ignore[attr-defined]
        work()
