"""Alternatives by ``adapt``, recording included, beside as many whole forwards of the model."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from faithattn import AttentionView, adapt
from faithattn.adapters.reading import read
from tests.benchmarks import models
from tests.benchmarks.models import Case
from tests.benchmarks.timing import Row, compared


def rows(smoke: bool) -> list[Row]:
    """Ratios for 100 alternatives."""
    count, repeats = (3, 1) if smoke else (100, 5)
    lstm, text = ((2, 8), (2, 8)) if smoke else ((32, 50), (8, 64))
    cases = [
        (models.additive(spelling, *lstm), -1, 1 / 50) for spelling in ("bmm", "einsum", "mul-sum")
    ]
    step = models.stepwise(*lstm)
    cases += [
        (step, 0, 1.1),
        (step, -1, 1.1),
        (models.multi_head(*lstm), -1, 1.1),
        (models.encoder(*text), 0, 1.1),
        (models.encoder(*text), -1, 1.1),
    ]
    if models.HAS_TRANSFORMERS:
        bert = models.bert("sdpa", *text)
        cases += [(bert, 0, 1.1), (bert, -1, 1 / 6), (models.gpt2(*text), -1, 1.1)]
    return [_row(case, layer, count, repeats, goal) for case, layer, goal in cases]


def worst(smoke: bool) -> list[Row]:
    """The worst ratios over models, sites, batch sizes and numbers of alternatives.

    Whole forwards with each alternative put in by the adapter are what a replay
    saves; bare ones, which put in nothing, are shown beside them.
    """
    sizes, length = ((1, 2), 6) if smoke else ((1, 8, 32), 32)
    counts = (1, 2) if smoke else (1, 2, 10, 100)
    found = []
    for size in sizes:
        for case in _everything(size, length):
            for layer in range(len(case.sites)):
                for count in counts:
                    repeats = 1 if smoke else max(3, 40 // (count * size))
                    found.append(_both(case, layer, count, repeats))
    columns = list(zip(*found, strict=True))
    highest = [max(column, key=lambda row: row.ratio) for column in columns]
    return [replace(row, task=f"worst of {len(found)}: {row.task}") for row in highest]


def _everything(size: int, length: int) -> list[Case]:
    own = [models.additive("bmm", size, length), models.stepwise(size, length)]
    own += [models.multi_head(size, length), models.encoder(size, length)]
    if models.HAS_TRANSFORMERS:
        own += [models.bert(kind, size, length) for kind in ("sdpa", "eager")]
        own.append(models.gpt2(size, length))
    return own


def _row(case: Case, layer: int, count: int, repeats: int, goal: float) -> Row:
    """Ours: the run itself, the recording, ``count`` alternatives of one site.

    The baseline is ``count`` bare forwards; ten of them stand for all.
    """
    with torch.no_grad():
        subject = _Subject(case, case.sites[layer], count)
        few = min(count, 10)
        return compared(
            f"{count} alternatives, {_described(case, layer)} ({subject.replayed()})",
            subject.replayed,
            lambda: [case.forward() for _ in range(few)],
            repeats,
            f"{count} bare forwards",
            goal,
            times=count / few,
        )


def _both(case: Case, layer: int, count: int, repeats: int) -> tuple[Row, Row]:
    """Beside whole forwards that put the alternatives in, and beside bare ones.

    The run itself is counted on every side.
    """
    with torch.no_grad():
        subject = _Subject(case, case.sites[layer], count)
        task = f"{count} x {_described(case, layer)} ({subject.replayed()})"
        few = min(count, 10)
        times = (count + 1) / (few + 1)
        return (
            compared(
                task,
                subject.replayed,
                lambda: subject.whole(few),
                repeats,
                f"{count} + 1 whole forwards",
                1.1,
                times=times,
            ),
            compared(
                task,
                subject.replayed,
                lambda: [case.forward() for _ in range(few + 1)],
                repeats,
                f"{count} + 1 bare forwards",
                times=times,
            ),
        )


class _Subject:
    """An adapted model with alternatives for one of its sites."""

    def __init__(self, case: Case, site: str, count: int) -> None:
        self._case, self._site = case, site
        self._adapter = adapt(case.model)
        weights = self._adapter.run(case.inputs).attention[site]
        self._alternatives = _alternatives(weights, count)

    def replayed(self) -> str:
        """Runs the model, replays all alternatives, and says how that was done."""
        count = len(self._alternatives)
        reading = read(self._adapter, self._case.inputs, AttentionView(self._site), replay=count)
        reading.replay_override({self._site: self._alternatives})
        return reading.replayed

    def whole(self, count: int) -> None:
        """Runs the model, then once more for each alternative."""
        adapter = self._adapter.focused(frozenset({self._site}))
        adapter.run(self._case.inputs)
        for each in self._alternatives[:count]:
            adapter.run(self._case.inputs, attention={self._site: each})


def _alternatives(weights: Tensor, count: int) -> Tensor:
    """Every row of the weights with its keys in another order."""
    generator = torch.Generator().manual_seed(0)
    length = weights.shape[-1]
    orders = [torch.randperm(length, generator=generator) for _ in range(count)]
    return torch.stack([weights[..., order] for order in orders])


def _described(case: Case, layer: int) -> str:
    where = "" if len(case.sites) == 1 else ", first" if layer == 0 else ", last"
    ids = case.inputs["input_ids"] if isinstance(case.inputs, dict) else case.inputs
    return f"{case.name}{where}, {ids.shape[0]} x {ids.shape[1]}"
