"""One pass over the batches: the values of every metric, and what they are evidence of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faithattn.adapters.view import AttentionView, check_view
from faithattn.audits.batch import Batch
from faithattn.audits.evidence import Evidence, Instance
from faithattn.metrics.scores.question import Question
from faithattn.statistics import ATTENTION_BINS, describe, minimum_detectable_effect
from faithattn.testing.asked import Asked
from faithattn.testing.digests import add

Values = NDArray[np.float64]
Clusters = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Gathered:
    """What one pass over the data found.

    Attributes:
        evidence: By metric.
        values: One number an instance, by metric, ``(N,)``; nan where undefined.
        clusters: What instances have in common, ``(N,)``; None where unknown.
        look: The instances of given ids, to show them.
        data: Digest of the data, and how many instances and batches they are.
    """

    evidence: Mapping[str, Evidence]
    values: Mapping[str, Values]
    clusters: Clusters | None
    look: Callable[[Sequence[int]], Sequence[Instance]]
    data: Mapping[str, Any]


def gather(
    model: object,
    batches: Iterable[Any],
    asked: Mapping[str, Asked],
    *,
    view: AttentionView | None = None,
    seed: int = 0,
    prepare: Callable[[Any], Any] | None = None,
) -> Gathered:
    """Measures every metric on every batch; instances are numbered through from 0.

    Raises:
        TypeError: If the batches are no iterable of inputs.
        ValueError: If there is no instance.
    """
    check_view(view)
    _require_batches(batches)
    found = _Pass(list(asked))
    for given in batches:
        ready = given if prepare is None else prepare(given)
        batch = ready if isinstance(ready, Batch) else Batch(ready)
        found.take(model, batch, asked, view, seed)
    if not found.size:
        raise ValueError(
            "batches must hold at least one instance; got none. A generator is empty once it "
            "has been used: pass a list to use it again."
        )
    return found.gathered(asked)


def _require_batches(batches: object) -> None:
    if isinstance(batches, Tensor | Mapping | str | Batch) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches must be an iterable of inputs; got {type(batches).__name__}. "
            "Put a single one into a list: [inputs]."
        )


@dataclass
class _Pass:
    """The columns as they grow."""

    names: Sequence[str]
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    tokens: list[Sequence[str] | None] = field(default_factory=list)
    clusters: list[Any] = field(default_factory=list)
    size: int = 0
    batches: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def take(
        self,
        model: object,
        batch: Batch,
        asked: Mapping[str, Asked],
        view: AttentionView | None,
        seed: int,
    ) -> None:
        """Measures one batch."""
        asking = Question(model, batch.inputs, view=view, target=batch.target, seed=seed)
        reading = asking.reading
        count = len(reading.predicted)
        ids = torch.arange(self.size, self.size + count)
        question = Question(
            model,
            batch.inputs,
            view=view,
            target=batch.target,
            seed=seed,
            instances=ids,
            rationale=batch.rationale,
        )
        question.once("reading", lambda: reading)
        for name, one in asked.items():
            self._add(name, _measured(one, question))
        labels = torch.full((count,), -1) if batch.labels is None else torch.as_tensor(batch.labels)
        self._add("length", reading.rows.mask.sum(-1))
        self._add("max_attention", reading.rows.max_attention)
        self._add("predicted", reading.predicted)
        self._add("label", _one_each("labels", labels, count))
        known = list(batch.tokens) if batch.tokens is not None else [None] * count
        self.tokens += _one_each("tokens", known, count)
        common = batch.clusters.tolist() if isinstance(batch.clusters, Tensor) else batch.clusters
        if common is not None:
            self.clusters += _one_each("clusters", list(common), count)
        parts = (batch.inputs, batch.labels, common, batch.target, batch.rationale)
        add(self.digest, parts)
        self.size, self.batches = self.size + count, self.batches + 1
        if self.clusters and len(self.clusters) != self.size:
            raise ValueError(
                f"clusters must be given for every batch or for none; got {len(self.clusters)} "
                f"for {self.size} instances. Name them in each Batch."
            )

    def _add(self, name: str, values: Tensor) -> None:
        self.columns.setdefault(name, []).append(values.detach().double().cpu().numpy())

    def gathered(self, asked: Mapping[str, Asked]) -> Gathered:
        """All columns, described."""
        columns = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        clusters = None
        if self.clusters:
            numbers = {name: number for number, name in enumerate(dict.fromkeys(self.clusters))}
            clusters = np.array([numbers[each] for each in self.clusters])
        values = {name: columns[name] for name in asked}
        evidence = {name: _evidence(one, columns, clusters) for name, one in asked.items()}

        def look(numbers: Sequence[int]) -> list[Instance]:
            return [self._instance(number, columns) for number in numbers]

        data = {
            "digest": self.digest.hexdigest(),
            "instances": self.size,
            "batches": self.batches,
        }
        return Gathered(evidence, values, clusters, look, data)

    def _instance(self, number: int, columns: Mapping[str, Values]) -> Instance:
        tokens = self.tokens[number] or ()
        row = {name: float(column[number]) for name, column in columns.items()}
        values = {name: None if np.isnan(value) else value for name, value in row.items()}
        return Instance(number, tuple(tokens), {}, values)


def _measured(asked: Asked, question: Question) -> Tensor:
    """One number an instance."""
    if asked.score is not None:
        found = asked.score.compute(question)
    elif asked.function is not None:
        given = {
            "view": question.view,
            "target": question.target,
            "seed": question.seed,
            "instances": question.instances,
        }
        taken = asked.function.__kwdefaults__ or {}
        chosen = {name: value for name, value in given.items() if name in taken}
        result = asked.function(question.model, question.inputs, **chosen, **asked.options)
        found = getattr(result, asked.attribute)
        found = found[:, 0] if found.ndim == 2 else found  # by the first order
    values: Tensor = _one_each("values of a metric", found, len(question.reading.predicted))
    return values


def _one_each(name: str, values: Any, count: int) -> Any:
    if len(values) != count:
        raise ValueError(
            f"{name} must be one for each of the {count} instances of the batch; "
            f"got {len(values)}. Give one an instance."
        )
    return values


def _evidence(asked: Asked, columns: Mapping[str, Values], clusters: Clusters | None) -> Evidence:
    values = columns[asked.name]
    return Evidence(
        asked.name,
        "",
        asked.quantity,
        asked.larger_is_faithful,
        describe(values),
        {
            kind: {name: describe(values[chosen]) for name, chosen in groups.items()}
            for kind, groups in _groups(columns).items()
        },
        detectable=minimum_detectable_effect(values, clusters=clusters),
    )


def _groups(columns: Mapping[str, Values]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Who is in which group; kinds with a single group are left out."""
    kinds = {}
    for kind in ("predicted", "label"):
        classes = columns[kind].astype(int)
        kinds[kind] = {str(each): classes == each for each in np.unique(classes) if each >= 0}
    lengths = columns["length"]
    edges = np.unique(np.quantile(lengths, [0, 0.25, 0.5, 0.75], method="lower"))
    place = np.searchsorted(edges, lengths, side="right") - 1
    kinds["length"] = {}
    for number in range(len(edges)):
        inside = lengths[place == number]
        low, high = int(inside.min()), int(inside.max())
        kinds["length"][str(low) if low == high else f"{low} to {high}"] = place == number
    highest = np.clip(np.floor(np.nan_to_num(columns["max_attention"], nan=-1.0) * 4), -1, 3)
    kinds["max attention"] = {
        name: highest == number
        for number, name in enumerate(ATTENTION_BINS)
        if (highest == number).any()
    }
    return {kind: groups for kind, groups in kinds.items() if len(groups) > 1}
