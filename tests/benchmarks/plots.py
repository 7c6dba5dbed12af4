"""One picture of four panels: seconds of a call against T, N, K and P, from the sweep's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faithattn.paper.report.drawing import new_figure, style
from tests.benchmarks.sweep import Cell

_LABELS = {
    "T": "T, words of each text (N = 8, K = 5, P = 100)",
    "N": "N, texts in a batch (T = 50, K = 5, P = 100)",
    "K": "K, adversaries of each text (T = 50, N = 32)",
    "P": "P, shuffles of each text (T = 50, N = 32)",
}
# Okabe and Ito's colours, with markers that tell the lines apart without them.
_STYLES = {
    "permutation_test": ("#0072B2", "o"),
    "gradient_correlation": ("#009E73", "s"),
    "loo_correlation": ("#E69F00", "^"),
    "adversarial_attention, exact": ("#D55E00", "D"),
    "adversarial_attention, search": ("#CC79A7", "v"),
    "adversarial_attention, published": ("#000000", "P"),
}
_MODEL = ", BiLSTM"


def draw(cells: Iterable[Cell], folder: Path) -> Path:
    """Writes ``cost.png`` and returns its path."""
    shown = [cell for cell in cells if cell.series.endswith(_MODEL)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cost.png"
    with style():
        figure = new_figure(11, 8.5)
        panels = figure.subplots(2, 2, sharey=True).flat
        for axes, (axis, label) in zip(panels, _LABELS.items(), strict=True):
            _panel(axes, [cell for cell in shown if cell.axis == axis])
            axes.set_xlabel(label)
            axes.set_ylabel("CPU time of a call [s]")
        _legend(figure)
        figure.savefig(path, dpi=150)
    return path


def _panel(axes: Axes, cells: list[Cell]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    for name, (colour, marker) in _STYLES.items():
        mine = sorted(
            (cell for cell in cells if cell.series == name + _MODEL), key=lambda cell: cell.value
        )
        places = [cell.value for cell in mine]
        axes.plot(places, [cell.row.ours for cell in mine], marker=marker, color=colour)
        known = [cell for cell in mine if not math.isnan(cell.row.baseline)]
        axes.plot(
            [cell.value for cell in known],
            [cell.row.baseline for cell in known],
            marker=marker,
            markerfacecolor="white",
            linestyle="--",
            color=colour,
        )
    values = sorted({cell.value for cell in cells})
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.minorticks_off()


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, label=name)
        for name, (colour, marker) in _STYLES.items()
    ]
    handles.append(Line2D([], [], color="#666666", label="faithattn"))
    handles.append(Line2D([], [], color="#666666", linestyle="--", label="plain loop of the same"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle("Cost of the four tests, BiLSTM, one thread")
