"""The four published tests on SST-like data: beside the least work, and beside plain loops.

BiLSTM with 128 hidden units a direction, 300-dimensional embeddings, batches
of 32 texts with the lengths of movie-review sentences, one thread. The
adversaries are in ``adversaries.py``; all four together are here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from faithattn import (
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops
from tests.benchmarks.timing import Row, compared, seconds


def rows(smoke: bool) -> Iterator[Row]:
    """Ratios to one forward pass F over the data, to F + B, and to the plain loops."""
    model = data.classifier(small=smoke)
    batches = data.sst_like(2 if smoke else 20)
    few = batches[:1] if smoke else batches[2::5]
    repeats = 1 if smoke else 5
    yield from _permutation_rows(model, batches, few, repeats)
    yield from _gradient_rows(model, batches, few, repeats)
    yield from _loo_rows(model, few, 1 if smoke else 3)
    yield from _together(model, few, 20 if smoke else loops.STEPS, 1 if smoke else 2)


def _permutation_rows(
    model: TextClassifier, batches: list[Tensor], few: list[Tensor], repeats: int
) -> Iterator[Row]:
    task = "permutation_test, 100 shuffles"

    def ours(some: list[Tensor]) -> None:
        for ids in some:
            permutation_test(model, ids, seed=0)

    def whole(some: list[Tensor]) -> None:
        loops.forward(model, some)

    yield compared(
        task,
        lambda: ours(batches),
        lambda: whole(batches),
        repeats,
        "one forward pass F",
        1.5,
        unit="F",
    )
    yield compared(
        task,
        lambda: ours(few),
        lambda: [loops.permutation(_encoded(model, ids)) for ids in few],
        repeats,
        "decoder, NumPy in loops",
        unit="F",
        limit=lambda: whole(few),
    )
    yield compared(
        task,
        lambda: ours(few),
        lambda: [whole(few) for _ in range(5)],
        repeats,
        "100 forward passes",
        times=20,
    )


def _gradient_rows(
    model: TextClassifier, batches: list[Tensor], few: list[Tensor], repeats: int
) -> Iterator[Row]:
    yield compared(
        "gradient_correlation, tau included",
        lambda: [gradient_correlation(model, ids) for ids in batches],
        lambda: [loops.forward_backward(model, ids) for ids in batches],
        repeats,
        "forward + backward",
        1.2,
        unit="F+B",
    )
    yield compared(
        "gradient_correlation",
        lambda: [gradient_correlation(model, ids) for ids in few],
        lambda: [loops.gradient(model, ids) for ids in few],
        repeats,
        "published loop, SciPy",
        unit="F+B",
        limit=lambda: [loops.forward_backward(model, ids) for ids in few],
    )


def _loo_rows(model: TextClassifier, batches: list[Tensor], repeats: int) -> Iterator[Row]:
    shortened = _shortened(batches)
    sizes = (32, 64, 128, 256, 512)
    spent = {
        size: min(seconds(lambda size=size: _bare(model, shortened, size)) for _ in "12")
        for size in sizes
    }
    best = min(spent, key=spent.__getitem__)

    def ours() -> None:
        for ids in batches:
            loo_correlation(model, ids)

    def bare() -> None:
        _bare(model, shortened, best)

    task = f"loo_correlation, tau included (bare: batches of {best})"
    yield compared(task, ours, bare, repeats, "bare, shortened texts", 1.2, unit="bare")
    yield compared(
        "loo_correlation",
        ours,
        lambda: [loops.leave_one_out(model, ids) for ids in batches],
        repeats,
        "published loop, SciPy",
        unit="bare",
        limit=bare,
    )


def _together(
    model: TextClassifier, batches: list[Tensor], steps: int, repeats: int
) -> Iterator[Row]:
    """All four as their defaults are, and with the search as it was published."""

    def ours(**options: object) -> None:
        for ids in batches:
            gradient_correlation(model, ids)
            loo_correlation(model, ids)
            permutation_test(model, ids, seed=0)
            adversarial_attention(model, ids, seed=0, **options)

    def published() -> None:
        for ids in batches:
            loops.gradient(model, ids)
            loops.leave_one_out(model, ids)
            loops.permutation(_encoded(model, ids))
            loops.search(_encoded(model, ids), steps)

    as_published = {"method": "published", "n_steps": steps}
    for name, options, goal in (("defaults", {}, 1 / 5), ("published search", as_published, None)):
        yield compared(
            f"the four tests together, {name}",
            lambda options=options: ours(**options),
            published,
            repeats,
            "the published loops",
            goal,
            unit="F",
            limit=lambda: loops.forward(model, batches),
        )


def _encoded(model: TextClassifier, ids: Tensor) -> loops.Encoded:
    with torch.no_grad():
        return loops.encoded(model, ids)


def _shortened(batches: list[Tensor]) -> list[Tensor]:
    """Every text without each of its words, shortest first, not padded."""
    texts = [row[row != 0] for ids in batches for row in ids]
    shortened = [
        torch.cat([text[:at], text[at + 1 :]])
        for text in texts
        if len(text) > 3
        for at in range(1, len(text) - 1)
    ]
    return sorted(shortened, key=len)


def _bare(model: TextClassifier, texts: list[Tensor], size: int) -> None:
    with torch.no_grad():
        for start in range(0, len(texts), size):
            chunk = texts[start : start + size]
            model(torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True))
