"""A grid of values, such as those of layers and heads: the stronger the colour, the larger."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from faithattn.pages.charts.scale import limits
from faithattn.pages.charts.svg import drawing, element, line_of_text, shortened, text_width
from faithattn.pages.escaping import html_text
from faithattn.pages.numbers import number, typeset

_WIDTH, _MARGIN, _ROW, _LEAST = 760.0, 10.0, 28.0, 34.0
_STEPS = 8


def draw_grid(
    title: str,
    description: str,
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    quantity: str,
    within: tuple[float, float] | None = None,
) -> str:
    """The drawing of a grid with its numbers and a legend.

    One colour that only grows stronger stands for the values, so that they
    keep their order in grey.

    Args:
        title: What it shows.
        description: What there is to see.
        values: A row of numbers for each row; nan is hatched.
        rows: Names of the rows.
        columns: Names of the columns.
        quantity: What the numbers are.
        within: Ends of the scale in any case; those of the values otherwise.

    Examples:
        >>> drawn = draw_grid("Heads", "", [[0.1, 0.9]], rows=["1"], columns=["1", "2"],
        ...                   quantity="tau")
        >>> drawn.count("<title>")  # one for each cell, and that of the drawing
        3
    """
    low, high = limits([each for row in values for each in row], within)
    label = min(160.0, max((text_width(name) for name in rows), default=0.0))
    left = _MARGIN + label + 10
    cell = max(_LEAST, min(72.0, (_WIDTH - left - _MARGIN) / max(1, len(columns))))
    width = max(_WIDTH, left + cell * len(columns) + _MARGIN)
    top = _MARGIN + 24
    body = []
    for place, name in enumerate(columns):
        text = shortened(name, cell)
        x = left + (place + 0.5) * cell
        body.append(line_of_text(x, _MARGIN + 10, text, anchor="middle", full=name))
    for place, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + place * _ROW
        text = shortened(name, label + 0.01)
        body.append(line_of_text(left - 10, y + _ROW / 2, text, anchor="end", full=name))
        for column, value in enumerate(row):
            where = f"{name}, {columns[column]}"
            body += _cell(value, (value - low) / (high - low), left + column * cell, y, cell, where)
    bottom = top + len(rows) * _ROW + 14
    body += _legend(low, high, quantity, bottom)
    return drawing(width, bottom + 52, title, description, "".join(body))


def _cell(
    value: float, share: float, x: float, y: float, width: float, where: str
) -> Iterator[str]:
    """One value: its colour and, where there is room, its number."""
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": _ROW - 2}
    said = element("title", html_text(f"{where}: {number(value)}"))
    if math.isnan(value):
        yield element("rect", said, cls="missing", **box)
        return
    yield element("rect", said, cls="cell", fill_opacity=f"{share:.3f}", **box)
    digits = 2 if width >= 44 else 1
    text = re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")
    if text_width(text) <= width:
        yield line_of_text(
            x + width / 2, y + _ROW / 2, typeset(text), cls="number", anchor="middle"
        )


def _legend(low: float, high: float, quantity: str, top: float) -> Iterator[str]:
    """The colours from the smallest value to the largest."""
    start, end = (typeset(number(each, 2)) for each in (low, high))
    x = _MARGIN + text_width(start) + 8
    yield line_of_text(x - 8, top + 10, start, cls="number", anchor="end")
    for step in range(_STEPS):
        yield element(
            "rect",
            x=x + 20 * step,
            y=top,
            width=20.0,
            height=20.0,
            cls="cell",
            fill_opacity=f"{step / (_STEPS - 1):.3f}",
        )
    yield element("rect", x=x, y=top, width=20.0 * _STEPS, height=20.0, cls="frame")
    after = x + 20 * _STEPS + 8
    yield line_of_text(after, top + 10, end, cls="number")
    room = _WIDTH - 2 * _MARGIN
    yield line_of_text(_MARGIN, top + 36, shortened(quantity, room), full=quantity)
