"""The loop of an audit: every batch that is not finished yet, one at a time."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm import tqdm

from faithattn.audits.feeding import Numbered, Prepare, count_of, moved, numbered
from faithattn.audits.measuring.measure import measure
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.store import Store, digest_of_batch
from faithattn.audits.workers import Workers
from faithattn.errors import AdapterError, reason_of

_SAME_DATA = (
    "Every process must get all batches, in one order: use no DistributedSampler and no shuffling; "
    "the audit deals them."
)
_PAIRS = "Where a pair holds labels, pass prepare=lambda pair: Batch(pair[0], labels=pair[1])."
_LABELS = (
    "Where the model takes no {0}, pass prepare=lambda batch: Batch({{name: value for name, value "
    "in batch.items() if name != {0!r}}}, labels=batch[{0!r}])."
)


@dataclass(frozen=True)
class Running:
    """What stays the same over the batches of an audit.

    Attributes:
        model: The adapter.
        plan: What is asked.
        workers: Who shares the work.
        record: Whether what fails is recorded, rather than raised.
        device: Where inputs go; None where they are.
        progress: Whether a bar is shown.
    """

    model: Any
    plan: Plan
    workers: Workers
    record: bool
    device: torch.device | str | None
    progress: bool

    def over(self, batches: Iterable[Any], prepare: Prepare | None, store: Store) -> None:
        """Measures this worker's batches that are not in the store, and says when all were seen."""
        seen, instances, count = hashlib.sha256(), 0, 0
        with self._bar(count_of(batches)) as bar:
            for each in numbered(batches, prepare):
                digest = digest_of_batch(each.batch)
                seen.update(digest.encode())
                if each.number == 0:
                    self.workers.agree("batches", digest, _SAME_DATA)
                held = store.holds(each.number, digest, whole=not self.record)
                if self.workers.takes(each.number):
                    if not held:
                        self._finish(each, digest, store)
                    bar.update()
                instances, count = each.first + each.size, each.number + 1
                bar.set_postfix_str(f"{instances:,} instances", refresh=False)
        if count == 0:
            raise ValueError(
                "batches must hold at least one batch; got none. Pass some; a generator that was "
                "used is empty."
            )
        store.end(count, instances, seen.hexdigest())

    def _finish(self, each: Numbered, digest: str, store: Store) -> None:
        """Measures one batch and writes what came out."""
        try:
            with _labels_explained(each.batch.inputs):
                part = measure(
                    self.model,
                    moved(each.batch, self.device),
                    each.instances,
                    self.plan,
                    number=each.number,
                    record=self.record,
                )
        except Exception as error:  # whatever a model raises is the reason of empty columns
            if not self.record:
                raise
            store.fail(
                each.number,
                first=each.first,
                size=each.size,
                digest=digest,
                reason=reason_of(error),
            )
            return
        part = replace(part, notes={**part.notes, **_environment()})
        store.write(each.number, part, first=each.first, digest=digest)

    def _bar(self, batches: int | None) -> tqdm[Any]:
        """A bar over this worker's batches, with the time that is left."""
        workers = self.workers
        own = None if batches is None else len(range(workers.rank, batches, workers.count))
        return tqdm(
            total=own,
            desc="audit" if workers.count == 1 else f"audit, worker {workers.rank}",
            unit="batch",
            disable=not self.progress,
            position=workers.rank if workers.group is not None else 0,
        )


@contextmanager
def _labels_explained(inputs: object) -> Iterator[None]:
    """Says how to pass labels where a loader yields them beside the inputs."""
    try:
        yield
    except (AdapterError, TypeError) as error:
        remedy = ""
        if isinstance(inputs, tuple | list) and len(inputs) == 2:
            remedy = _PAIRS
        elif isinstance(inputs, Mapping):
            named = (name for name in ("labels", "label") if name in inputs)
            remedy = next((_LABELS.format(name) for name in named), "")
        if remedy:
            raise type(error)(f"{error} {remedy}") from error
        raise


def _environment() -> dict[str, str]:
    """What the last digits may depend on besides the versions of packages."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
