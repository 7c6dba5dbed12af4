"""The summary of an experiment as a page to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faithattn.paper.experiment import Experiment
from faithattn.paper.report.figures import CAPTIONS
from faithattn.paper.report.names import plain
from faithattn.paper.report.tables import COLUMNS, Section, cells, facts, heading, notes, sections

_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~])")

_FILES = """## Files

| file | what it holds |
|---|---|
| `results.json` | settings, versions, seeds, data counts, every mean with its interval, by \
predicted class and by maximum attention, and the published figures with their source |
| `instances.csv` | one row per tested instance: every tau, p-value, output change and divergence |
| `model.npz` | the trained model; `--checkpoint model.npz` tests it again without training |
| `figures/` | the figures above as PNG and SVG |
"""


def markdown(experiment: Experiment, figures: Sequence[str]) -> str:
    """Returns the page.

    Args:
        experiment: What to describe.
        figures: Names of the image files in ``figures/``.
    """
    parts = [f"# {escaped(heading(experiment))}", escaped(" ".join(facts(experiment)))]
    parts += [_section(section) for section in sections(experiment)]
    parts.append("\n".join(f"- {escaped(note)}" for note in notes(experiment)))
    parts.append("## Figures")
    for name in figures:
        caption = CAPTIONS[name.removesuffix(".png")]
        parts.append(f"![{escaped(caption)}](figures/{name})\n\n{escaped(caption)}")
    parts += [_training(experiment), _times(experiment), _FILES]
    return "\n\n".join(part for part in parts if part)


def escaped(text: str) -> str:
    r"""Returns text that Markdown and HTML show as it is.

    Examples:
        >>> print(escaped("a|b <i> *c*"))
        a\|b \<i\> \*c\*
    """
    return _MARKS.sub(r"\\\1", plain(text)).replace("&", "&amp;")


def _section(section: Section) -> str:
    """Returns one test with its table."""
    lines = [
        f"## {escaped(section.title)}",
        "",
        f"{escaped(section.reading)}.",
        "",
        "| | " + " | ".join(_cell(column) for column in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for row in section.rows:
        columns = " | ".join(map(_cell, cells(row)))
        lines.append(f"| {escaped(row.name)} | {columns} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Returns one cell of a table, with a sign for what a terminal may not have."""
    return escaped(text).replace("+-", "±")


def _training(experiment: Experiment) -> str:
    """Returns the course of training."""
    record = experiment.record
    if record is None:
        return ""
    lines = ["## Training", "", "| epoch | training loss | dev loss | dev accuracy |"]
    lines.append("|---|---:|---:|---:|")
    every = zip(record.train_loss, record.dev_loss, record.dev_accuracy, strict=True)
    for epoch, (loss, dev_loss, accuracy) in enumerate(every):
        kept = " (kept)" if epoch == record.best_epoch else ""
        lines.append(f"| {epoch + 1}{kept} | {loss:.3f} | {dev_loss:.3f} | {accuracy:.3f} |")
    return "\n".join(lines)


def _times(experiment: Experiment) -> str:
    """Returns how long each step took."""
    each = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in experiment.seconds.items())
    return f"Time: {each}."
