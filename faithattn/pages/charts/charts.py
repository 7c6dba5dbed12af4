"""Charts ready for a document: the drawing with its numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from faithattn.pages.charts.grid import draw_grid
from faithattn.pages.charts.marks import SHAPES
from faithattn.pages.charts.rows import Row, Style, draw_rows
from faithattn.pages.charts.scatter import MOST_POINTS, Cloud, draw_scatter
from faithattn.pages.document import Chart, Table
from faithattn.pages.numbers import UNDEFINED, digits_of, interval, number


def row_chart(name: str, title: str, description: str, rows: Sequence[Row], style: Style) -> Chart:
    """Rows along one axis: intervals, spreads, or histograms.

    Args:
        name: Name of its file, without an ending.
        title: What it shows.
        description: How to read it.
        rows: From top to bottom.
        style: How they are drawn.

    Examples:
        >>> rows = [Row("loo", "n = 9", mean=0.25, interval=(0.1, 0.4), marks={"random": 0.0})]
        >>> chart = row_chart("tau", "Agreement", "", rows, Style("Kendall tau", within=(-1, 1)))
        >>> chart.data.columns
        ('', 'mean', '95 % interval', 'random', '')
        >>> chart.data.rows
        (('loo', '0.250', '0.100 to 0.400', '0.000', 'n = 9'),)
    """
    drawn = draw_rows(title, description, rows, style)
    return Chart(name, title, description, drawn, _row_table(title, rows, style))


def grid_chart(
    name: str,
    title: str,
    description: str,
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    quantity: str,
    within: tuple[float, float] | None = None,
) -> Chart:
    """A grid of values, one colour that grows stronger with them.

    Args:
        name: Name of its file, without an ending.
        title: What it shows.
        description: How to read it.
        values: A row of numbers for each row; nan where undefined.
        rows: Names of the rows.
        columns: Names of the columns.
        quantity: What the numbers are.
        within: Ends of the scale in any case.

    Examples:
        >>> chart = grid_chart("heads", "Heads", "", [[0.1, 0.9]], rows=["layer 1"],
        ...                    columns=["head 1", "head 2"], quantity="tau")
        >>> chart.data.rows
        (('layer 1', '0.100', '0.900'),)
    """
    drawn = draw_grid(
        title, description, values, rows=rows, columns=columns, quantity=quantity, within=within
    )
    cells = tuple(
        (row, *(number(value) for value in line)) for row, line in zip(rows, values, strict=True)
    )
    return Chart(name, title, description, drawn, Table(title, ("", *columns), cells, folded=True))


def scatter_chart(name: str, title: str, description: str, cloud: Cloud, data: Table) -> Chart:
    """A cloud of points, with a table of what it comes to.

    Args:
        name: Name of its file, without an ending.
        title: What it shows.
        description: How to read it; where not all points are drawn, that is added.
        cloud: The points and how they are drawn.
        data: The numbers of the figure, such as the medians.

    Examples:
        >>> table = Table("Medians", ("", "median"), (("all", "0.200"),))
        >>> cloud = Cloud([0.1, 0.6], [0.0, 0.4], "JSD", "TVD")
        >>> scatter_chart("change", "Change", "", cloud, table).data.rows
        (('all', '0.200'),)
    """
    count = len(cloud.points)
    if count > MOST_POINTS:
        description += f" {MOST_POINTS:,} of {count:,} instances are drawn, chosen at random."
    drawn = draw_scatter(title, description, cloud)
    return Chart(name, title, description.strip(), drawn, replace(data, folded=True))


def _row_table(title: str, rows: Sequence[Row], style: Style) -> Table:
    """The numbers of rows, without columns that say nothing."""
    columns: dict[str, list[str]] = {"": [row.label for row in rows]}
    exact = [(row, digits_of(*row.interval) if row.interval else 3) for row in rows]
    columns["mean"] = [number(row.mean, digits) for row, digits in exact]
    columns["95 % interval"] = [_ends(row.interval, digits) for row, digits in exact]
    for place, name in enumerate(("lower quartile", "median", "upper quartile")):
        columns[name] = [
            number(row.quartiles[place] if row.quartiles else None, digits) for row, digits in exact
        ]
    columns["unrelated (95 %)"] = [_ends(row.band, digits) for row, digits in exact]
    for kind in SHAPES:
        columns[kind] = [number(row.marks.get(kind, math.nan), digits) for row, digits in exact]
    if not style.smooth and style.edges:
        for place, (low, high) in enumerate(zip(style.edges, style.edges[1:], strict=False)):
            cells = [f"{row.heights[place]:,.0f}" if row.heights else "0" for row in rows]
            if set(cells) != {"0"}:
                columns[f"{low:.3g} to {high:.3g}"] = cells
    kept = {name: cells for name, cells in columns.items() if not name or set(cells) != {UNDEFINED}}
    names = list(kept)
    lines = list(zip(*kept.values(), strict=True))
    if any(row.note for row in rows):
        names.append("")
        lines = [(*line, row.note) for line, row in zip(lines, rows, strict=True)]
    return _upright(Table(title, tuple(names), tuple(lines), folded=True))


def _upright(table: Table) -> Table:
    """A table of many columns and few rows, turned."""
    if len(table.columns) <= max(10, len(table.rows) + 1):
        return table
    first, *rest = zip(table.columns, *table.rows, strict=True)
    return Table(table.caption, tuple(first), tuple(rest), folded=table.folded)


def _ends(pair: tuple[float, float] | None, digits: int) -> str:
    return UNDEFINED if pair is None else interval(*pair, digits)
