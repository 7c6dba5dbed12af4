"""Calibration as an image: every metric in every setting."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from faithattn.planted.calibration.canvas import new_figure, style
from faithattn.planted.calibration.cells import Cell, rows_of
from faithattn.planted.calibration.outcome import Calibration

_TITLES = {
    "models": "two models of the same outputs",
    "explanations": "a true explanation and a spoiled one",
}
_DARK = 0.32  # farther from chance than this, numbers are white


def save(calibration: Calibration, path: Path) -> Path:
    """Draws and writes the image."""
    with style():
        figure = draw(calibration)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, metadata=metadata)
    return path


def draw(calibration: Calibration) -> Figure:
    """A panel for each kind of pairs: metrics down, settings of the largest sample across."""
    largest = max(cell.size for cell in calibration.cells)
    every = rows_of(calibration.cells)
    panels = {
        kind: [metric for metric, own in every if own == kind]
        for kind in _TITLES
        if any(own == kind for _, own in every)
    }
    columns = sorted({(cell.contrast, cell.length, cell.depth) for cell in calibration.cells})
    height = 1.6 * len(panels) + 0.34 * sum(map(len, panels.values()))
    figure = new_figure(3.4 + 0.42 * len(columns), height)
    axes = figure.subplots(
        len(panels),
        1,
        squeeze=False,
        height_ratios=[len(metrics) + 1 for metrics in panels.values()],
    )[:, 0]
    images = []
    for each, (kind, metrics) in zip(axes, panels.items(), strict=True):
        cells = {
            (cell.metric, cell.contrast, cell.length, cell.depth): cell
            for cell in calibration.of(kind=kind, size=largest)
        }
        grid = [[cells[(metric, *column)] for column in columns] for metric in metrics]
        images.append(_panel(each, grid, _TITLES[kind]))
    bar = figure.colorbar(images[0], ax=list(axes), fraction=0.03, pad=0.01)
    bar.set_label("probability of ranking a pair rightly")
    figure.suptitle(
        f"Metrics on pairs of known order, {largest} texts a number "
        "(chance .5; struck out: not above it)"
    )
    return figure


def _panel(axes: Axes, grid: list[list[Cell]], title: str) -> AxesImage:
    """One heat map; a cell whose interval is not above chance is struck out."""
    values = np.array([[cell.probability for cell in row] for row in grid])
    image = axes.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(grid):
        for x, cell in enumerate(row):
            unknown = math.isnan(cell.probability)
            text = "-" if unknown else f"{cell.probability:.2f}".replace("0.", ".", 1)
            far = not unknown and abs(cell.probability - 0.5) > _DARK
            colour = "white" if far else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
            if not cell.passed:
                axes.plot([x - 0.4, x + 0.4], [y + 0.4, y - 0.4], color=colour, linewidth=0.8)
    first = grid[0]
    axes.set_yticks(range(len(grid)), [row[0].metric for row in grid])
    axes.set_xticks(
        range(len(first)), [f"{cell.length}\n{cell.depth}\n{cell.contrast:g}" for cell in first]
    )
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    axes.annotate(
        "length\ndepth\ncontrast",
        (0, 0),
        xytext=(-4, -4),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
    )
    return image
