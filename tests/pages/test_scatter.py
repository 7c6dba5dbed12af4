from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from faithattn.pages.charts.charts import scatter_chart
from faithattn.pages.charts.scatter import MOST_POINTS, Cloud, drawn_of
from faithattn.pages.document import Chart, Table

TABLE = Table("Medians", ("", "median"), (("all", "0.200"),))
RANGES = ((0.0, 0.5, 0.25), (0.5, 1.0, math.nan))


def chart_of(x: list[float], y: list[float], **rest: object) -> Chart:
    cloud = Cloud(x, y, "<x>", "y & z", (0, 1), (0, 0.5), **rest)  # type: ignore[arg-type]
    return scatter_chart("cloud", "A <cloud>", "Points.", cloud, TABLE)


def of_class(chart: Chart, name: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(chart.svg)
    return [each for each in root.iter() if each.get("class") == name]


def centres(chart: Chart) -> list[tuple[float, float]]:
    found = of_class(chart, "points")[0]
    return [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in found]


def test_points_lie_where_their_numbers_do() -> None:
    chart = chart_of([0.0, 1.0, 0.5, math.nan], [0.0, 0.5, 0.25, 0.1])
    along, up = of_class(chart, "axis")
    left, right = float(along.get("x1", "")), float(along.get("x2", ""))
    top, bottom = float(up.get("y1", "")), float(up.get("y2", ""))
    expected = [(left, bottom), (right, top), ((left + right) / 2, (bottom + top) / 2)]
    assert np.allclose(centres(chart), expected, atol=0.06)


def test_medians_span_their_ranges() -> None:
    chart = chart_of([0.1, 0.9], [0.1, 0.4], medians=RANGES)
    along, up = of_class(chart, "axis")
    median, in_legend = of_class(chart, "median")
    assert float(median.get("x1", "")) == float(along.get("x1", ""))
    half = (float(along.get("x1", "")) + float(along.get("x2", ""))) / 2
    assert float(median.get("x2", "")) == pytest.approx(half, abs=0.01)
    middle = (float(up.get("y1", "")) + float(up.get("y2", ""))) / 2
    assert float(median.get("y1", "")) == pytest.approx(middle, abs=0.01)
    assert float(in_legend.get("y1", "")) > float(up.get("y2", ""))


def test_many_points_are_drawn_in_part_and_that_is_said() -> None:
    count = MOST_POINTS + 500
    x = np.linspace(0, 1, count).tolist()
    chart = chart_of(x, x)
    assert len(centres(chart)) == MOST_POINTS
    assert chart.description == "Points. 2,000 of 2,500 instances are drawn, chosen at random."
    assert chart_of(x, x) == chart
    points = list(zip(x, x, strict=True))
    kept = drawn_of(points)
    assert len(set(kept)) == MOST_POINTS and set(kept) <= set(points) and kept == sorted(kept)
    assert chart_of(x[:9], x[:9]).description == "Points."


def test_no_points_at_all() -> None:
    chart = chart_of([math.nan], [1.0])
    assert centres(chart) == [] and "nan" not in chart.svg
    assert chart.data.folded and "&lt;x&gt;" in chart.svg and "y &amp; z" in chart.svg
