"""An experiment as a document: the page and the summary say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from faithattn.pages.document import Bullets, Document, Facts, Paragraph, Part, Table
from faithattn.pages.document import Section as Chapter
from faithattn.paper.experiment import Experiment
from faithattn.paper.report.charts import charts
from faithattn.paper.report.facts import facts, heading, notes
from faithattn.paper.report.finding_charts import finding_charts
from faithattn.paper.report.finding_tables import FindingTable, finding_tables
from faithattn.paper.report.tables import COLUMNS, Section, cells, has_published, sections
from faithattn.paper.report.telling import explorer

_FILES = (
    ("report.html", "this page, with every figure and single texts"),
    ("summary.md", "the same as Markdown"),
    (
        "results.json",
        "settings, versions, seeds, data counts, every mean with its interval, by predicted class "
        "and by maximum attention, and the published figures with their source",
    ),
    (
        "instances.csv",
        "one row per tested instance: every tau, p-value, output change and divergence",
    ),
    ("model.npz", "the trained model; --checkpoint model.npz tests it again without training"),
    ("figures/", "the figures above as SVG"),
)


def document_of(experiment: Experiment) -> Document:
    """The document of an experiment, to be rendered as HTML, Markdown or text.

    Args:
        experiment: What to describe.
    """
    every = sections(experiment)
    parts: list[Part] = [_chapter(section) for section in every]
    parts += map(_finding, finding_tables(experiment))
    said = notes(experiment, published=has_published(every))
    parts.append(Chapter("How to read it", (Bullets(tuple(map(_sign, said))),)))
    parts.append(Chapter("Figures", charts(experiment) + finding_charts(experiment)))
    parts.append(Chapter("Texts, word by word", tuple(_texts(experiment))))
    parts += _training(experiment)
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in experiment.seconds.items())
    parts.append(Chapter("Files", (Facts(_FILES), Paragraph(f"Time: {times}."))))
    return Document(heading(experiment), " ".join(facts(experiment)), tuple(parts))


def _chapter(section: Section) -> Chapter:
    """One test with its table, without columns that say nothing."""
    rows = [tuple(map(_sign, (row.name, *cells(row)))) for row in section.rows]
    columns = ("", *(_sign(column) for column in COLUMNS))
    kept = [place for place in range(len(columns)) if any(row[place].strip() for row in rows)]
    table = Table(
        "Statistics by group of instances",
        tuple(columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in rows),
    )
    reading = f"{section.reading[:1].upper()}{section.reading[1:]}."
    return Chapter(section.title, (Paragraph(reading), table))


def _finding(found: FindingTable) -> Chapter:
    """What else was asked, with its table."""
    table = found.table
    signed = replace(
        table,
        columns=tuple(map(_sign, table.columns)),
        rows=tuple(tuple(map(_sign, row)) for row in table.rows),
    )
    return Chapter(found.title, (Paragraph(_sign(found.reading)), signed))


def _sign(text: str) -> str:
    """Text with signs that a terminal may not have."""
    return text.replace("+-", "±").replace("->", "→").replace("<=", "≤")


def _texts(experiment: Experiment) -> Iterator[Part]:
    """The most telling texts."""
    found = explorer(experiment)
    if found is None:
        yield Paragraph("No instance has other attention that keeps the output.")
        return
    yield Paragraph(
        "Attention of the model, and other attention that gives the same output, for instances "
        "where the model's attention is strong and the other very different. The stronger the "
        "colour, the larger the number."
    )
    yield found


def _training(experiment: Experiment) -> Iterator[Part]:
    """The course of training."""
    record = experiment.record
    if record is None:
        return
    scores = {
        "training loss": record.train_loss,
        "dev loss": record.dev_loss,
        "dev accuracy": record.dev_accuracy,
    }
    # What the best epoch was chosen by; records of earlier versions have none.
    if experiment.dataset.kind == "labels" and record.dev_f1:
        scores["dev macro F1"] = record.dev_f1
    rows = tuple(
        (
            f"{epoch + 1}{' (kept)' if epoch == record.best_epoch else ''}",
            *(f"{value:.3f}" for value in values),
        )
        for epoch, values in enumerate(zip(*scores.values(), strict=True))
    )
    yield Chapter("Training", (Table("Epochs", ("epoch", *scores), rows),))
