"""What an experiment found, as rows of a table, and that table for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from faithattn.pages.escaping import plain
from faithattn.paper.experiment import Experiment
from faithattn.paper.published import PublishedFigure
from faithattn.paper.report.names import ATTENTION_NAMES, ENCODER_NAMES
from faithattn.statistics import ATTENTION_BINS, Statistics, describe, null_spread

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
    return [
        Section("Attention against gradients", tau, _rows(experiment, "gradient_correlation")),
        Section("Attention against leave-one-out", tau, _rows(experiment, "loo_correlation")),
        Section(
            "Gradients against leave-one-out",
            "Kendall tau of the two importance scores: a yardstick for the two parts above",
            _rows(experiment, "gradient_loo"),
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


def heading(experiment: Experiment) -> str:
    """Returns what was run, in a line."""
    settings = experiment.settings
    return (
        f"{plain(experiment.dataset.name, 28)}: {ENCODER_NAMES[settings.encoder or 'bilstm']} "
        f"encoder, {ATTENTION_NAMES[settings.attention or 'additive']} attention, "
        f"seed {settings.seed}"
    )


def facts(experiment: Experiment) -> list[str]:
    """Returns what one must know before reading the table."""
    test, tested = experiment.test, len(experiment.instances)
    which = "all of them" if tested == test.n else f"{tested:,} of them{_selection(experiment)}"
    lines = [
        f"Accuracy {test.accuracy:.3f} on {test.n:,} test examples; the four tests ran on {which}."
    ]
    labels = Counter(example.label for example in experiment.dataset.test)
    majority, count = labels.most_common(1)[0]
    if test.accuracy <= count / test.n + 0.05:
        lines.append(
            f"Always answering {plain(experiment.dataset.labels[majority], 24)!r} would give "
            f"{count / test.n:.3f}: this model has learned little, and so tells little."
        )
    length = median_length(experiment)
    lines.append(
        f"Half the tested texts have {length:g} words or fewer; at that length, the tau of "
        f"unrelated scores spreads by {_number(null_spread(length))} around 0."
    )
    return lines


def _selection(experiment: Experiment) -> str:
    """Says how the tested instances were chosen."""
    settings = experiment.settings
    least = settings.minimum_words
    words = f", those of {least} words or more" if least > 1 else ""
    return words + (", drawn at random" if settings.instances is not None else "")


def notes(experiment: Experiment) -> list[str]:
    """Returns what one must know to read the table rightly."""
    lines = [
        "-> X: instances predicted as X. max: range of the largest attention weight. interval: "
        "95 % bootstrap interval of the mean. undef.: instances without a value (one word, or all "
        "scores equal), not in the mean. p<=.05: share of instances, uncorrected; for shuffles, "
        "those the model is unusually sure of with its own attention."
    ]
    found = experiment.adversarial.summary().notes["instances without a feasible adversary"]
    lines.append(
        f"Instances for which no other attention kept the output: {found:.0f}; they count as 0."
    )
    if experiment.evidence is not None:
        shares = [float(part.nanmean()) for part in experiment.evidence]
        lines.append(
            f"The supporting sentences are {shares[3]:.0%} of the words and get {shares[0]:.0%} of "
            f"the attention, {shares[1]:.0%} of the gradients, {shares[2]:.0%} of leave-one-out."
        )
    if any(row.published for section in sections(experiment) for row in section.rows):
        lines.append(
            "published: Jain & Wallace 2019; ~ was read off a drawing. Published means depend on "
            "details of training (vectors, epoch, seed): compare the order of models and the "
            "spread, not the third digit."
        )
    return lines


def text_table(experiment: Experiment) -> str:
    """Returns the table for a terminal, 100 columns wide at most."""
    lines = [heading(experiment), *(part for fact in facts(experiment) for part in _wrap(fact)), ""]
    for section in sections(experiment):
        lines += [section.title, *_wrap(section.reading, indent="  "), _HEADER]
        lines += [_line(row) for row in section.rows]
        lines.append("")
    return "\n".join(lines + [part for note in notes(experiment) for part in _wrap(note)])


def median_length(experiment: Experiment) -> float:
    """Returns the median number of words of the tested instances."""
    return float(experiment.gradient.mask.sum(1).double().quantile(0.5))


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
    return f"{figure.mean:.3f} +- {figure.std:.3f} {_percent(figure.significant):>5}"


def cells(row: TableRow) -> list[str]:
    """Returns the columns of a row, after its name."""
    ours = row.ours
    spread = "" if math.isnan(ours.std) else f" +- {ours.std:.3f}"
    interval = "-" if math.isnan(ours.low) else f"{ours.low:.2f}..{ours.high:.2f}"
    return [
        f"{ours.n:,}",
        f"{ours.undefined:,}",
        _number(ours.mean) + spread,
        interval,
        _number(ours.median),
        "" if ours.significant is None else _percent(ours.significant),
        published_text(row.published),
    ]


COLUMNS = ("n", "undef.", "mean +- std", "interval", "median", "p<=.05", "published")
_WIDTHS = (7, 7, 16, 13, 8, 7, 22)
_NAME = 100 - sum(_WIDTHS)


def _rows(experiment: Experiment, measure: str) -> tuple[TableRow, ...]:
    """Returns all instances, then each predicted class."""
    summary = experiment.summaries[measure]
    rows = [TableRow("all", summary.overall, experiment.published(measure))]
    for number, statistics in summary.by_predicted.items():
        name = f"-> {experiment.dataset.labels[number]}"
        # Entities are numbered differently in the published bAbI tables, classes of texts are not.
        group = "" if experiment.examples[0].question else str(number)
        rows.append(TableRow(name, statistics, experiment.published(measure, group)))
    return tuple(rows)


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
    for number in experiment.summaries["permutation_test"].by_predicted:
        chosen = (place == ATTENTION_BINS.index(name)) & (result.predicted == number)
        figure = experiment.published("permutation_test", f"{name} class {number}")
        if chosen.any() and figure is not None:
            values = result.median_tvd[chosen].double().numpy()
            statistics = describe(values, result.pvalue[chosen].double().numpy())
            label = experiment.dataset.labels[number]
            yield TableRow(f"{name} -> {label}", statistics, figure)


def _line(row: TableRow) -> str:
    """Returns a row with its columns under the header's."""
    columns = [f"{cell:>{width}}" for cell, width in zip(cells(row), _WIDTHS, strict=True)]
    return (f"  {plain(row.name, _NAME - 2)}".ljust(_NAME) + "".join(columns)).rstrip()


def _wrap(text: str, indent: str = "", width: int = 100) -> list[str]:
    """Breaks a line that is too long."""
    lines = [indent]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append(indent)
        lines[-1] += word if lines[-1] == indent else f" {word}"
    return lines


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


_HEADER = " " * _NAME + "".join(
    f"{name:>{width}}" for name, width in zip(COLUMNS, _WIDTHS, strict=True)
)
