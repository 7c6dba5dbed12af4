"""Rows along one axis: intervals, spreads and histograms, beside bands and marks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from faithattn.pages.charts.marks import SHAPES, legend, mark
from faithattn.pages.charts.scale import Scale, limits
from faithattn.pages.charts.svg import drawing, element, line_of_text, shortened, text_width
from faithattn.pages.numbers import typeset

WIDTH = 760.0
_LABEL, _NOTE = 270.0, 130.0  # most of the width that labels and notes may take
_MARGIN, _AXIS = 10.0, 46.0


@dataclass(frozen=True)
class Row:
    """What is drawn in one row; what is left out is not drawn.

    Attributes:
        label: Name of the row.
        note: A few characters at its end, such as the number of instances.
        mean: Mean.
        interval: Interval of the mean.
        quartiles: Lower quartile, median, upper quartile.
        band: Where the mean would lie if there were nothing to find.
        marks: Other numbers by kind: ``"random"``, ``"uniform"``,
            ``"ceiling"``, ``"published"``.
        heights: Heights of a histogram or outline, over the edges of the chart.
    """

    label: str
    note: str = ""
    mean: float = math.nan
    interval: tuple[float, float] | None = None
    quartiles: tuple[float, float, float] | None = None
    band: tuple[float, float] | None = None
    marks: Mapping[str, float] = field(default_factory=dict)
    heights: tuple[float, ...] = ()

    @property
    def numbers(self) -> list[float]:
        """All that must have room on the axis."""
        spread = (self.interval or ()) + (self.quartiles or ()) + (self.band or ())
        return [self.mean, *spread, *self.marks.values()]


@dataclass(frozen=True)
class Style:
    """How the rows of a chart are drawn.

    Attributes:
        axis: What the axis measures.
        within: Ends that the axis has in any case.
        edges: Edges of the histograms, one more than their heights.
        height: Height of a row.
        smooth: Draw heights as an outline on both sides rather than as bars.
        lines: Numbers that the whole chart marks, by what they are.
        zero: Whether 0 has a line.
    """

    axis: str
    within: tuple[float, float] | None = None
    edges: tuple[float, ...] = ()
    height: float = 30.0
    smooth: bool = False
    lines: Mapping[str, float] = field(default_factory=dict)
    zero: bool = True


def draw_rows(title: str, description: str, rows: Sequence[Row], style: Style) -> str:
    """The drawing of rows along one axis.

    Args:
        title: What it shows.
        description: What there is to see.
        rows: From top to bottom.
        style: How they are drawn.

    Examples:
        >>> row = Row("attention", "n = 12", mean=0.3, interval=(0.2, 0.4), band=(-0.1, 0.1))
        >>> drawn = draw_rows("Agreement", "", [row], Style("Kendall tau", within=(-1, 1)))
        >>> drawn.startswith("<svg"), drawn.count("<circle")
        (True, 2)
    """
    label = min(_LABEL, max((text_width(row.label) for row in rows), default=0.0))
    note = min(_NOTE, max((text_width(row.note) for row in rows), default=0.0))
    ends = limits(
        [
            *(value for row in rows for value in row.numbers),
            *style.lines.values(),
            *style.edges[:1],
            *style.edges[-1:],
        ],
        style.within,
    )
    scale = Scale(*ends, _MARGIN + label + 16, WIDTH - _MARGIN - note - 16)
    top = _MARGIN + (18.0 if style.lines else 0.0)
    bottom = top + max(1, len(rows)) * style.height
    body = [*_axis(scale, style, top, bottom)]
    for place, row in enumerate(rows):
        middle = top + (place + 0.5) * style.height
        body += _labels(row, middle, label, note)
        body += _row(row, middle, scale, style)
    under, height = legend(_used(rows, style), _MARGIN, bottom + _AXIS, WIDTH - 2 * _MARGIN)
    return drawing(WIDTH, bottom + _AXIS + height + 2, title, description, "".join([*body, *under]))


def _axis(scale: Scale, style: Style, top: float, bottom: float) -> Iterator[str]:
    """The axis with its numbers, and lines over all rows."""
    room = scale.right - scale.left
    for value, text in scale.ticks(max(3, int(room // 55))):
        x = scale(value)
        zero = style.zero and value == 0 and scale.low < 0
        yield element("line", x1=x, x2=x, y1=top, y2=bottom, cls="zero" if zero else "tick")
        yield line_of_text(x, bottom + 12, typeset(text), cls="number", anchor="middle")
    yield element("line", x1=scale.left, x2=scale.right, y1=bottom, y2=bottom, cls="axis")
    said = shortened(style.axis, WIDTH - 2 * _MARGIN)
    centre = (scale.left + scale.right) / 2
    half = text_width(said) / 2
    centre = min(max(centre, _MARGIN + half), WIDTH - _MARGIN - half)
    yield line_of_text(centre, bottom + 31, said, anchor="middle", full=style.axis)
    for text, value in style.lines.items():
        x = scale(value)
        yield element("line", x1=x, x2=x, y1=top - 4, y2=bottom, cls="reference")
        anchor = "end" if x > (scale.left + scale.right) / 2 else "start"
        yield line_of_text(x, top - 13, shortened(text, room), cls="note", anchor=anchor)


def _labels(row: Row, middle: float, label: float, note: float) -> Iterator[str]:
    """What a row is, on its left, and its note, on its right."""
    text = shortened(row.label, label + 0.01)
    yield line_of_text(_MARGIN + label, middle, text, anchor="end", full=row.label)
    if row.note:
        text = shortened(row.note, note + 0.01)
        yield line_of_text(WIDTH - _MARGIN, middle, text, cls="note", anchor="end", full=row.note)


def _row(row: Row, middle: float, scale: Scale, style: Style) -> Iterator[str]:
    """Everything in one row, the mean on top."""
    half = style.height / 2
    if row.band is not None:
        low, high = scale(row.band[0]), scale(row.band[1])
        y, wide = middle - half + 2, max(high - low, 0.5)
        yield element("rect", x=low, y=y, width=wide, height=style.height - 4, cls="band")
    if row.heights and max(row.heights) > 0:
        yield from _heights(row, middle, scale, style)
    # Bars stand on the floor of a row, so what describes them lies just above it.
    level = middle if style.smooth or not row.heights else middle + half - 7
    if row.quartiles is not None and not math.isnan(row.quartiles[1]):
        q25, median, q75 = map(scale, row.quartiles)
        yield element(
            "rect", x=q25, y=level - 4.0, width=max(q75 - q25, 1.0), height=8.0, cls="quartiles"
        )
        yield element("line", x1=median, x2=median, y1=level - 7, y2=level + 7, cls="median")
    for kind, value in row.marks.items():
        if math.isfinite(value):
            yield mark(kind, scale(value), level)
    if row.interval is not None and not math.isnan(row.interval[0]):
        low, high = scale(row.interval[0]), scale(row.interval[1])
        yield element("line", x1=low, x2=high, y1=level, y2=level, cls="whisker")
        for end in (low, high):
            yield element("line", x1=end, x2=end, y1=level - 4, y2=level + 4, cls="whisker")
    if not math.isnan(row.mean):
        yield mark("mean", scale(row.mean), level)


def _heights(row: Row, middle: float, scale: Scale, style: Style) -> Iterator[str]:
    """The histogram of a row: bars on its floor, or an outline around its middle."""
    largest = max(row.heights)
    room = style.height - 8
    places = [scale(edge) for edge in style.edges]
    if style.smooth:
        centres = [(left + right) / 2 for left, right in pairwise(places)]
        halves = [room / 2 * height / largest for height in row.heights]
        upper = [(x, middle - half) for x, half in zip(centres, halves, strict=True) if half > 0]
        lower = [(x, middle + half) for x, half in zip(centres, halves, strict=True) if half > 0]
        points = [(places[0], middle), *upper, (places[-1], middle), *reversed(lower)]
        if row.heights[0] == 0:
            points = [*upper, *reversed(lower)]
        yield element("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), cls="bars")
        return
    floor = middle + style.height / 2 - 2
    path = [f"M{places[0]:.1f} {floor:.1f}"]
    for right, height in zip(places[1:], row.heights, strict=True):
        path.append(f"V{floor - room * height / largest:.1f}H{right:.1f}")
    yield element("path", d="".join([*path, f"V{floor:.1f}Z"]), cls="bars")


def _used(rows: Sequence[Row], style: Style) -> list[str]:
    """What the legend must explain."""
    kinds = []
    if any(not math.isnan(row.mean) for row in rows):
        with_interval = any(row.interval is not None for row in rows)
        kinds.append("mean with interval" if with_interval else "mean")
    if any(row.quartiles is not None for row in rows):
        kinds.append("quartiles")
    if any(row.heights for row in rows) and style.smooth:
        kinds.append("spread")
    if any(row.band is not None for row in rows):
        kinds.append("band")
    return kinds + [
        kind for kind in SHAPES if any(math.isfinite(row.marks.get(kind, math.nan)) for row in rows)
    ]
