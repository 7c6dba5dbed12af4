"""Style of drawings by Matplotlib; no pyplot, so nothing global is left changed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

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
