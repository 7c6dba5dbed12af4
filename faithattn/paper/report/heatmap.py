"""Texts word by word, coloured by attention: the model's own above another of the same output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from faithattn.paper.experiment import Experiment
from faithattn.paper.report.drawing import GREY, Values
from faithattn.paper.report.names import plain
from faithattn.paper.report.tables import heading

INSTANCES = 5

_WIDTH = 10.0  # inches
_MARGIN = 0.25
_LABEL = 0.95
_LINE = 0.25
_GAP = 0.06
_FONT = 9.5
_HEAD = 0.52
_WORDS_SHOWN = 60
_WORDS_LEAST = 6
_LONGEST_WORD = 28


class _Word(NamedTuple):
    """A word with its place (inches from the left, line) and its position in the text."""

    text: str
    left: float
    width: float
    line: int
    position: int | None


def draw_heatmaps(experiment: Experiment) -> Figure:
    """Draws the most telling instances: strong attention, and an adversary far from it."""
    chosen = telling_instances(experiment)
    # Measured on a figure of its own, as the height of this one follows from the words.
    ruler = _Ruler()
    blocks = [_Block(experiment, row, ruler) for row in chosen]
    height = 0.95 + sum(block.height for block in blocks)
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(_MARGIN, 0.32, heading(experiment), fontsize=12)
    said = (
        "The darker, the more attention. Each second text: other attention, same output."
        if chosen
        else "No instance has other attention that keeps the output."
    )
    axes.text(_MARGIN, 0.6, said, fontsize=_FONT, color=GREY)
    top = 0.85
    for block in blocks:
        block.draw(axes, top)
        top += block.height
    return figure


def telling_instances(experiment: Experiment, count: int = INSTANCES) -> list[int]:
    """Returns rows with a large divergence from strong attention, the most telling first."""
    result, length = experiment.adversarial, experiment.gradient.mask.sum(1)
    # In a short text every weight is large: what counts is how far it is above an equal share.
    strength = result.max_attention - 1 / length
    score = (result.max_jsd * strength).masked_fill(~result.feasible[:, 0], 0)
    # Short enough to be read at once, where there are such.
    readable = ((length >= _WORDS_LEAST) & (length <= _WORDS_SHOWN)).double()
    order = (score.nan_to_num() * (0.1 + readable)).sort(descending=True, stable=True).indices
    return [row for row in order.tolist() if score[row] > 0][:count]


class _Ruler:
    """Measures the width of texts in inches."""

    def __init__(self) -> None:
        self.figure = Figure(dpi=100)
        canvas: Any = FigureCanvasAgg(self.figure)
        self.renderer = canvas.get_renderer()
        self.known: dict[str, float] = {}

    def __call__(self, text: str) -> float:
        if text not in self.known:
            artist = Text(0, 0, text, fontsize=_FONT, figure=self.figure)
            self.known[text] = artist.get_window_extent(self.renderer).width / 100
        return self.known[text]


class _Block:
    """One instance: its title and its text twice."""

    def __init__(self, experiment: Experiment, row: int, ruler: _Ruler) -> None:
        example = experiment.examples[row]
        result, mask = experiment.adversarial, experiment.gradient.mask[row]
        self.own = result.original[row][mask].double().numpy()
        self.other = result.strongest[row][mask].double().numpy()
        shown = _shown(np.maximum(self.own, self.other))
        self.words = _layout(example.tokens, shown, ruler)
        self.title, self.change = _title(experiment, row), _change(experiment, row)
        self.lines = 1 + max(word.line for word in self.words)
        self.height = _HEAD + 2 * (self.lines * _LINE + _GAP) + 0.22

    def draw(self, axes: Axes, top: float) -> None:
        """Draws the instance from a height downwards."""
        axes.text(_MARGIN, top + 0.14, self.title, fontsize=_FONT, fontweight="bold", va="center")
        strongest = max(self.own.max(), self.other.max())
        axes.text(_MARGIN, top + 0.34, self.change, fontsize=_FONT, color=GREY, va="center")
        start = top + _HEAD
        for name, weights, palette in (
            ("model", self.own, "Blues"),
            ("other", self.other, "Oranges"),
        ):
            axes.text(_MARGIN, start + _LINE / 2, name, fontsize=_FONT, va="center", color=GREY)
            for word in self.words:
                weight = 0.0 if word.position is None else weights[word.position] / strongest
                _draw_word(axes, word, start, weight, palette)
            start += self.lines * _LINE + _GAP


def _draw_word(axes: Axes, word: _Word, start: float, weight: float, palette: str) -> None:
    """Draws one word on its background."""
    # The darkest tenth of a palette is too dark to read on.
    colour = colormaps[palette](0.9 * weight)
    y = start + word.line * _LINE
    if weight > 0.01:
        box = Rectangle((word.left - 0.03, y), word.width + 0.06, _LINE - 0.03, color=colour, lw=0)
        axes.add_patch(box)
    luminance = float(np.dot(colour[:3], (0.299, 0.587, 0.114)))
    ink = "white" if weight > 0.01 and luminance < 0.5 else "black"
    middle = y + (_LINE - 0.03) / 2
    axes.text(word.left, middle, word.text, fontsize=_FONT, va="center_baseline", color=ink)


def _layout(tokens: Sequence[str], shown: Sequence[int | None], ruler: _Ruler) -> list[_Word]:
    """Sets words side by side, breaking lines at the right margin."""
    words, left, line = [], _MARGIN + _LABEL, 0
    for position in shown:
        text = "…" if position is None else plain(tokens[position], _LONGEST_WORD)
        width = ruler(text)
        if left + width > _WIDTH - _MARGIN and left > _MARGIN + _LABEL:
            left, line = _MARGIN + _LABEL, line + 1
        words.append(_Word(text, left, width, line, position))
        left += width + 0.09
    return words


def _shown(weights: Values) -> list[int | None]:
    """Returns the positions to show, None for what is left out of a long text."""
    if len(weights) <= _WORDS_SHOWN:
        return list(range(len(weights)))
    kept: set[int] = set()
    for position in np.argsort(-weights, kind="stable"):
        near = range(max(0, position - 2), min(len(weights), position + 3))
        if len(kept | set(near)) > _WORDS_SHOWN:
            break
        kept |= set(near)
    shown: list[int | None] = []
    for position in sorted(kept):
        if position and position - 1 not in kept:
            shown.append(None)
        shown.append(position)
    return shown if len(weights) - 1 in kept else [*shown, None]


def _title(experiment: Experiment, row: int) -> str:
    """Returns which instance it is, and what the model says of it."""
    labels, example = experiment.dataset.labels, experiment.examples[row]
    question = f"{plain(' '.join(example.question), 48)}  " if example.question else ""
    predicted = labels[int(experiment.adversarial.predicted[row])]
    return (
        f"#{experiment.instances[row]}  {question}predicted {plain(predicted, 16)}, "
        f"true {plain(labels[example.label], 16)}"
    )


def _change(experiment: Experiment, row: int) -> str:
    """Returns how little the output changes, and how much the attention."""
    result = experiment.adversarial
    return (
        f"largest weight {result.max_attention[row]:.2f}; with the other attention the output "
        f"moves by {result.tvd[row, 0]:.3f}, JSD {result.max_jsd[row]:.2f} of at most 0.69"
    )
