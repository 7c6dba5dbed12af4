"""The page of an audit: conclusion first, then what it rests on, then where to look closer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from faithattn.audits.pages.definitions import STATISTICS
from faithattn.audits.pages.explorer import explorer
from faithattn.audits.pages.figures import figures
from faithattn.audits.pages.reported import Reported
from faithattn.audits.pages.tables import cautions, evidence_tables, failure_table, verdict_parts
from faithattn.pages.document import (
    Bullets,
    Callout,
    Document,
    Facts,
    Paragraph,
    Part,
    Section,
    Table,
)

INSTANCES = 36


def document_of(report: Reported, *, instances: int = INSTANCES) -> Document:
    """The document of an audit, to be rendered as HTML, Markdown or text.

    Args:
        report: The audit.
        instances: How many instances to show word by word, of those that tell most.

    Returns:
        Its conclusion, verdicts, evidence, figures, instances, failures,
        provenance, and what the numbers mean.
    """
    shown = explorer(report, instances)
    parts = [
        Section("Verdicts", tuple(verdict_parts(report.verdicts))),
        Section("Evidence", (*evidence_tables(report.evidence), *cautions(report.evidence))),
        Section("Figures", tuple(figures(report))),
    ]
    if shown is not None:
        lead = (
            f"{len(shown.specimens)} of {len(report):,} instances, chosen because they tell most, "
            "not because they are typical. The stronger the colour, the larger the number."
        )
        parts.append(Section("Instances", (Paragraph(lead), shown)))
    parts.append(Section("Failures", tuple(_failures(report))))
    parts.append(Section("How it was made", (Facts(tuple(_facts(report.provenance))),)))
    parts.append(Section("What the numbers mean", tuple(_meanings(report))))
    return Document(_title(report), report.overall, tuple(parts))


def summary_of(report: Reported) -> Document:
    """What a terminal shows of an audit: the conclusion, the verdicts, the evidence.

    Rules, and tables of many lines, are left to the page.

    Args:
        report: The audit.
    """
    verdicts = (
        replace(part, rule="") if isinstance(part, Callout) else part
        for part in verdict_parts(report.verdicts)
        if not isinstance(part, Bullets)
    )
    every = [*verdicts, *evidence_tables(report.evidence), *cautions(report.evidence)]
    parts: list[Part] = [part for part in every if not (isinstance(part, Table) and part.folded)]
    if report.failures:
        parts += _failures(report)
    return Document(_title(report), report.overall, tuple(parts))


def _title(report: Reported) -> str:
    """The question, with the name of the model where it is known."""
    model = report.provenance.get("model")
    name = model.get("class") if isinstance(model, Mapping) else model
    subject = name.rpartition(".")[2] if isinstance(name, str) and name else "this model"
    return f"Does attention explain {subject}?"


def _failures(report: Reported) -> Iterator[Part]:
    """What failed, or that nothing did."""
    if not report.failures:
        yield Paragraph("No metric failed on any batch.")
        return
    yield Paragraph(
        f"Failures of a metric on a batch: {len(report.failures):,}. Its instances count as "
        "undefined."
    )
    yield failure_table(report.failures)


def _facts(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, those of mappings within as ``outer: inner``."""
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
            yield from _facts(value, f"{name}: ")
        else:
            yield name, _said(value)


def _said(value: Any) -> str:
    """A value of the provenance in words."""
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return str(value)


def _meanings(report: Reported) -> Iterator[Part]:
    """Definitions of what was measured, and whom to cite."""
    said = [
        (each.title, f"{each.question} {each.sentence}")
        for each in report.headlines
        if each.sentence
    ]
    yield Facts((*said, *STATISTICS.items()))
    cited = dict.fromkeys(each.source for each in report.headlines if each.source)
    if cited:
        yield Paragraph("If you use these numbers, cite the works that proposed the tests:")
        yield Bullets(tuple(cited))
    yield Paragraph(
        "Quote a mean with its interval, the number of instances, how many were undefined, and "
        "the band or control it is to be compared with. The tests ask whether attention agrees "
        "with how this model uses its inputs, on these data; none of them asks whether people "
        "find it convincing."
    )
