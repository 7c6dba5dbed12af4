"""One picture of four panels: seconds of a call against T, N, K and P, from the sweep's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faithattn.planted.calibration.canvas import new_figure, style
from tests.benchmarks.sweep import Cell

_LABELS = {
    "T": "words of each text",
    "N": "texts in a batch",
    "K": "adversaries of each text",
    "P": "shuffles of each text",
}
_PUBLISHED = "adversarial_attention, published"
# Okabe and Ito's colours, with markers that tell the lines apart without them.
_STYLES = {
    "permutation_test": ("#0072B2", "o"),
    "gradient_correlation": ("#009E73", "s"),
    "loo_correlation": ("#E69F00", "^"),
    "adversarial_attention, exact": ("#D55E00", "D"),
    "adversarial_attention, search": ("#CC79A7", "v"),
    _PUBLISHED: ("#000000", "P"),
}
# Whose line the plain loop beside a function is drawn as: the searches share one.
_LOOPS = {
    "permutation_test": "permutation_test",
    "gradient_correlation": "gradient_correlation",
    "loo_correlation": "loo_correlation",
    "adversarial_attention, search": _PUBLISHED,
}
_MODEL = ", BiLSTM"


def draw(cells: Iterable[Cell], folder: Path) -> Path:
    """Writes ``cost.png`` and returns its path.

    Raises:
        ValueError: If there is no cell of the model that is shown.
    """
    shown = [cell for cell in cells if cell.series.endswith(_MODEL)]
    if not shown:
        raise ValueError(f"cells must hold one of{_MODEL}; got none. Run the sweep.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cost.png"
    with style():
        figure = new_figure(11, 8.5)
        panels = figure.subplots(2, 2, sharey=True).flat
        for axes, (axis, label) in zip(panels, _LABELS.items(), strict=True):
            _panel(axes, axis, label, [cell for cell in shown if cell.axis == axis])
        _legend(figure)
        figure.savefig(path, dpi=150)
    return path


def _panel(axes: Axes, axis: str, label: str, cells: list[Cell]) -> None:
    if not cells:
        axes.set_axis_off()
        return
    for name, (colour, marker) in _STYLES.items():
        mine = sorted(
            (cell for cell in cells if cell.series == name + _MODEL), key=lambda cell: cell.value
        )
        times = [(cell.value, cell.row.ours) for cell in mine]
        _line(axes, times, color=colour, marker=marker)
        if name in _LOOPS:
            colour, marker = _STYLES[_LOOPS[name]]
            times = [
                (cell.value, cell.row.baseline)
                for cell in mine
                if not math.isnan(cell.row.baseline)
            ]
            _line(axes, times, color=colour, marker=marker, markerfacecolor="white", linestyle="--")
    axes.set(xscale="log", yscale="log", ylabel="CPU time of a call [s]")
    axes.set_xlabel(f"{axis}, {label}{_others(axis, cells)}")
    axes.grid(alpha=0.3)
    values = sorted({cell.value for cell in cells})
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.yaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.minorticks_off()


def _line(axes: Axes, times: list[tuple[int, float]], **options: Any) -> None:
    axes.plot([value for value, _ in times], [seconds for _, seconds in times], **options)


def _others(axis: str, cells: list[Cell]) -> str:
    """What the other numbers are, in brackets."""
    rest = cells[0].setting._asdict()
    return f" ({', '.join(f'{name} = {rest[name]}' for name in rest if name != axis)})"


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, label=name)
        for name, (colour, marker) in _STYLES.items()
    ]
    handles.append(Line2D([], [], color="#666666", label="faithattn"))
    handles.append(Line2D([], [], color="#666666", linestyle="--", label="plain loop of the same"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle("Cost of the four tests, BiLSTM, one thread")
