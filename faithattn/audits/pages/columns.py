"""Numbers of all instances, read a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.evidence import Evidence
from faithattn.audits.pages.reported import Reported
from faithattn.audits.part import keyed
from faithattn.statistics import null_band

PIECE = 65_536
_RANGE = re.compile(r"^\D*(\d+)(?:\D+(\d+))?\D*$")


def column_of(report: Reported, evidence: Evidence) -> str | None:
    """Name of the column whose mean the evidence states; None where there is none.

    Args:
        report: The audit.
        evidence: A metric under a view.
    """
    fields = {each.metric: each.field for each in report.headlines}
    name = keyed(f"{evidence.metric}.{fields.get(evidence.metric)}", evidence.view)
    return name if name in report.columns else None


def pieces(report: Reported, names: Sequence[str]) -> Iterator[list[NDArray[Any]]]:
    """Columns side by side, a piece of them at a time.

    Args:
        report: The audit.
        names: Names of columns.
    """
    columns = [report.column(name) for name in names]
    for start in range(0, len(report), PIECE):
        yield [np.asarray(each[start : start + PIECE]) for each in columns]


def counts_by_class(
    report: Reported, column: str, edges: NDArray[np.float64]
) -> Mapping[str, NDArray[np.int64]]:
    """Histograms of a column by predicted class, and of all instances first.

    Args:
        report: The audit.
        column: Name of the column.
        edges: Edges of the bins; what lies beyond counts in the last.

    Returns:
        By name of the class; ``"all"`` alone where there are no classes.
    """
    found: dict[str, NDArray[np.int64]] = {"all": np.zeros(len(edges) - 1, np.int64)}
    for values, predicted in pieces(report, [column, "predicted"]):
        known = ~np.isnan(values)
        kept = np.clip(values[known], edges[0], edges[-1])
        classes = predicted[known]
        found["all"] += np.histogram(kept, edges)[0]
        for each in np.unique(classes[classes >= 0]):
            counted = np.histogram(kept[classes == each], edges)[0]
            name = str(int(each))
            found[name] = found.get(name, np.zeros_like(counted)) + counted
    return dict(sorted(found.items(), key=lambda item: (item[0] != "all", len(item[0]), item[0])))


def ends_of(report: Reported, column: str) -> tuple[float, float] | None:
    """Smallest and largest number of a column; None where there is none.

    Args:
        report: The audit.
        column: Name of the column.
    """
    low, high = np.inf, -np.inf
    for (values,) in pieces(report, [column]):
        known = values[np.isfinite(values)]
        if len(known):
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    return None if low > high else (low, high)


def bands_by_length(report: Reported, evidence: Evidence) -> dict[str, tuple[float, float]]:
    """Where the mean tau of each group of lengths would lie if nothing were related.

    Args:
        report: The audit.
        evidence: A correlation with groups by length.

    Returns:
        By name of the group, 95 %; without groups whose range the name does not tell.
    """
    column = column_of(report, evidence)
    length = keyed("length", evidence.view)
    groups = evidence.groups.get("length", {})
    if column is None or length not in report.columns or not groups:
        return {}
    counts = np.zeros(1, np.int64)
    for values, lengths in pieces(report, [column, length]):
        found = np.bincount(lengths[~np.isnan(values)].astype(np.int64).clip(0))
        counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
        counts[: len(found)] += found
    bands = {}
    for name, statistics in groups.items():
        band = _band(name, counts, statistics.n - statistics.undefined)
        if band is not None:
            bands[name] = band
    return bands


def _band(name: str, counts: NDArray[np.int64], defined: int) -> tuple[float, float] | None:
    """The band of one group, where its name tells the lengths that it holds."""
    parsed = _RANGE.match(name)
    if parsed is None or defined == 0:
        return None
    low = int(parsed[1])
    open_end = name.rstrip().endswith("+") or "more" in name
    high = int(parsed[2]) if parsed[2] else (len(counts) if open_end else low)
    lengths = np.arange(len(counts))
    for last in (high, high - 1):  # whichever end the range is open at, the count decides
        chosen = (lengths >= low) & (lengths <= last) & (counts > 0)
        if int(counts[chosen].sum()) == defined:
            return null_band(np.repeat(lengths[chosen], counts[chosen]))
    return None
