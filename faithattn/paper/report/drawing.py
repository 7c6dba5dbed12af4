"""Style, violins and saving for the figures; no pyplot, so nothing global is left changed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

Values = NDArray[np.float64]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
CLASS_COLOURS = ("#D55E00", "#0072B2", "#009E73")
ALL_COLOUR = "#0072B2"
PUBLISHED_COLOUR = "#000000"
GREY = "#666666"

_FEWEST_FOR_VIOLIN = 5
# Fonts for words that the first does not have, where they are installed.
_FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Microsoft YaHei",
    "Hiragino Sans",
    "Noto Sans Devanagari",
    "Noto Sans Arabic",
    "Arial Unicode MS",
)


@contextmanager
def style() -> Iterator[None]:
    """Sets fonts and colours while figures are made or saved."""
    installed = {font.name for font in fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]
    settings: dict[Any, Any] = {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.axisbelow": True,
        "figure.titlesize": 12,
        "font.family": fonts,
        "font.size": 10,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "path.sketch": None,
        "svg.fonttype": "path",
        "svg.hashsalt": "faithattn",
        "text.parse_math": False,
        "text.usetex": False,
    }
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        # A glyph that no font has is drawn as a box, which is all there is to say about it.
        warnings.filterwarnings("ignore", message=r"(Matplotlib currently|Glyph).*")
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of so many inches, which can measure text."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Writes each figure as PNG and SVG; the same figure gives the same bytes.

    Args:
        figures: Figures by name.
        folder: Where to; made if need be.

    Returns:
        The files written.

    Raises:
        OSError: If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with style(), _quiet_fonts():
        for name, figure in figures.items():
            png, svg = folder / f"{name}.png", folder / f"{name}.svg"
            figure.savefig(png, dpi=150)
            figure.savefig(svg, metadata={"Date": None})
            paths += [png, svg]
    return paths


def violin(axes: Axes, values: Values, centre: float, colour: str, side: int = 0) -> None:
    """Draws how values spread along x around a height on y, with median and quartiles.

    Args:
        axes: Where to.
        values: Defined values; single points where there are few.
        centre: The height; the violin is .8 high, or .4 on one side.
        colour: Its colour.
        side: 0 for both sides, 1 for the upper half, -1 for the lower.
    """
    if len(values) == 0:
        return
    middle = centre + 0.13 * side
    if len(values) < _FEWEST_FOR_VIOLIN or np.ptp(values) < 1e-9:
        axes.plot(values, np.full(len(values), middle), "o", color=colour, alpha=0.6, ms=5)
        return
    grid = np.linspace(values.min(), values.max(), 200)
    density = gaussian_kde(values)(grid)
    height = 0.4 * density / density.max()
    lower = centre - (height if side <= 0 else 0)
    upper = centre + (height if side >= 0 else 0)
    axes.fill_between(grid, lower, upper, color=colour, alpha=0.45, linewidth=0)
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    axes.plot(quartiles[[0, 2]], [middle, middle], color=colour, linewidth=3, alpha=0.9)
    axes.plot(
        quartiles[1], middle, "o", color="white", markeredgecolor=colour, markeredgewidth=1.5, ms=6
    )


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keeps the notes of the font machinery off the terminal."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
