"""A comparison as a figure: a panel a metric, a point an explanation.

The grey line is the mean of the first explanation.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from faithattn.results.comparison.comparison import Column, Comparison

_ACROSS = (5, 4, 3)  # panels side by side: what leaves the fewest places empty, the widest first
_COLOURS = {"faithfulness": "#1f5a99", "plausibility": "#a0522d"}
_DPI = 110


def draw(comparison: Comparison, path: Path) -> Path:
    """Draws every metric that more than one explanation has a value of, and saves it."""
    columns = [each for each in comparison.columns if _drawn(comparison, each)]
    across = min(_ACROSS, key=lambda each: -len(columns) % each)
    across = min(across, max(1, len(columns)))
    down = max(1, math.ceil(len(columns) / across))
    rows = len(comparison.explanations)
    figure = Figure(figsize=(1.2 + 2.6 * across, down * (0.9 + 0.22 * rows)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes, column in zip(panels.flat, columns, strict=False):
        _panel(axes, comparison, column)
    for axes in panels.flat[len(columns) :]:
        axes.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    return path


def _drawn(comparison: Comparison, column: Column) -> bool:
    return sum((name, column.name) in comparison.values for name in comparison.explanations) > 1


def _panel(axes: Axes, comparison: Comparison, column: Column) -> None:
    for place, name in enumerate(comparison.explanations):
        if (name, column.name) not in comparison.values:
            continue
        found = comparison.statistics(name, column.name)
        if math.isnan(found.mean):
            continue
        low, high = (found.mean if math.isnan(end) else end for end in (found.low, found.high))
        axes.plot([low, high], [place, place], color=_COLOURS[column.kind], linewidth=1.5)
        axes.plot(found.mean, place, "o", color=_COLOURS[column.kind], markersize=4)
    attention = comparison.values.get((comparison.explanations[0], column.name))
    if attention is not None:
        axes.axvline(float(attention.double().nanmean()), color="#999999", linewidth=0.8)
    better = "right" if column.larger_is_faithful else "left"
    arrow = {"right": "\N{RIGHTWARDS ARROW}", "left": "\N{LEFTWARDS ARROW}"}[better]
    axes.set_title(f"{column.title} {arrow}", fontsize=9)
    axes.set_yticks(range(len(comparison.explanations)), comparison.explanations, fontsize=8)
    axes.set_ylim(len(comparison.explanations) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
