"""The four tests of an audit on one batch, beside the least that they need.

That is a forward pass F for permutations and adversaries, forward and backward
F+B for gradients, and the forward passes over shortened texts for
leave-one-out. Those are of texts made in advance, sorted by length and padded
to large batches, as in the benchmark of removal; what the tests compute from
all of it comes on top. Where a transformer attends, each other attention takes
the rest of the model again, so that F is no limit of the tests that change it:
there the other two are held against theirs. The second row is the public
functions one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from faithattn import (
    AttentionView,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.audits.batch import Batch
from faithattn.audits.measuring.measure import measure
from faithattn.audits.measuring.metrics import TESTS
from faithattn.audits.measuring.plan import Plan
from tests.benchmarks import data, loops, models, removal
from tests.benchmarks.timing import Row, compared

_GOAL = 1.1


def rows(smoke: bool) -> Iterator[Row | str]:
    """The published models, a plain BiLSTM, and a small BERT."""
    repeats = 1 if smoke else 5
    batches = data.sst_like(2, 4)[1:] if smoke else data.sst_like(20)[7:15:6]
    for encoder in ("bilstm", "cnn", "average"):
        model = data.classifier(encoder, small=smoke)
        least = [_published(model, ids) for ids in batches]
        yield from _rows(f"published {encoder}", model, batches, least, repeats)
    size = (2, 8) if smoke else (32, 25)
    case = models.additive("mul-sum", *size)
    adapted = adapt(case.model, mask=0)
    least = [_plain(adapted, case.model, case.inputs, feels=True)]
    yield from _rows(case.sized, adapted, [case.inputs], least, repeats)
    if models.HAS_TRANSFORMERS and not smoke:
        model, inputs = removal.small_bert()
        adapted, view = adapt(model), AttentionView.cls()
        least = [_plain(adapted, model, inputs, feels=False)]
        two = ("gradient_correlation", "loo_correlation")
        yield from _rows("small BERT, 32 x 24", adapted, [inputs], least, 3, view, two)


def _rows(
    name: str,
    model: Any,
    batches: list[Any],
    least: list[Callable[[], None]],
    repeats: int,
    view: AttentionView | None = None,
    limited: tuple[str, ...] = TESTS,
) -> Iterator[Row]:
    plan, bare = Plan.of(limited, view), Plan.of(None, view, controls=False, keep_positions=False)

    def audited(plan: Plan) -> None:
        for number, inputs in enumerate(batches):
            ids = inputs["input_ids"] if isinstance(inputs, dict) else inputs
            measure(model, Batch(inputs), torch.arange(len(ids)), plan, number=number)

    def one_by_one() -> None:
        for inputs in batches:
            gradient_correlation(model, inputs, view=view)
            loo_correlation(model, inputs, view=view)
            permutation_test(model, inputs, view=view, seed=0)
            adversarial_attention(model, inputs, view=view, seed=0)

    def limit() -> None:
        for work in least:
            work()

    yield compared(
        f"{len(limited)} tests, {name}, with controls and positions",
        lambda: audited(plan),
        limit,
        repeats,
        "F + (F+B) + shortened forwards",
        _GOAL,
        unit="bare",
    )
    yield compared(
        f"4 tests, {name}",
        lambda: audited(bare),
        one_by_one,
        repeats,
        "the functions one by one",
        unit="bare" if limited == TESTS else "",
        limit=limit if limited == TESTS else None,
    )


def _published(model: Any, ids: Tensor) -> Callable[[], None]:
    shortened = removal.batched(removal.singles(model, ids), named=False, by_length=False)

    def work() -> None:
        loops.forward(model, [ids])
        loops.forward_backward(model, ids)
        removal.run(model, shortened)

    return work


def _plain(adapted: Any, model: torch.nn.Module, inputs: Any, *, feels: bool) -> Callable[[], None]:
    """The same of any module: gradients by its embedding, the attention not held fixed."""
    named = isinstance(inputs, dict)
    ids = inputs["input_ids"] if named else inputs
    shortened = removal.batched(removal.singles(adapted, ids), named=named, by_length=feels)
    embedding = next(each for each in model.modules() if isinstance(each, torch.nn.Embedding))

    def differentiate() -> None:
        leaves: list[Tensor] = []

        def leaf(_: Any, __: Any, vectors: Tensor) -> Tensor:
            leaves.append(vectors.detach().requires_grad_())
            return leaves[-1]

        with embedding.register_forward_hook(leaf):
            returned = model(**inputs) if named else model(inputs)
        logits = returned.logits if named else returned
        outputs = logits.softmax(-1).amax(-1) if logits.shape[-1] > 1 else logits.sigmoid()
        torch.autograd.grad(outputs.sum(), leaves)

    def work() -> None:
        removal.run(model, [inputs])
        differentiate()
        removal.run(model, shortened)

    return work
