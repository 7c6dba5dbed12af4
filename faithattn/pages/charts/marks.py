"""Marks of single numbers, told apart by their shape, and the legend that explains them."""

from __future__ import annotations

from collections.abc import Sequence

from faithattn.pages.charts.svg import element, line_of_text, text_width

SHAPES = ("random", "uniform", "ceiling", "published")
_SAID = {
    "mean": "mean",
    "mean with interval": "mean, 95 % interval",
    "quartiles": "median, middle half",
    "spread": "instances",
    "point": "instance",
    "level": "median of a range",
    "band": "unrelated (95 %)",
    "random": "random explanation",
    "uniform": "uniform attention",
    "ceiling": "noise ceiling",
    "published": "published",
}
_KEY, _GAP, _LINE = 26.0, 18.0, 22.0


def mark(kind: str, x: float, y: float) -> str:
    """One number of a kind.

    Args:
        kind: ``"mean"`` or one of ``SHAPES``.
        x: Its place along the axis.
        y: Its height.

    Examples:
        >>> mark("mean", 10, 20)
        '<circle cx="10" cy="20" r="4.5" class="mean"/>'
    """
    if kind == "mean":
        return element("circle", cx=x, cy=y, r=4.5, cls="mean")
    if kind == "random":
        return element("circle", cx=x, cy=y, r=4.0, cls="mark")
    if kind == "uniform":
        return element("rect", x=x - 3.5, y=y - 3.5, width=7.0, height=7.0, cls="mark")
    if kind == "ceiling":
        path = f"M{x - 5:.1f} {y - 9:.1f}h10M{x:.1f} {y - 9:.1f}v18M{x - 5:.1f} {y + 9:.1f}h10"
        return element("path", d=path, cls="mark")
    path = f"M{x:.1f} {y - 6:.1f}l5 6l-5 6l-5 -6Z"
    return element("path", d=path, cls="mark")


def legend(kinds: Sequence[str], left: float, top: float, width: float) -> tuple[list[str], float]:
    """What each mark stands for, side by side, in as many lines as it takes.

    Args:
        kinds: ``"mean"``, ``"mean with interval"``, ``"quartiles"``,
            ``"spread"``, ``"point"``, ``"level"``, ``"band"`` and those of
            ``SHAPES``.
        left: Where a line begins.
        top: Where the first line is.
        width: How long a line may be.

    Returns:
        Elements, and the height they take.
    """
    parts: list[str] = []
    x, y = left, top + _LINE / 2
    for kind in kinds:
        text = _SAID[kind]
        wide = _KEY + text_width(text)
        if x > left and x + wide > left + width:
            x, y = left, y + _LINE
        parts += [_key(kind, x + 9, y), line_of_text(x + _KEY, y, text)]
        x += wide + _GAP
    return parts, (y + _LINE / 2 - top if kinds else 0.0)


def _key(kind: str, x: float, y: float) -> str:
    """The sign of a kind, by itself."""
    if kind == "mean with interval":
        whisker = element("path", d=f"M{x - 9:.1f} {y:.1f}h18", cls="whisker")
        return whisker + mark("mean", x, y)
    if kind == "quartiles":
        box = element("rect", x=x - 9, y=y - 4, width=18.0, height=8.0, cls="quartiles")
        return box + element("line", x1=x, x2=x, y1=y - 7, y2=y + 7, cls="median")
    if kind == "point":
        return element("g", element("circle", cx=x, cy=y, r=2.5), cls="points")
    if kind == "level":
        return element("line", x1=x - 9, x2=x + 9, y1=y, y2=y, cls="median")
    if kind in ("spread", "band"):
        cls = "bars" if kind == "spread" else "band"
        return element("rect", x=x - 9, y=y - 6, width=18.0, height=12.0, cls=cls)
    return mark(kind, x, y)
