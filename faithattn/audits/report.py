"""What an audit found: evidence, verdicts, every instance, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.arguments import as_folder, as_thresholds
from faithattn.audits.comparing import Changes, compare_reports
from faithattn.audits.evidence import Evidence, Failure, Instance, Verdict
from faithattn.audits.headlines import Headline, known_headlines
from faithattn.audits.pages import as_dict, document_of, records, summary_of, write_report
from faithattn.audits.part import keyed
from faithattn.audits.store import Store
from faithattn.audits.summing import Columns, all_evidence
from faithattn.audits.verdicts.judging import judge_all
from faithattn.audits.verdicts.summing import overall
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.pages.html.page import html
from faithattn.pages.markdown import markdown
from faithattn.pages.text import text
from faithattn.statistics import none_if_nan

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What an audit found.

    Attributes:
        store: The folder of the audit.
        thresholds: Where the verdicts draw their lines.

    Examples:
        >>> import torch
        >>> from faithattn import audit
        >>> from faithattn.paper.models import TextClassifier
        >>> batches = [torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])]
        >>> report = audit(TextClassifier(9), batches, metrics=["permutation_test"])
        >>> report.column("permutation_test.median_tvd").shape
        (2,)
        >>> report.verdicts[0].conclusion  # of two texts
        'cannot tell'
    """

    store: Store
    thresholds: Thresholds = field(default_factory=Thresholds)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, thresholds: Thresholds | None = None) -> Report:
        """Reads the report of an audit's folder, of one that is not finished too.

        Args:
            folder: The ``out`` of an audit.
            thresholds: Where the verdicts draw their lines; None for the calibrated ones.

        Raises:
            AuditError: If it is no such folder.
        """
        thresholds = as_thresholds(thresholds)
        return cls(Store.open(as_folder("folder", folder)), thresholds)

    def __repr__(self) -> str:
        state = "" if self.complete else ", not finished"
        return f"Report({len(self)} instances in {self.folder}{state})"

    def __len__(self) -> int:
        """Number of instances, those of failed batches among them."""
        return len(self._source("instance"))

    @property
    def folder(self) -> Path:
        """The folder of the audit."""
        return self.store.folder

    @property
    def complete(self) -> bool:
        """Whether every batch was measured."""
        return self.store.is_complete

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.store.columns)

    def column(self, name: str) -> NDArray[Any]:
        """One number of every instance, ``(N,)``, read from disk as it is used.

        Raises:
            KeyError: If there is no such column.
        """
        if name not in self.columns:
            raise KeyError(
                f"name must be one of {', '.join(self.columns)}; got {name!r}. See Report.columns."
            )
        return self._source(name)

    @cached_property
    def _source(self) -> Callable[[str], NDArray[Any]]:
        """Reads a column: from its file, or from the batches that there are so far."""
        return self.store.column if self.store.is_finished else _Unfinished(self.store)

    @cached_property
    def headlines(self) -> tuple[Headline, ...]:
        """The metrics that were asked, and what their numbers are."""
        settings = self.store.manifest.settings
        return known_headlines(settings["metrics"], settings["headlines"], self.columns)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; one empty name where there is only one."""
        names = tuple(self.store.manifest.settings["views"])
        return names if len(names) > 1 else ("",)

    def headline_values(self, metric: str, view: str = "") -> NDArray[Any]:
        """The number of each instance that a metric sums up, ``(N,)``."""
        (field_name,) = (each.field for each in self.headlines if each.metric == metric)
        return self.column(keyed(f"{metric}.{field_name}", view))

    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """What each metric found under each view."""
        columns = Columns(frozenset(self.columns), self._source)
        settings = self.store.manifest.settings
        return all_evidence(
            columns, self.headlines, self.views, self._failed, settings, self.store.notes()
        )

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What follows, for each metric and view."""
        return judge_all(self.evidence, self.thresholds)

    @cached_property
    def overall(self) -> str:
        """What follows from all of it, in plain words."""
        return overall(
            self.verdicts,
            self.evidence,
            self.thresholds,
            n=len(self),
            failures=self.failures,
        )

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """What failed, batch by batch."""
        return self.store.failures()

    @cached_property
    def _failed(self) -> Mapping[str, int]:
        """Instances of batches in which a metric failed, by key."""
        counts: dict[str, int] = {}
        for each in self.failures:
            size = each.instances[1] - each.instances[0] + 1
            keys = [each.metric] if each.metric else list(self._keys)
            for key in keys:
                counts[key] = counts.get(key, 0) + size
        return counts

    @property
    def _keys(self) -> Iterator[str]:
        for headline in self.headlines:
            for view in self.views:
                yield keyed(headline.metric, view)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """How it came about: versions, seed, digests, settings, time, counts."""
        manifest, seconds = self.store.manifest, self.store.seconds()
        return {
            "complete": self.complete,
            "instances": len(self),
            "batches": len(self.store.known()),
            "failed_batches": len({each.batch for each in self.failures}),
            "undefined": {
                keyed(each.metric, each.view): each.overall.undefined for each in self.evidence
            },
            "model": dict(manifest.model),
            "data_digest": self.data_digest,
            "settings": {
                key: value for key, value in manifest.settings.items() if key != "headlines"
            },
            "thresholds": self.thresholds.to_dict(),
            "versions": dict(manifest.versions),
            "run": self.store.notes(),
            "seconds": seconds | {"all": sum(seconds.values())},
        }

    @property
    def data_digest(self) -> str:
        """Digest of all batches; empty where they were not all seen."""
        end = self.store.known_end()
        return "" if end is None else end.digest

    @cached_property
    def clusters(self) -> NDArray[np.int64] | None:
        """What instances have in common, ``(N,)``; None where they have nothing."""
        found = self.column("cluster")
        return None if (found < 0).all() else np.asarray(found)

    def instances(self, numbers: Sequence[int]) -> list[Instance]:
        """Instances by their ids, with the scores of their positions where these were kept."""
        return [self._instance(int(number)) for number in numbers]

    def _instance(self, number: int) -> Instance:
        batch, row = self._locate(number)
        part = self.store.part(batch)
        scores = {
            name: tuple(float(value) for value in ragged[row])
            for name, ragged in part.positions.items()
        }
        length = max((len(each) for each in scores.values()), default=0)
        tokens = tuple(map(str, range(length))) if part.tokens is None else part.tokens[row]
        values = {name: _plain(column[row]) for name, column in part.columns.items()}
        return Instance(number, tokens, scores, values)

    def _locate(self, number: int) -> tuple[int, int]:
        """The batch of an instance, and its row there."""
        if self.store.is_finished:
            return self.store.locate(number)
        places = np.flatnonzero(self.column("instance") == number)
        if not len(places):
            raise ValueError(
                f"numbers must be ids of instances that were measured; got {number}, which was "
                "not yet. Run the same audit again."
            )
        batches = self.column("batch")
        batch = batches[places[0]]
        return int(batch), int(places[0] - np.flatnonzero(batches == batch)[0])

    def telling(self, count: int) -> list[int]:
        """Ids of instances worth a look: half where attention is strong and yet could differ.

        The others are spread evenly over the data.
        """
        view = self.views[0]
        score = np.zeros(len(self))
        highest = keyed("max_attention", view)
        if highest in self.columns:
            lengths = np.asarray(self.column(keyed("length", view)))
            score = np.nan_to_num(self.column(highest)) - 1 / np.maximum(lengths, 1)
        farthest = keyed("adversarial_attention.max_jsd", view)
        if farthest in self.columns:
            score = score * np.nan_to_num(self.column(farthest))
        strong = np.argsort(-score, kind="stable")[: (count + 1) // 2].tolist()
        even = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist()
        ids = self.column("instance")
        places = list(dict.fromkeys([*strong, *even]))[: min(count, len(self))]
        return [int(ids[place]) for place in places]

    def records(self) -> Iterator[dict[str, float | int | bool | None]]:
        """One mapping an instance with every column; undefined numbers are None."""
        return records(self)

    def to_pandas(self) -> pd.DataFrame:
        """One row an instance, as a DataFrame; needs pandas.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_pandas() must have pandas; got none installed. Install it, or use records()."
            ) from error
        frame = pd.DataFrame({name: np.asarray(self.column(name)) for name in self.columns})
        return frame.set_index("instance")

    def compare(self, other: Report) -> Changes:
        """How another audit differs from this one, by paired bootstrap where the data are the same.

        Args:
            other: The report to compare: its means less those of this one.

        Raises:
            AuditError: If they have no metric in common.
            TypeError: If it is no report.
        """
        if not isinstance(other, Report):
            raise TypeError(
                f"other must be a Report; got {type(other).__name__}. Read a folder with "
                "Report.open(folder)."
            )
        return compare_reports(self, other)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single instances, ready for JSON; see docs/report.md."""
        return as_dict(self)

    def html(self) -> str:
        """One page that needs nothing else: verdicts, evidence, figures, instances, provenance."""
        return html(document_of(self))

    def markdown(self) -> str:
        """The same page as Markdown, without instances."""
        return markdown(document_of(self))

    def __str__(self) -> str:
        return text(summary_of(self))

    def write(self, folder: str | PathLike[str]) -> list[Path]:
        """Writes the page, the same as Markdown, JSON, every instance as CSV, and the figures.

        Args:
            folder: Where to; made if need be.

        Returns:
            The files, the page first.

        Raises:
            OSError: If a file cannot be written.
        """
        return write_report(self, folder)


class _Unfinished:
    """Columns of the batches that there are so far, in memory: an audit that is not finished."""

    def __init__(self, store: Store) -> None:
        parts = [store.part(number).columns for number in store.known()]
        self.columns = {
            name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0, dtype)
            for name, dtype in store.manifest.columns
        }

    def __call__(self, name: str) -> NDArray[Any]:
        return self.columns[name]


def _plain(value: Any) -> float | int | bool | None:
    found: float | int | bool = value.item()
    return none_if_nan(found) if isinstance(found, float) else found
