"""Attention weights zeroed in order until the decision flips, beside loops over the steps.

All loops run the encoder once and zero one weight more in each step, as
published: text by text, or for a whole batch until its last text has flipped.
The third runs the whole model in each step, for whom the attention is only an
argument. All use the same eight orders: attention, gradient, their product,
five random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from faithattn import adapt, erasure_to_flip, single_weight_erasure
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops
from tests.benchmarks.models import Additive
from tests.benchmarks.timing import Row, compared

_RANDOM = 5
_STATE = 256  # features of a state of models.Additive
Steps = Callable[[loops.Encoded, Tensor], Tensor]


def rows(smoke: bool) -> Iterator[Row]:
    """The published model, whose logit is affine in the attention, and a tanh head."""
    model = data.classifier(small=smoke)
    batches = data.sst_like(2, 4) if smoke else data.sst_like(20)[2::5]
    repeats = 1 if smoke else 5
    yield from _to_flip(model, batches, repeats)
    yield from _to_flip(
        model, data.sst_like(1, 8) if smoke else data.sst_like(5, 128)[2:3], repeats
    )
    yield from _bent(smoke)
    for count in (1, None):
        yield compared(
            f"single_weight_erasure, n_random={count}",
            lambda count=count: [
                single_weight_erasure(model, ids, n_random=count, seed=0) for ids in batches
            ],
            lambda: loops.forward(model, batches),
            1 if smoke else 9,
            "one forward pass F",
            unit="F",
        )


def _to_flip(model: TextClassifier, batches: list[Tensor], repeats: int) -> Iterator[Row]:
    def ours() -> None:
        for ids in batches:
            erasure_to_flip(model, ids, seed=0)

    def forward() -> None:
        loops.forward(model, batches)

    task = f"erasure_to_flip, 8 orders, BiLSTM, batches of {len(batches[0])}"
    ways: list[tuple[str, Steps, float | None]] = [
        ("loop over steps, text by text", text_by_text, 0.1),
        ("loop over steps, whole batches", whole_batches, None),
    ]
    for against, steps, goal in ways:
        yield compared(
            task,
            ours,
            lambda steps=steps: [to_flip(encoded(model, ids), steps) for ids in batches],
            repeats,
            against,
            goal,
            unit="F",
            limit=forward,
        )
    few = batches[:1]
    yield compared(
        task,
        lambda: [erasure_to_flip(model, ids, seed=0) for ids in few],
        lambda: [_forwards(model, ids) for ids in few],
        repeats,
        "whole forwards, step by step, one batch",
        0.1,
        times=3 + _RANDOM,
        unit="F",
        limit=lambda: loops.forward(model, few),
    )


def _bent(smoke: bool) -> Iterator[Row]:
    """No closed form: every step up to the flip is computed."""

    def head() -> nn.Sequential:
        return nn.Sequential(nn.Linear(_STATE, 32), nn.Tanh(), nn.Linear(32, 1))

    case = data.own_model(head, *((2, 6) if smoke else (32, 20)))
    assert isinstance(case.model, Additive)
    module, adapter, ids = case.model, adapt(case.model), case.inputs

    def batch() -> loops.Encoded:
        with torch.no_grad():
            weights, states = module.encode(ids, module.embedding(ids))
        return loops.Encoded(states, weights, ids != 0, lambda sums: module.out(sums).sigmoid())

    def forward() -> None:
        with torch.no_grad():
            module(ids)

    for against, steps in (("text by text", text_by_text), ("whole batches", whole_batches)):
        yield compared(
            "erasure_to_flip, 8 orders, tanh head",
            lambda: erasure_to_flip(adapter, ids, seed=0),
            lambda steps=steps: to_flip(batch(), steps),
            1 if smoke else 5,
            f"loop over steps, {against}",
            unit="F",
            limit=forward,
        )


def encoded(model: TextClassifier, ids: Tensor) -> loops.Encoded:
    with torch.no_grad():
        return loops.encoded(model, ids)


def to_flip(batch: loops.Encoded, steps: Steps) -> Tensor:
    """Number of weights removed at the flip by each order, (N, B); 0 where it never comes."""
    return torch.stack([steps(batch, scores) for scores in order_scores(batch)])


def order_scores(batch: loops.Encoded) -> list[Tensor]:
    """Scores (B, L) to remove by: attention, gradient, product, random."""
    weights = batch.weights.detach().requires_grad_()
    p = batch.outputs(weights[:, None])
    p = torch.where(p > 0.5, p, 1 - p)
    (slope,) = torch.autograd.grad(p.sum(), weights)
    generator = torch.Generator().manual_seed(0)
    random = [torch.rand(slope.shape, generator=generator) for _ in range(_RANDOM)]
    return [batch.weights, slope, slope * batch.weights, *random]


@torch.no_grad()
def text_by_text(batch: loops.Encoded, scores: Tensor) -> Tensor:
    """One text, one step at a time."""
    found = []
    for states, weights, real, score in zip(
        batch.states, batch.weights, batch.mask, scores, strict=True
    ):
        states, weights = states[real], weights[real]
        before = bool(batch.head(weights @ states) > 0.5)
        left, flip = weights.clone(), 0
        for step, place in enumerate(score[real].argsort(descending=True)[:-1], 1):
            left[place] = 0
            if bool(batch.head(left / left.sum() @ states) > 0.5) != before:
                flip = step
                break
        found.append(flip)
    return torch.tensor(found)


@torch.no_grad()
def whole_batches(batch: loops.Encoded, scores: Tensor) -> Tensor:
    """All texts take each step, until the last has flipped or run out of weights."""
    return _steps(batch.weights, batch.mask, scores, lambda left: batch.outputs(left[:, None]))


def _forwards(model: TextClassifier, ids: Tensor) -> Tensor:
    """The same for the order by attention, the encoder run again in each step."""

    def outputs(left: Tensor) -> Tensor:
        return model.run(ids, attention={"attention": left}).logits.sigmoid()

    with torch.no_grad():
        weights = model.run(ids).attention["attention"]
        return _steps(weights, ids > 3, weights, outputs)


def _steps(
    weights: Tensor, mask: Tensor, scores: Tensor, outputs: Callable[[Tensor], Tensor]
) -> Tensor:
    before = outputs(weights)[:, 0] > 0.5
    order = scores.masked_fill(~mask, -torch.inf).argsort(-1, descending=True)
    lengths, left = mask.sum(-1), weights.clone()
    found = torch.zeros_like(lengths)
    for step in range(1, int(lengths.max())):
        left.scatter_(1, order[:, step - 1 : step], 0)
        going = (found == 0) & (step < lengths)
        if not going.any():
            break
        after = outputs(left / left.sum(-1, keepdim=True).clamp_min(1e-30))[:, 0] > 0.5
        found[going & (after != before)] = step
    return found
