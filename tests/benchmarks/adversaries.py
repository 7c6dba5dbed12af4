"""Adversarial attention: exact, improved search, published search and certificate.

On SST-like data the published model is affine in its attention, which the
exact method needs; the tanh head and the three classes are for the others.
What each found is printed beside what it took. Goals that name the published
search are against its plain loop, in which a step goes through the decoder:
``method="published"`` computes the same steps in closed form, and a sixtieth of
its time would be less than one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from faithattn import AdversarialResult, adapt, adversarial_attention, exact_adversary
from faithattn.paper.models import TextClassifier
from tests.benchmarks import data, loops, pieces
from tests.benchmarks.models import Additive, Case
from tests.benchmarks.timing import Row, Work, compared, within

_LONG = 4000
_STATE = 256  # features of a state of models.Additive
_FEW = 10  # steps of ours, which has the optimum of a linear model to begin with
_SLACK = 1e-3  # of a mean divergence in nats: random starts


class _Subject(NamedTuple):
    """A model on some batches, and the same for the plain loop."""

    name: str
    model: Any
    batches: list[Any]
    encode: Callable[[Any], loops.Encoded]
    forward: Work


def rows(smoke: bool) -> Iterator[Row | str]:
    """Speed goals of the methods, with the divergence that each reaches."""
    model = data.classifier(small=smoke)
    batches = data.sst_like(2 if smoke else 20)
    few = _text_classifier(model, batches[:1] if smoke else batches[2::5])
    steps = 20 if smoke else loops.STEPS
    repeats = 1 if smoke else 2
    yield _against_forward(_text_classifier(model, batches), 1 if smoke else 5)
    large = _text_classifier(model, data.sst_like(*((1, 4) if smoke else (5, 128))))
    yield _against_forward(large, 1 if smoke else 5)
    yield from _against_search(few, "exact", 1 / 60, steps, repeats)
    yield _whole_forwards(model, few.batches[:2], steps, repeats)
    for subject in (few, _tanh_head(smoke)):
        yield from _against_search(subject, "search", None, steps, repeats)
        yield _in_a_twentieth(subject, steps, repeats)
        yield from _reached(subject, steps)
    yield from _certified(smoke, steps)
    yield from _pure(smoke)


def _against_forward(subject: _Subject, repeats: int) -> Row:
    return compared(
        f"adversarial_attention, exact, {subject.name}, batches of {len(subject.batches[0])}",
        lambda: _found(subject, "exact"),
        subject.forward,
        repeats,
        "one forward pass F",
        1.5,
        unit="F",
    )


def _against_search(
    subject: _Subject, method: str, goal: float | None, steps: int, repeats: int
) -> Iterator[Row]:
    """A method beside the published search, as a plain loop and as we compute it."""
    baselines: dict[str, tuple[Work, float | None]] = {
        f"published loop, {steps} steps": (lambda: _loop(subject, steps), goal),
        "method='published'": (lambda: _found(subject, "published", steps), None),
    }
    for against, (baseline, its_goal) in baselines.items():
        yield compared(
            f"adversarial_attention, {method}, {subject.name}",
            lambda: _found(subject, method),
            baseline,
            repeats,
            against,
            its_goal,
            unit="F",
            limit=subject.forward,
        )


def _in_a_twentieth(subject: _Subject, steps: int, repeats: int) -> Row:
    """Our search cut short, where it is already beyond what the published one finds."""
    row = compared(
        f"adversarial_attention, search, n_steps={_FEW}, {subject.name}",
        lambda: _found(subject, "search", _FEW),
        lambda: _loop(subject, steps),
        repeats,
        f"published loop, {steps} steps",
        1 / 20,
        unit="F",
        limit=subject.forward,
    )
    found = _mean_jsd(subject, "search", _FEW)
    lower = found < _mean_jsd(subject, "published", steps) - _SLACK
    return replace(row, broken="a lower JSD than the published search" if lower else "")


def _whole_forwards(model: TextClassifier, batches: list[Tensor], steps: int, repeats: int) -> Row:
    """The published search as we compute it, beside the whole model in each step."""
    subject = _text_classifier(model, batches)
    share = max(1, steps // 250)
    with torch.no_grad():
        pairs = [(ids, subject.encode(ids)) for ids in batches]
    return compared(
        f"adversarial_attention, published, {steps} steps, {subject.name}",
        lambda: _found(subject, "published", steps),
        lambda: [loops.whole_forward_search(model, *pair, share) for pair in pairs],
        repeats,
        "whole forwards each step",
        times=steps / share,
        unit="F",
        limit=subject.forward,
    )


def _reached(subject: _Subject, steps: int) -> Iterator[Row | str]:
    """What the methods found, and the published search beside its own plain loop."""
    affine = isinstance(subject.model, TextClassifier)
    yield compared(
        f"adversarial_attention, published, {steps} steps, {subject.name}",
        lambda: _found(subject, "published", steps),
        lambda: _loop(subject, steps),
        1,
        "published loop",
        1 / 3 if affine else None,
        unit="F",
        limit=subject.forward,
    )
    ways = ("exact", "search", "published") if affine else ("search", "published")
    means = ", ".join(f"{way} {_mean_jsd(subject, way, steps):.3f}" for way in ways)
    loop = torch.cat(_loop(subject, steps)).mean()
    yield (
        f"  {subject.name}: largest JSD within epsilon in nats, mean over texts: {means}, "
        f"published loop {loop:.3f}"
    )


def _certified(smoke: bool, steps: int) -> Iterator[Row | str]:
    """A proven ceiling for three classes, where no closed form is known."""
    size, length = (2, 6) if smoke else (8, 20)
    case = data.own_model(lambda: nn.Sequential(nn.Linear(_STATE, 3)), size, length)
    subject = _adapted(f"3 classes, {size} x {length}", case)
    yield compared(
        f"adversarial_attention, certified, {subject.name}",
        lambda: _found(subject, "certified"),
        lambda: _found(subject, "published", steps),
        1,
        "method='published'",
        unit="F",
        limit=subject.forward,
    )
    proven = AdversarialResult.concatenate(_found(subject, "certified"))
    gap = float((proven.upper_bound - proven.max_jsd).nanmean())
    yield (
        f"  {subject.name}: mean JSD in nats: certified {float(proven.max_jsd.nanmean()):.3f}, "
        f"published {_mean_jsd(subject, 'published', steps):.3f}; mean gap to the ceiling "
        f"{gap:.1e}, {int(proven.certified.sum())} of {size} proven optimal"
    )


def _pure(smoke: bool) -> Iterator[Row]:
    """exact_adversary by itself at many positions, against all pairs of positions."""
    length, size = (40, 2) if smoke else (_LONG, 8)
    weights, scores = pieces.uneven(size, length)
    flat = torch.full_like(weights, 1 / length)
    for name, attention in (("uneven", weights), ("uniform", flat)):
        yield within(
            f"exact_adversary, one row of {length:,}, {name} attention",
            lambda attention=attention: exact_adversary(attention, scores, 0.0, epsilon=0.01),
            3,
            0.2,
            calls=size,
        )
    one = (weights[:1], scores[:1])
    yield compared(
        f"exact_adversary, one row of {length:,}",
        lambda: exact_adversary(*one, 0.0, epsilon=0.01),
        lambda: pieces.best_vertices(*one, 0.01),
        1 if smoke else 3,
        "every pair, NumPy",
        unit="copy",
        limit=lambda: [each.clone() for each in one],
    )


def _text_classifier(model: TextClassifier, batches: list[Tensor]) -> _Subject:
    def forward() -> None:
        loops.forward(model, batches)

    return _Subject("BiLSTM", model, batches, lambda ids: loops.encoded(model, ids), forward)


def _tanh_head(smoke: bool) -> _Subject:
    """A model whose logit is not affine in the attention, on one batch."""

    def head() -> nn.Sequential:
        return nn.Sequential(nn.Linear(_STATE, 32), nn.Tanh(), nn.Linear(32, 1))

    return _adapted("tanh head", data.own_model(head, *((2, 6) if smoke else (32, 20))))


def _adapted(name: str, case: Case) -> _Subject:
    assert isinstance(case.model, Additive)
    model = case.model

    def encode(ids: Tensor) -> loops.Encoded:
        weights, states = model.encode(ids, model.embedding(ids))
        return loops.Encoded(states, weights, ids != 0, lambda sums: model.out(sums).sigmoid())

    def forward() -> None:
        with torch.no_grad():
            case.forward()

    return _Subject(name, adapt(model), [case.inputs], encode, forward)


def _loop(subject: _Subject, steps: int) -> list[Tensor]:
    found = []
    for ids in subject.batches:
        with torch.no_grad():
            batch = subject.encode(ids)
        found.append(loops.search(batch, steps))
    return found


def _found(subject: _Subject, method: str, steps: int = 0) -> list[AdversarialResult]:
    options: dict[str, Any] = {"n_steps": steps} if steps else {}
    return [
        adversarial_attention(subject.model, ids, method=method, seed=0, **options)
        for ids in subject.batches
    ]


def _mean_jsd(subject: _Subject, method: str, steps: int) -> float:
    found = AdversarialResult.concatenate(_found(subject, method, steps))
    return float(found.max_jsd.nanmean())
