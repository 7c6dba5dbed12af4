"""The figures of an audit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from faithattn.audits.evidence import Evidence
from faithattn.audits.headlines import HEADLINES, title_of
from faithattn.audits.pages.columns import bands_by_length, column_of, counts_by_class, ends_of
from faithattn.audits.pages.reported import Reported
from faithattn.audits.pages.tables import FEW, name_of
from faithattn.pages.charts.charts import grid_chart, row_chart
from faithattn.pages.charts.rows import Row, Style
from faithattn.pages.document import Chart, Part, Section
from faithattn.pages.escaping import slug
from faithattn.pages.numbers import digits_of, interval, number
from faithattn.statistics import Statistics

_MOST_ROWS, _MOST_CLASSES, _BINS = 40, 8, 40
_HEAD = re.compile(r"^layer (\d+), head (\d+)$")
_KINDS = {
    "predicted": "predicted {}",
    "label": "labelled {}",
    "length": "length {}",
    "max attention": "largest weight {}",
}


def figures(report: Reported) -> Iterator[Part]:
    """All metrics side by side, then each by groups; layers and heads where views are heads.

    Args:
        report: The audit.
    """
    evidence = report.evidence
    if len(evidence) <= _MOST_ROWS:
        yield from _intervals(evidence)
    yield from _heads(evidence)
    if len(evidence) > FEW:
        return
    for each in evidence:
        found = [chart for chart in (_histogram(report, each), _groups(report, each)) if chart]
        if found:
            yield Section(name_of(each.metric, each.view, each.quantity), tuple(found))


def _intervals(evidence: Sequence[Evidence]) -> Iterator[Chart]:
    """Means with intervals, those with the same axis in one chart."""
    if len({each.view for each in evidence}) > 1:
        yield from _by_view(evidence)
        return
    families: dict[str, list[Evidence]] = {}
    for each in evidence:
        families.setdefault(_axis_of(each), []).append(each)
    for axis, members in families.items():
        rows = [_overall_row(each) for each in members]
        ends = (-1.0, 1.0) if axis == _TAU else (0.0, 1.0) if axis == _SHARE else None
        style = Style(axis, within=ends, height=38.0)
        named, title = _NAMED.get(axis, (slug(axis), f"Means: {axis}"))
        yield row_chart(f"intervals-{named}", title, _what_intervals_show(members), rows, style)


_TAU, _SHARE = "Kendall tau", "TVD, JSD (in nats) or share, as the row says"
_NAMED = {
    _TAU: ("agreement", "Agreement of attention with importance"),
    _SHARE: ("effects", "Changes of the output, and distances"),
}


def _axis_of(each: Evidence) -> str:
    """What the axis of a metric is, the same for those that can share one."""
    known = HEADLINES.get(each.metric)
    if known is not None and known.correlation:
        return _TAU
    numbers = [each.overall.low, each.overall.high, each.overall.mean]
    numbers += [found.mean for found in each.controls.values()]
    within = all(0 <= value <= 1 for value in numbers if math.isfinite(value))
    return _SHARE if (known is not None and known.ends) or within else each.quantity


def _by_view(evidence: Sequence[Evidence]) -> Iterator[Chart]:
    """The means of each metric, a row for each view."""
    for metric in dict.fromkeys(each.metric for each in evidence):
        members = [each for each in evidence if each.metric == metric]
        rows = [replace(_overall_row(each), label=each.view) for each in members]
        axis = _axis_of(members[0])
        ends = (-1.0, 1.0) if axis == _TAU else (0.0, 1.0) if axis == _SHARE else None
        style = Style(members[0].quantity, within=ends, height=30.0)
        title = f"{title_of(metric, members[0].quantity)}, by attention"
        yield row_chart(
            f"views-{slug(metric)}", title, "Mean over the instances, with its 95 % interval.",
            rows, style,
        )  # fmt: skip


def _overall_row(each: Evidence) -> Row:
    """One metric over all instances."""
    marks = {name: found.mean for name, found in each.controls.items()}
    if each.ceiling is not None:
        marks["ceiling"] = each.ceiling.mean
    return Row(
        name_of(each.metric, each.view, each.quantity),
        _counted(each.overall),
        mean=each.overall.mean,
        interval=(each.overall.low, each.overall.high),
        band=each.null,
        marks=marks,
    )


def _what_intervals_show(members: Sequence[Evidence]) -> str:
    """The figure in words, for those who do not see it."""
    said = "; ".join(
        f"{name_of(each.metric, each.view, each.quantity)}: {_in_words(each.overall)}"
        for each in members[:FEW]
        if not math.isnan(each.overall.mean)
    )
    lead = "Mean over the instances, with its 95 % interval."
    return f"{lead} {said}." if said else lead


def _in_words(found: Statistics) -> str:
    """A mean with its interval, where it has one."""
    digits = digits_of(found.low, found.high, 2)
    mean = number(found.mean, digits)
    if math.isnan(found.low):
        return f"{mean} (no interval)"
    return f"{mean} ({interval(found.low, found.high, digits)})"


def _histogram(report: Reported, each: Evidence) -> Chart | None:
    """Instances by their number, for all and for each predicted class."""
    column = column_of(report, each)
    ends = None if column is None else ends_of(report, column)
    if column is None or ends is None:
        return None
    known = HEADLINES.get(each.metric)
    low, high = ends if known is None or known.ends is None else known.ends
    if known is not None and known.open_ended:
        high = max(high, ends[1])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    counts = dict(counts_by_class(report, column, edges))
    shown = counts if len(counts) <= _MOST_CLASSES + 1 else {"all": counts["all"]}
    if len(shown) == 2:  # the only class is all there is
        shown.pop("all")
    rows = [
        Row(
            "all" if name == "all" else f"predicted {name}",
            f"n = {int(found.sum()):,}",
            heights=tuple(map(float, found)),
        )
        for name, found in shown.items()
    ]
    return row_chart(
        f"histogram-{_file_name(each)}",
        "How the instances spread",
        "Each row is scaled to its own highest bar.",
        rows,
        Style(each.quantity, edges=tuple(edges.tolist()), height=64.0),
    )


def _groups(report: Reported, each: Evidence) -> Chart | None:
    """Statistics of every group of every kind."""
    bands = bands_by_length(report, each) if each.null is not None else {}
    rows = [
        _group_row(form.format(name), found, bands.get(name) if kind == "length" else None)
        for kind, form in _KINDS.items()
        for name, found in list(each.groups.get(kind, {}).items())[: 2 * _MOST_CLASSES]
        if found.n
    ]
    if not rows:
        return None
    rows = [_group_row("all", each.overall, each.null), *rows]
    return row_chart(
        f"groups-{_file_name(each)}",
        "By class, length and largest weight",
        "Bar: the middle half of the instances, with their median. Dot: the mean, with its "
        "interval.",
        rows,
        Style(each.quantity, within=(0.0, 0.0)),
    )


def _group_row(label: str, found: Statistics, band: tuple[float, float] | None) -> Row:
    """One group of instances."""
    return Row(
        label,
        _counted(found),
        mean=found.mean,
        interval=(found.low, found.high),
        quartiles=(found.q25, found.median, found.q75),
        band=band,
    )


def _heads(evidence: Sequence[Evidence]) -> Iterator[Chart]:
    """Layers by heads, for each metric whose views are all heads."""
    by_metric: dict[str, dict[tuple[int, int], Evidence]] = {}
    for each in evidence:
        parsed = _HEAD.match(each.view)
        if parsed is not None:
            place = int(parsed[1]), int(parsed[2])
            by_metric.setdefault(each.metric, {})[place] = each
    for metric, found in by_metric.items():
        layers = sorted({layer for layer, _ in found})
        heads = sorted({head for _, head in found})
        if len(found) < 2:
            continue
        values = [
            [
                found[layer, head].overall.mean if (layer, head) in found else math.nan
                for head in heads
            ]
            for layer in layers
        ]
        quantity = next(iter(found.values())).quantity
        yield grid_chart(
            f"heads-{slug(metric)}",
            f"{title_of(metric, quantity)}, by layer and head",
            "Mean over the instances. The stronger the colour, the larger the number.",
            values,
            rows=[f"layer {layer}" for layer in layers],
            columns=[f"{head}" for head in heads],
            quantity=f"{quantity}; a column for each head",
        )


def _counted(found: Statistics) -> str:
    """How many instances a row stands for."""
    if found.undefined == 0:
        return f"n = {found.n:,}"
    return f"{found.n - found.undefined:,} of {found.n:,}"


def _file_name(each: Evidence) -> str:
    return slug(f"{each.metric} {each.view}")
