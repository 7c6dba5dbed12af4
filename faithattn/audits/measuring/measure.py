"""measure(): one batch in, one part out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from faithattn._checks import require_tensor
from faithattn.adapters.reading import Reading, as_adapter
from faithattn.adapters.several import grouped
from faithattn.adapters.view import AttentionView
from faithattn.audits.batch import Batch
from faithattn.audits.measuring.asked import Asked
from faithattn.audits.measuring.correlations import agreement
from faithattn.audits.measuring.known import clusters_of, labels_of, texts_of
from faithattn.audits.measuring.metrics import BOOL, CEILING, INT, METRICS
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.measuring.scores import score
from faithattn.audits.measuring.shared import Memory, Shared
from faithattn.audits.measuring.subject import Subject, Values
from faithattn.audits.part import Column, Part, Ragged
from faithattn.errors import reason_of
from faithattn.measures.draws import instance_ids
from faithattn.metrics.scores.people import marked


def measure(
    model: object,
    batch: Batch,
    instances: Tensor,
    plan: Plan,
    *,
    number: int = 0,
    record: bool = False,
) -> Part:
    """Measures one batch.

    Metrics share what they can: one run for all that changes attention or
    inputs, one with gradients, one leave-one-out for each way of removing.
    Views of the same sites share these, and views of the same positions the
    removal of inputs. The numbers are those of the public functions, to the
    bit where these do the same run, else to float tolerance: a run that is
    recorded, or gone on from, rounds otherwise.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        batch: What is measured.
        instances: Ids ``(B,)`` of the instances, int64.
        plan: What is measured on it.
        number: Number of the batch, for its column.
        record: Whether a metric that fails is recorded, its columns without
            values; else it raises. A model that cannot be run raises.

    Returns:
        All columns of the plan, whatever failed.

    Raises:
        AdapterError: If the model cannot be read.
        ValueError: If what is known of the instances does not fit the inputs.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> batch = Batch(torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]]), labels=[1, 0])
        >>> part = measure(TextClassifier(9), batch, torch.arange(2), Plan.of())
        >>> len(part), part.columns["length"], part.positions["attention"][1].shape
        (2, array([3, 2]), (2,))
    """
    ids = require_tensor("instances", instances)
    work = _Work(plan, record)
    with torch.inference_mode(False):
        adapter, memory = as_adapter(model), Memory()
        for views in grouped(adapter, batch.inputs, plan.views):
            shared = Shared(adapter, batch.inputs, views, batch.target, plan.needs, memory)
            for name, view in views.items():
                work.measure(_subject(model, batch, ids, plan, shared, name, view))
        return work.part(batch, ids, number)


def _subject(
    model: object,
    batch: Batch,
    ids: Tensor,
    plan: Plan,
    shared: Shared,
    name: str,
    view: AttentionView | None,
) -> Subject:
    """The batch under a view; what comes with it goes to the model's device."""
    reading, people = shared.readings[name], batch.rationale
    mask = reading.rows.mask
    people = people.to(mask.device) if isinstance(people, Tensor) else people
    return Subject(
        model=model,
        inputs=batch.inputs,
        shared=shared,
        name=name,
        view=view,
        seed=plan.seed,
        ids=instance_ids(ids.to(mask.device), reading.outputs),
        target=batch.target,
        rationale=None if people is None else marked(people, mask),
        removal=plan.removal,
        controls=plan.controls,
    )


@dataclass
class _Work:
    """A part as it is filled."""

    plan: Plan
    record: bool
    values: Values = field(default_factory=dict)
    positions: dict[str, Ragged] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def measure(self, subject: Subject) -> None:
        """Measures a view by all metrics, and keeps what they found."""
        rows, name = subject.reading.rows, subject.name
        self.readings[name] = subject.reading
        length = rows.mask.sum(-1)
        own = {"length": length, "max_attention": rows.max_attention, "mass": rows.mean_mass}
        self.values |= {self.plan.key(each, name): value for each, value in own.items()}
        for asked in self.plan.asked:
            self._try(asked.metric, subject, asked)
        if self.plan.has_ceiling:
            self._try(CEILING, subject, None)
        subject.positions["attention"] = rows.explanation
        for key in self.plan.positions:
            each, _, _ = key.partition("@")
            if key == self.plan.key(each, name):
                self.positions[key] = _ragged(subject.positions.get(each), rows.mask)

    def _try(self, metric: str, subject: Subject, asked: Asked | None) -> None:
        """Keeps the values of a metric, or the reason why there are none; takes the time."""
        key = self.plan.key(metric, subject.name)
        try:
            found = agreement(subject) if asked is None else _measured(subject, asked)
            for each, value in found.items():
                self.values[self.plan.key(f"{metric}.{each}", subject.name)] = value
        except Exception as error:  # whatever a metric raises is the reason of empty columns
            if not self.record:
                raise
            self.failures[key] = reason_of(error)
        now = time.perf_counter()
        if asked is not None:
            self.seconds[key], self.since = now - self.since, now

    def part(self, batch: Batch, instances: Tensor, number: int) -> Part:
        """All that there is."""
        first = self.readings[next(iter(self.plan.views))]
        size = len(first.predicted)
        known = {
            "instance": instances.cpu().numpy().astype(np.int64),
            "batch": np.full(size, number, dtype=np.int64),
            "label": labels_of(batch.labels, size),
            "cluster": clusters_of(batch.clusters, size),
            "predicted": _column(first.predicted, INT, size),
        }
        columns = {
            key: known[key] if key in known else _column(self.values.get(key), kind, size)
            for key, kind in self.plan.columns
        }
        positions = {key: self.positions[key] for key in self.plan.positions}
        tokens = texts_of(batch.tokens, first) if positions else None
        notes = {
            self.plan.key(key, name): value
            for name, reading in self.readings.items()
            for key, value in (("output", reading.output), ("replay", reading.replayed))
        }
        return Part(columns, positions, tokens, self.failures, self.seconds, notes)


def _measured(subject: Subject, asked: Asked) -> Values:
    if asked.score is not None:
        return score(subject, asked.score)
    return METRICS[asked.metric].measure(subject, asked.options)


def _column(values: Tensor | None, kind: str, size: int) -> Column:
    """A column of its kind; without values nan, -1 or False."""
    if values is None:
        empty = {INT: -1, BOOL: False}.get(kind, np.nan)
        return np.full(size, empty, dtype=kind)
    plain = values.detach().cpu()
    plain = plain.double() if plain.is_floating_point() else plain  # bfloat16 is none of NumPy's
    return plain.numpy().astype(kind)


def _ragged(scores: Tensor | None, mask: Tensor) -> Ragged:
    """Scores ``(B, L)`` at the positions of a mask; nan where there are none."""
    flags = mask.cpu().numpy()
    offsets = np.concatenate([[0], flags.sum(1).cumsum()]).astype(np.int64)
    if scores is None:
        return Ragged(np.full(offsets[-1], np.nan, dtype=np.float32), offsets)
    return Ragged(scores.detach().float().cpu().numpy()[flags], offsets)
