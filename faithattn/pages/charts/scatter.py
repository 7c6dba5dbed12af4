"""A cloud of points: two numbers of each instance, and the middle of the second by the first."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faithattn.pages.charts.marks import legend
from faithattn.pages.charts.scale import Scale, limits
from faithattn.pages.charts.svg import drawing, element, line_of_text, shortened, text_width
from faithattn.pages.numbers import typeset

MOST_POINTS = 2000

_WIDTH, _HEIGHT, _MARGIN = 760.0, 320.0, 10.0
_RADIUS = 2.5


@dataclass(frozen=True)
class Cloud:
    """What is drawn of a cloud of points.

    Attributes:
        x: One number an instance; nan is left out.
        y: Another one.
        x_axis: What the first measures.
        y_axis: What the second measures.
        x_within: Ends that the first axis has in any case.
        y_within: Ends that the second axis has in any case.
        medians: From, to and median of ranges of the first.
    """

    x: Sequence[float]
    y: Sequence[float]
    x_axis: str
    y_axis: str
    x_within: tuple[float, float] | None = None
    y_within: tuple[float, float] | None = None
    medians: tuple[tuple[float, float, float], ...] = ()

    @property
    def points(self) -> list[tuple[float, float]]:
        """The instances that have both numbers."""
        pairs = zip(self.x, self.y, strict=True)
        return [pair for pair in pairs if all(map(math.isfinite, pair))]


def draw_scatter(title: str, description: str, cloud: Cloud) -> str:
    """The drawing of a cloud of points.

    Of more than ``MOST_POINTS`` as many are drawn, chosen at random and the
    same each time; the medians are the caller's, of all.

    Args:
        title: What it shows.
        description: What there is to see.
        cloud: The points.

    Examples:
        >>> drawn = draw_scatter("Change", "", Cloud([0.1, 0.6], [0.0, 0.4], "JSD", "TVD"))
        >>> drawn.startswith("<svg"), drawn.count("<circle")
        (True, 3)
    """
    points = cloud.points
    levels = [median for *_, median in cloud.medians]
    vertical = limits([*(y for _, y in points), *levels], cloud.y_within)
    top, bottom = _MARGIN + 22, _MARGIN + 22 + _HEIGHT
    up = Scale(*vertical, bottom, top)
    left = _MARGIN + max(text_width(text) for _, text in up.ticks()) + 8
    right = _WIDTH - _MARGIN - 12
    along = Scale(*limits([x for x, _ in points], cloud.x_within), left, right)
    body = [*_axes(cloud, along, up)]
    dots = "".join(
        f'<circle cx="{along(x):.1f}" cy="{up(y):.1f}" r="{_RADIUS}"/>' for x, y in drawn_of(points)
    )
    body.append(element("g", dots, cls="points"))
    for low, high, median in cloud.medians:
        if math.isfinite(median):
            y = up(median)
            body.append(element("line", x1=along(low), x2=along(high), y1=y, y2=y, cls="median"))
    kinds = ["point", *(["level"] if any(map(math.isfinite, levels)) else [])]
    under, height = legend(kinds, _MARGIN, bottom + 46, _WIDTH - 2 * _MARGIN)
    return drawing(_WIDTH, bottom + 48 + height, title, description, "".join([*body, *under]))


def drawn_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that are drawn.

    Args:
        points: All of them.
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    chosen = random.Random(0).sample(range(len(points)), MOST_POINTS)
    return [points[place] for place in sorted(chosen)]


def _axes(cloud: Cloud, along: Scale, up: Scale) -> Iterator[str]:
    """Both axes with their numbers and what they measure."""
    left, right, bottom, top = along.left, along.right, up.left, up.right
    for value, text in along.ticks(12):
        x = along(value)
        yield element("line", x1=x, x2=x, y1=top, y2=bottom, cls="tick")
        yield line_of_text(x, bottom + 12, typeset(text), cls="number", anchor="middle")
    for value, text in up.ticks():
        y = up(value)
        yield element("line", x1=left, x2=right, y1=y, y2=y, cls="tick")
        yield line_of_text(left - 6, y, typeset(text), cls="number", anchor="end")
    yield element("line", x1=left, x2=right, y1=bottom, y2=bottom, cls="axis")
    yield element("line", x1=left, x2=left, y1=top, y2=bottom, cls="axis")
    room = _WIDTH - 2 * _MARGIN
    said = shortened(cloud.x_axis, room)
    half = text_width(said) / 2
    centre = min(max((left + right) / 2, _MARGIN + half), _WIDTH - _MARGIN - half)
    yield line_of_text(centre, bottom + 31, said, anchor="middle", full=cloud.x_axis)
    above = shortened(cloud.y_axis, room)
    yield line_of_text(_MARGIN, _MARGIN + 4, above, full=cloud.y_axis)
