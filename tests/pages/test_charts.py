from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.pages.charts.charts import grid_chart, row_chart
from faithattn.pages.charts.rows import Row, Style
from faithattn.pages.charts.scale import Scale, limits, ticks
from faithattn.pages.charts.svg import shortened, text_width
from faithattn.pages.document import Chart
from faithattn.pages.numbers import UNDEFINED

SPACE = "{http://www.w3.org/2000/svg}"
nan = math.nan


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in root.iter() if each.get("class") == name]


@settings(max_examples=50)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 12))
def test_ticks_are_round_even_and_inside(low: float, width: float, at_most: int) -> None:
    high = low + width
    if not high > low or width < 1e-9 * abs(low):
        return
    found = ticks(low, high, at_most)
    assert 1 <= len(found) <= at_most
    values = np.array([value for value, _ in found])
    assert (values >= low - 1e-6 * width).all() and (values <= high + 1e-6 * width).all()
    if len(values) > 2:
        steps = np.diff(values)
        assert np.allclose(steps, steps[0])
        mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(mantissa - each) for each in (1, 2, 2.5, 5)) < 1e-4


def test_what_ticks_say_is_what_they_are() -> None:
    for low, high in ((-1, 1), (0, 0.693), (0, 1e-5), (-12, 345), (0.1, 0.2)):
        for value, text in ticks(low, high):
            assert float(text) == pytest.approx(value, abs=1e-9 * (high - low))


@settings(max_examples=50)
@given(st.lists(st.floats(allow_infinity=True, allow_nan=True)))
def test_limits_hold_every_number(values: list[float]) -> None:
    low, high = limits(values)
    assert low < high
    assert all(low <= value <= high for value in values if math.isfinite(value))


def test_scale() -> None:
    scale = Scale(0, 2, 100, 300)
    assert [scale(value) for value in (0, 1, 2, -9, 9)] == [100, 200, 300, 100, 300]


def test_everything_of_a_row_lies_where_its_number_does() -> None:
    row = Row(
        "a", "n = 3", mean=0.5, interval=(0.25, 0.75), quartiles=(0.0, 0.5, 1.0), band=(-0.5, 0.5),
        marks={"random": 0.0, "uniform": -0.25, "ceiling": 0.75, "published": 1.0},
    )  # fmt: skip
    chart = row_chart("x", "X", "", [row], Style("axis", within=(-1, 1)))
    root = drawn(chart)
    (axis,) = of_class(root, "axis")
    left, right = float(axis.get("x1", "")), float(axis.get("x2", ""))
    scale = Scale(-1, 1, left, right)
    mean, in_legend = of_class(root, "mean")
    assert float(mean.get("cx", "")) == pytest.approx(scale(0.5), abs=0.01)
    assert float(in_legend.get("cx", "")) < left
    band = of_class(root, "band")[0]
    assert float(band.get("x", "")) == pytest.approx(scale(-0.5), abs=0.01)
    assert float(band.get("width", "")) == pytest.approx(scale(0.5) - scale(-0.5), abs=0.02)
    median = of_class(root, "median")[0]
    assert float(median.get("x1", "")) == pytest.approx(scale(0.5), abs=0.01)
    whisker = of_class(root, "whisker")[0]
    assert float(whisker.get("x1", "")) == pytest.approx(scale(0.25), abs=0.01)
    said = "".join(root.itertext())
    for words in (
        "mean, 95 % interval", "median, middle half", "unrelated (95 %)", "random explanation",
        "uniform attention", "noise ceiling", "published", "axis", "n = 3",
    ):  # fmt: skip
        assert words in said
    assert root.get("role") == "img"
    assert root.find(f"{SPACE}title") is not None and root.find(f"{SPACE}desc") is not None


def test_no_mark_hides_a_mean() -> None:
    row = Row("a", mean=0.001, interval=(0.0, 0.002), marks={"uniform": 0.0, "random": 0.001})
    kinds = [each.get("class") for each in drawn(row_chart("x", "X", "", [row], Style("a"))).iter()]
    first = kinds.index("mean")  # those of the legend come after
    assert kinds[:first].count("mark") == 2 and kinds[:first].count("whisker") == 3


def test_nothing_undefined_is_drawn() -> None:
    row = Row("a", mean=nan, interval=(nan, nan), quartiles=(nan, nan, nan), marks={"random": nan})
    chart = row_chart("x", "X", "", [row], Style("axis"))
    assert "nan" not in chart.svg
    assert not of_class(drawn(chart), "whisker") and not of_class(drawn(chart), "mark")
    assert row_chart("x", "X", "", [], Style("axis")).svg.startswith("<svg")


@pytest.mark.parametrize("smooth", [False, True])
def test_histograms_have_the_heights_of_their_counts(smooth: bool) -> None:
    counts = (1.0, 4.0, 2.0)
    style = Style("axis", edges=(0.0, 1.0, 2.0, 3.0), height=60, smooth=smooth)
    chart = row_chart("x", "X", "", [Row("a", heights=counts)], style)
    bars = of_class(drawn(chart), "bars")[0]
    if smooth:
        points = [pair.split(",") for pair in bars.get("points", "").split()]
        heights = [float(y) for _, y in points[1:4]]
        middle = float(points[0][1])
        assert [middle - y for y in heights] == pytest.approx([6.5, 26, 13])
        return
    path = bars.get("d", "")
    tops = [float(part.split("H")[0]) for part in path.split("V")[1:4]]
    floor = float(path.split("V")[0].split()[1])
    assert [floor - top for top in tops] == pytest.approx([13, 52, 26])
    assert chart.data.rows[0][1:] == ("1", "4", "2")


def test_a_grid_grows_stronger_with_its_values() -> None:
    chart = grid_chart(
        "x", "X", "", [[0.0, 0.5], [1.0, nan]], rows=["r1", "r2"], columns=["c1", "c2"],
        quantity="tau",
    )  # fmt: skip
    cells = [
        each for each in of_class(drawn(chart), "cell") if each.find(f"{SPACE}title") is not None
    ]
    assert [float(each.get("fill-opacity", "")) for each in cells] == [0, 0.5, 1]
    assert len(of_class(drawn(chart), "missing")) == 1
    assert chart.data.rows == (("r1", "0.000", "0.500"), ("r2", "1.000", UNDEFINED))


def test_many_bins_are_set_upright() -> None:
    edges = tuple(np.linspace(0, 1, 31).tolist())
    style = Style("axis", edges=edges)
    chart = row_chart("x", "X", "", [Row("a", heights=(1.0,) * 30)], style)
    assert chart.data.columns == ("", "a") and len(chart.data.rows) == 30


@settings(max_examples=50)
@given(st.text(max_size=30), st.floats(20, 200))
def test_shortened_text_fits(text: str, room: float) -> None:
    assert text_width(shortened(text, room)) <= room
