"""What several figures share: groups of instances, histograms, published marks, legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from faithattn.paper.experiment import Experiment
from faithattn.paper.report.drawing import ALL_COLOUR, CLASS_COLOURS, PUBLISHED_COLOUR, Values
from faithattn.paper.report.names import plain

Handle: TypeAlias = Patch | Line2D


class Group(NamedTuple):
    """Instances drawn in one colour; ``number`` is their class, None for all."""

    name: str
    number: int | None
    colour: str
    members: NDArray[np.bool_]


def groups(experiment: Experiment) -> list[Group]:
    """Returns the predicted classes where they are two or three, else all instances as one."""
    predicted = experiment.gradient.predicted.numpy()
    labels = experiment.dataset.labels
    if len(labels) > len(CLASS_COLOURS):
        return [Group("all instances", None, ALL_COLOUR, np.ones(len(predicted), bool))]
    return [
        Group(f"predicted {plain(label, 24)}", number, CLASS_COLOURS[number], predicted == number)
        for number, label in enumerate(labels)
    ]


def histogram(axes: Axes, experiment: Experiment, tensor: Tensor, edges: Values) -> None:
    """Draws the histogram of each group, one over the other."""
    values = array(tensor)
    for group in groups(experiment):
        chosen = values[group.members & ~np.isnan(values)]
        axes.hist(chosen, bins=list(edges), color=group.colour, alpha=0.4)
        axes.hist(chosen, bins=list(edges), color=group.colour, histtype="step", linewidth=1.2)


def mark_published_means(axes: Axes, experiment: Experiment, measure: str) -> list[Handle]:
    """Marks the published mean, or those of the classes, by dashed lines.

    Returns:
        What the legend then needs.
    """
    lines = [(experiment.published(measure), PUBLISHED_COLOUR, "published mean")]
    if lines[0][0] is None:
        lines = [
            (experiment.published(measure, str(group.number)), group.colour, "published means")
            for group in groups(experiment)
        ]
    handles: list[Handle] = []
    for figure, colour, name in lines:
        if figure is not None and not math.isnan(figure.mean):
            axes.axvline(figure.mean, color=colour, linewidth=1.4, linestyle="--")
            handles = [Line2D([], [], color=PUBLISHED_COLOUR, ls="--", lw=1.4, label=name)]
    return handles


def mark_published_median(
    axes: Axes, experiment: Experiment, measure: str, name: str, group: Group, height: float
) -> float | None:
    """Marks the published median of one range of attention; returns it if there is one."""
    suffix = "" if group.number is None else f" class {group.number}"
    figure = experiment.published(measure, name + suffix)
    if figure is None or math.isnan(figure.median):
        return None
    axes.plot(figure.median, height, "D", mfc="none", color=PUBLISHED_COLOUR, ms=6)
    return figure.median


def diamond(label: str) -> Line2D:
    """Returns the legend entry of the diamonds that stand for published figures."""
    return Line2D([], [], color=PUBLISHED_COLOUR, marker="D", mfc="none", ls="", label=label)


def add_legend(figure: Figure, experiment: Experiment, extra: Sequence[Handle]) -> None:
    """Puts the legend below the figure, where it covers nothing."""
    every = groups(experiment)
    handles = [Patch(color=each.colour, alpha=0.6, label=each.name) for each in every]
    shown = [*(handles if len(every) > 1 else []), *extra]
    if shown:
        figure.legend(handles=shown, loc="outside lower center", ncols=min(4, len(shown)))


def described(tensor: Tensor) -> str:
    """Returns mean, spread and the number of undefined values in words."""
    values = array(tensor)
    kept = values[~np.isnan(values)]
    undefined = f", {len(values) - len(kept)} undefined" if len(kept) < len(values) else ""
    if len(kept) == 0:
        return f"no values{undefined}"
    spread = f" ± {kept.std(ddof=1):.2f}" if len(kept) > 1 else ""
    return f"mean {kept.mean():.2f}{spread}{undefined}"


def array(tensor: Tensor) -> Values:
    """Returns a tensor as an array of double precision."""
    return np.asarray(tensor.detach().double().cpu().numpy(), dtype=np.float64)
