"""What an experiment found, as rows of a table, and that table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from faithattn.pages.escaping import plain
from faithattn.pages.text import table_lines
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.comparable import published_class_of
from faithattn.paper.published import PublishedFigure
from faithattn.paper.report.facts import (
    facts,
    heading,
    notes,
    number,
    percent,
    shows_classes,
)
from faithattn.paper.report.finding_tables import finding_tables
from faithattn.paper.report.names import PAIR_NAMES
from faithattn.statistics import ATTENTION_BINS, Statistics, describe

_LN2 = f"{math.log(2):.3f}"
_SEARCHED = "the same divergence, by a better search: the published one stops at a local optimum"
_FARTHEST = {
    "exact": "the same divergence at its optimum, in closed form: no other attention is farther",
    "search": _SEARCHED,
    "mixed": f"{_SEARCHED}; the optimum itself in some batches",
}


@dataclass(frozen=True)
class TableRow:
    """One group of instances: its name, its statistics, the published ones if any."""

    name: str
    ours: Statistics
    published: PublishedFigure | None


@dataclass(frozen=True)
class Section:
    """One test: what it asks, how to read the number, and the rows."""

    title: str
    reading: str
    rows: tuple[TableRow, ...]


def sections(experiment: Experiment) -> list[Section]:
    """Returns the six parts of the table."""
    settings = experiment.settings
    tau = "Kendall tau: 1 = words in the same order of importance, 0 = unrelated, -1 = reversed"
    by_class = ", and of the last by class" if shows_classes(experiment) else ""
    return [
        Section("Attention against gradients", tau, _rows(experiment, "gradient_correlation")),
        Section("Attention against leave-one-out", tau, _rows(experiment, "loo_correlation")),
        Section(
            "Do the three rankings agree?",
            f"Kendall tau of each pair{by_class}: how far the two importance scores agree is a "
            "yardstick, as more cannot be asked of attention",
            _agreement_rows(experiment),
        ),
        Section(
            f"Attention shuffled {settings.permutations} times",
            "median change of the output (TVD, 0 to 1): near 0, it is not where attention points "
            "that matters",
            _rows(experiment, "permutation_test") + _attention_rows(experiment),
        ),
        Section(
            f"Other attention, same output (within {settings.epsilon:g})",
            f"largest divergence found (JSD, 0 to {_LN2}): near {_LN2}, looking at quite other "
            "words would have done",
            _rows(experiment, "adversarial_attention"),
        ),
        Section(
            f"The farthest attention, same output (within {settings.epsilon:g})",
            _FARTHEST[experiment.farthest.method],
            _rows(experiment, "farthest_attention"),
        ),
    ]


def text_table(experiment: Experiment) -> str:
    """Returns the table for a terminal, 100 columns wide at most."""
    lines = [heading(experiment), *(part for fact in facts(experiment) for part in _wrap(fact)), ""]
    every = sections(experiment)
    for section in every:
        lines += [section.title, *_wrap(section.reading, indent="  "), *_lines(section), ""]
    for found in finding_tables(experiment):
        lines += [found.title, *_wrap(found.reading, indent="  ")]
        lines += [f"  {line}".rstrip() for line in table_lines(found.table, 98)]
        lines.append("")
    said = notes(experiment, published=has_published(every))
    return "\n".join(lines + [part for note in said for part in _wrap(note)])


def has_published(every: list[Section]) -> bool:
    """Returns whether any row has a published figure."""
    return any(row.published for section in every for row in section.rows)


def published_text(figure: PublishedFigure | None) -> str:
    """Returns a published figure in a few characters."""
    if figure is None:
        return ""
    if math.isnan(figure.mean):
        if math.isnan(figure.median):
            return "" if math.isnan(figure.significant) else f"p<=.05 {figure.significant:.0%}"
        return f"median ~{figure.median:.3f}"
    if figure.approximate:
        return f"mean ~{figure.mean:.3f}"
    return f"{figure.mean:.3f} +- {figure.std:.3f} {percent(figure.significant):>5}"


def cells(row: TableRow) -> list[str]:
    """Returns the columns of a row, after its name."""
    ours = row.ours
    spread = "" if math.isnan(ours.std) else f" +- {ours.std:.3f}"
    interval = "-" if math.isnan(ours.low) else f"{ours.low:.2f}..{ours.high:.2f}"
    return [
        f"{ours.n:,}",
        f"{ours.undefined:,}",
        number(ours.mean) + spread,
        interval,
        number(ours.median),
        _significance(ours),
        published_text(row.published),
    ]


COLUMNS = ("n", "undef.", "mean +- std", "interval", "median", "p<=.05", "published")
_WIDTHS = (7, 7, 16, 13, 8, 7, 22)
_NAME = 100 - sum(_WIDTHS)


def _rows(experiment: Experiment, measure: str) -> tuple[TableRow, ...]:
    """Returns all instances, then each predicted class."""
    overall = experiment.summaries[measure].overall
    first = TableRow("all", overall, experiment.published(measure))
    return (first, *_predicted_rows(experiment, measure))


def _predicted_rows(experiment: Experiment, measure: str) -> Iterator[TableRow]:
    """Yields each predicted class, unless there are many."""
    if not shows_classes(experiment):
        return
    for place, statistics in experiment.summaries[measure].by_predicted.items():
        name = f"-> {experiment.dataset.labels[place]}"
        group = published_class_of(experiment.dataset, place)
        yield TableRow(name, statistics, experiment.published(measure, group))


def _agreement_rows(experiment: Experiment) -> tuple[TableRow, ...]:
    """Returns the three pairs, then the two importance scores by predicted class."""
    own = ("gradient_correlation", "loo_correlation", "gradient_loo")
    rows = [
        TableRow(name, experiment.summaries[measure].overall, experiment.published(pair))
        for (pair, name), measure in zip(PAIR_NAMES.items(), own, strict=True)
    ]
    return (*rows, *_predicted_rows(experiment, "gradient_loo"))


def _attention_rows(experiment: Experiment) -> tuple[TableRow, ...]:
    """Returns the permutation test by maximum attention, and class where published so."""
    summary, rows = experiment.summaries["permutation_test"], []
    for name, statistics in summary.by_max_attention.items():
        if not statistics.n:
            continue
        figure = experiment.published("permutation_test", name)
        rows.append(TableRow(f"max {name}", statistics, figure))
        if figure is None and experiment.published_name:
            rows += _class_rows(experiment, name)
    return tuple(rows)


def _class_rows(experiment: Experiment, name: str) -> Iterator[TableRow]:
    """Yields one range of maximum attention by predicted class."""
    result = experiment.permutation
    place = (result.max_attention * 4).floor().clamp(0, 3)
    for label in experiment.summaries["permutation_test"].by_predicted:
        chosen = (place == ATTENTION_BINS.index(name)) & (result.predicted == label)
        group = published_class_of(experiment.dataset, label)
        if not group or not chosen.any():
            continue
        figure = experiment.published("permutation_test", f"{name} class {group}")
        if figure is not None:
            values = result.median_tvd[chosen].double().numpy()
            statistics = describe(values, result.pvalue[chosen].double().numpy())
            yield TableRow(f"{name} -> {experiment.dataset.labels[label]}", statistics, figure)


def _significance(ours: Statistics) -> str:
    """Returns the share of small p-values; nothing where there are none."""
    share = math.nan if ours.significant is None else ours.significant
    return "" if math.isnan(share) else percent(share)


def _lines(section: Section) -> list[str]:
    """Returns rows with their columns under the header's, up to the last that says something."""
    rows = [cells(row) for row in section.rows]
    kept = max(place for row in rows for place, cell in enumerate(row) if cell) + 1
    names = ["", *(f"  {plain(row.name, _NAME - 2)}" for row in section.rows)]
    return [
        name.ljust(_NAME)
        + "".join(f"{cell:>{width}}" for cell, width in zip(row[:kept], _WIDTHS, strict=False))
        for name, row in zip(names, [COLUMNS, *rows], strict=True)
    ]


def _wrap(text: str, indent: str = "", width: int = 100) -> list[str]:
    """Breaks a line that is too long."""
    lines = [indent]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append(indent)
        lines[-1] += word if lines[-1] == indent else f" {word}"
    return lines
