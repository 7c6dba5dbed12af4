"""Alternatives by ``adapt``, recording included, beside as many whole forwards of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from faithattn import AttentionView, adapt
from faithattn.adapters.reading import read
from tests.benchmarks import models
from tests.benchmarks.models import Case
from tests.benchmarks.timing import Row, compared


def rows(smoke: bool) -> Iterator[Row]:
    """Ratios for 100 alternatives; 20 where every one costs a whole forward anyway."""
    many, some, repeats = (3, 2, 1) if smoke else (100, 20, 5)
    lstm, text = ((2, 8), (2, 8)) if smoke else ((32, 50), (8, 64))
    for spelling in ("bmm", "einsum", "mul-sum"):
        yield _row(models.additive(spelling, *lstm), -1, many, repeats, 1 / 50)
    yield _row(models.multi_head(*lstm), -1, many, repeats, 1.1)
    for case in (models.stepwise(*lstm), models.encoder(*text)):
        yield _row(case, 0, some, repeats, 1.1)
        yield _row(case, -1, many, repeats, 1.1)
    if models.HAS_TRANSFORMERS:
        bert = models.bert("sdpa", *text)
        yield _row(bert, 0, some, repeats, 1.1)
        yield _row(bert, -1, many, repeats, 1 / 6)
        yield _row(models.gpt2(*text), -1, many, repeats, 1.1)


def worst(smoke: bool) -> Iterator[Row]:
    """The worst ratios over models, sites, batch sizes and numbers of alternatives.

    Whole forwards with each alternative put in by the adapter are what a replay
    saves; bare ones, which put in nothing, are shown beside them. The highest
    of many noisy ratios is too high: those in question are measured again.
    """
    length = 6 if smoke else 16
    settings = {1: (1, 2), 2: (2,)} if smoke else {1: (1, 2, 10, 100), 8: (1, 2, 10)}
    tried = [
        (case, layer, count)
        for size, counts in settings.items()
        for case in _everything(size, length)
        for layer in range(len(case.sites))
        for count in counts
    ]
    for against in (_against_whole, _against_bare):
        found = {
            index: against(*setting, repeats=1 if smoke else 5)
            for index, setting in enumerate(tried)
        }
        leading = sorted(found, key=lambda index: found[index].ratio)[-1 if smoke else -5 :]
        again = [against(*tried[index], repeats=1 if smoke else 25) for index in leading]
        row = max(again, key=lambda row: row.ratio)
        yield replace(row, task=f"worst of {len(tried)}: {row.task}")


def _everything(size: int, length: int) -> list[Case]:
    own = [models.additive("bmm", size, length), models.stepwise(size, length)]
    own += [models.multi_head(size, length), models.encoder(size, length)]
    if models.HAS_TRANSFORMERS:
        own += [models.bert(kind, size, length) for kind in ("sdpa", "eager")]
        own.append(models.gpt2(size, length))
    return own


def _row(case: Case, layer: int, count: int, repeats: int, goal: float) -> Row:
    """The run itself, the recording and the alternatives of one site beside as many forwards."""
    few = min(count, 10)
    return _measured(
        _Subject(case, layer, count),
        lambda _: [case.forward() for _ in range(few)],
        repeats,
        f"{count} bare forwards",
        goal,
        count / few,
        forwards=count,
    )


def _against_whole(case: Case, layer: int, count: int, *, repeats: int) -> Row:
    """Beside as many whole forwards that put the alternatives in, and the run itself."""
    few = min(count, 10)
    return _measured(
        _Subject(case, layer, count),
        lambda subject: subject.put_in(few),
        repeats,
        f"{count} + 1 whole forwards",
        1.1,
        (count + 1) / (few + 1),
    )


def _against_bare(case: Case, layer: int, count: int, *, repeats: int) -> Row:
    """Beside as many bare forwards, and one for the run itself."""
    few = min(count, 10)
    return _measured(
        _Subject(case, layer, count),
        lambda _: [case.forward() for _ in range(few + 1)],
        repeats,
        f"{count} + 1 bare forwards",
        None,
        (count + 1) / (few + 1),
        forwards=count + 1,
    )


def _measured(
    subject: _Subject,
    baseline: Callable[[_Subject], object],
    repeats: int,
    against: str,
    goal: float | None,
    times: float,
    *,
    forwards: int | None = None,
) -> Row:
    """A replay beside a baseline, of which at most ten forwards stand for all.

    Beside bare forwards, their number gives our time in units of one.
    """
    with torch.no_grad():
        row = compared(
            "", subject.replay, lambda: baseline(subject), repeats, against, goal, times=times
        )
    if forwards is not None:
        row = replace(row, limit=row.ratio * forwards, unit="F")
    return replace(row, task=subject.task)


class _Subject:
    """An adapted model with alternatives for one of its sites.

    Attributes:
        way: How the last replay was done.
    """

    def __init__(self, case: Case, layer: int, count: int) -> None:
        self._case, self._layer, self._site = case, layer, case.sites[layer]
        self._adapter = adapt(case.model)
        with torch.no_grad():
            weights = self._adapter.run(case.inputs).attention[self._site]
        self._alternatives = _alternatives(weights, count)
        self.way = "none"

    @property
    def task(self) -> str:
        """For the table."""
        where = ", first" if self._layer == 0 else ", last"
        where = where if len(self._case.sites) > 1 else ""
        return f"{len(self._alternatives)} x {self._case.sized}{where} ({self.way})"

    def replay(self) -> None:
        """Runs the model and replays all alternatives."""
        count = len(self._alternatives)
        reading = read(self._adapter, self._case.inputs, AttentionView(self._site), replay=count)
        reading.replay_override({self._site: self._alternatives})
        self.way = reading.replayed.removesuffix(" forwards")

    def put_in(self, count: int) -> None:
        """Runs the model, then once more for each of the first alternatives."""
        reading = read(self._adapter, self._case.inputs, AttentionView(self._site))
        for each in self._alternatives[:count]:
            reading.run_again(attention={self._site: each})


def _alternatives(weights: Tensor, count: int) -> Tensor:
    """Every row of the weights with its keys in another order."""
    generator = torch.Generator().manual_seed(0)
    length = weights.shape[-1]
    orders = [torch.randperm(length, generator=generator) for _ in range(count)]
    return torch.stack([weights[..., order] for order in orders])
