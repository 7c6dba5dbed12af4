"""A report as plain values: one mapping for JSON, and one row for each instance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from faithattn.audits.pages.columns import PIECE, pieces
from faithattn.audits.pages.reported import Reported

SCHEMA_VERSION = 1
_UNKNOWN = {"label", "cluster", "predicted"}  # -1 where there is none


def as_dict(report: Reported) -> dict[str, Any]:
    """Everything but the single instances, ready for JSON.

    Args:
        report: The audit.

    Returns:
        Plain values; undefined numbers are None. ``schema_version`` counts up
        when a key changes its meaning.
    """
    found: dict[str, Any] = _without_nan(
        {
            "schema_version": SCHEMA_VERSION,
            "instances": len(report),
            "overall": report.overall,
            "verdicts": [asdict(each) for each in report.verdicts],
            "evidence": [asdict(each) for each in report.evidence],
            "failures": [asdict(each) for each in report.failures],
            "columns": list(report.columns),
            "provenance": report.provenance,
        }
    )
    return found


def records(report: Reported) -> Iterator[dict[str, float | int | bool | None]]:
    """One mapping for each instance, in order; undefined and unknown values are None.

    Args:
        report: The audit; its columns are read a piece at a time.
    """
    for row in rows(report):
        yield dict(zip(report.columns, row, strict=True))


def rows(report: Reported) -> Iterator[tuple[float | int | bool | None, ...]]:
    """The values of each instance, in the order of the columns.

    Args:
        report: The audit.
    """
    for piece in pieces(report, report.columns) if report.columns else ():
        # Lists of plain values are an order of magnitude faster than elements of arrays.
        for start in range(0, len(piece[0]), PIECE // 16):
            some = [values[start : start + PIECE // 16] for values in piece]
            lists = [
                _plain(values, name) for name, values in zip(report.columns, some, strict=True)
            ]
            yield from zip(*lists, strict=True)


def _plain(values: np.ndarray[Any, Any], name: str) -> list[Any]:
    """Values of one column as Python has them."""
    found = values.tolist()
    if values.dtype.kind == "f":
        return [None if math.isnan(each) else each for each in found]
    if name in _UNKNOWN:
        return [None if each == -1 else each for each in found]
    return list(found)


def _without_nan(value: Any) -> Any:
    """Nested plain values with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, np.generic):
        return _without_nan(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
