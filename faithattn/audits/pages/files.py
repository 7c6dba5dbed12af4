"""A report as files: HTML, Markdown, JSON, CSV and figures."""

from __future__ import annotations

import csv
import json
import os
from os import PathLike
from pathlib import Path

from faithattn.audits.pages.document import document_of
from faithattn.audits.pages.reported import Reported
from faithattn.audits.pages.schema import as_dict, rows
from faithattn.pages.files import prepare_folder, write_figures, write_text
from faithattn.pages.html import html
from faithattn.pages.markdown import markdown


def write_report(report: Reported, folder: str | PathLike[str]) -> list[Path]:
    """Writes ``report.html``, ``report.md``, ``report.json``, ``instances.csv`` and ``figures/``.

    Each file is replaced as a whole, and the instances are written a piece at
    a time, however many there are.

    Args:
        report: The audit.
        folder: Where to; made if need be.

    Returns:
        The files written, in that order.

    Raises:
        OSError: If one cannot be written.
    """
    target = prepare_folder(folder)
    document = document_of(report)
    data = json.dumps(as_dict(report), indent=2, ensure_ascii=False, allow_nan=False)
    return [
        write_text(target / "report.html", html(document)),
        write_text(target / "report.md", markdown(document, figures="figures")),
        write_text(target / "report.json", data + "\n"),
        write_instances(report, target / "instances.csv"),
        *write_figures(document, target / "figures"),
    ]


def write_instances(report: Reported, path: Path) -> Path:
    """Writes one line for each instance; undefined and unknown values are empty.

    Args:
        report: The audit.
        path: The file.

    Raises:
        OSError: If it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(report.columns)
            writer.writerows([_field(value) for value in row] for row in rows(report))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _field(value: float | int | bool | None) -> float | int | str | None:
    """What single precision needs of a number, and no more; True as 1."""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.9g}" if isinstance(value, float) else value
