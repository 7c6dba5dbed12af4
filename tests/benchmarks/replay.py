"""Alternatives by ``adapt``, recording included, beside as many whole forwards of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


def worst(smoke: bool) -> Row:
    """The worst ratio over models, sites, batch sizes and numbers of alternatives."""
    sizes, length = ((1, 2), 6) if smoke else ((1, 8, 32), 32)
    counts = (1, 2) if smoke else (1, 2, 10, 100)
    found = []
    for size in sizes:
        for case in _everything(size, length):
            for layer in range(len(case.sites)):
                for count in counts:
                    repeats = 1 if smoke else max(3, 20 // (count * size))
                    found.append(_row(case, layer, count, repeats, 1.1, first=1))
    highest = max(found, key=lambda row: row.ratio)
    return replace(highest, task=f"worst of {len(found)}: {highest.task}")


def _everything(size: int, length: int) -> list[Case]:
    own = [models.additive("bmm", size, length), models.stepwise(size, length)]
    own += [models.multi_head(size, length), models.encoder(size, length)]
    if models.HAS_TRANSFORMERS:
        own += [models.bert(kind, size, length) for kind in ("sdpa", "eager")]
        own.append(models.gpt2(size, length))
    return own


def _row(
    case: Case, layer: int, count: int, repeats: int, goal: float, *, first: int = 0
) -> Row:
    """Ours: the run itself, the recording, ``count`` alternatives of one site.

    The baseline is ``count`` bare forwards, and ``first`` for the run itself;
    ten of them stand for all.
    """
    adapter = adapt(case.model)
    site = case.sites[layer]
    view = AttentionView(site)
    whole = count + first
    few = min(whole, 10)
    with torch.no_grad():
        alternatives = _alternatives(adapter.run(case.inputs).attention[site], count)
        way = _replayed(adapter, case, view, site, alternatives)
        return compared(
            f"{count} alternatives, {_described(case, layer)} ({way})",
            lambda: _replayed(adapter, case, view, site, alternatives),
            lambda: [case.forward() for _ in range(few)],
            repeats,
            f"{whole} bare forwards",
            goal,
            times=whole / few,
        )


def _replayed(
    adapter: Any, case: Case, view: AttentionView, site: str, alternatives: Tensor
) -> str:
    reading = read(adapter, case.inputs, view, replay=len(alternatives))
    reading.replay_override({site: alternatives})
    return reading.replayed


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
