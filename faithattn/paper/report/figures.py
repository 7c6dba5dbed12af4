"""The published figures, drawn for an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from faithattn.paper.experiment import Experiment
from faithattn.paper.report.drawing import ALL_COLOUR, GREY, new_figure, save_figures, style, violin
from faithattn.paper.report.figure_parts import (
    Handle,
    add_legend,
    array,
    described,
    diamond,
    groups,
    histogram,
    mark_published_means,
    mark_published_median,
)
from faithattn.paper.report.heatmap import draw_heatmaps
from faithattn.paper.report.tables import heading, median_length
from faithattn.results.correlation import Correlation
from faithattn.statistics import ATTENTION_BINS, mean_interval, null_spread

__all__ = ["CAPTIONS", "draw", "save_figures"]

CAPTIONS: Mapping[str, str] = {
    "tau-histograms": "How alike attention ranks words as gradients do (left) and as leave-one-out "
    "does (right), Kendall tau. Grey: where 95 % of unrelated rankings of the median length lie.",
    "permutation-violins": "How much the output changes when attention is shuffled, by the largest "
    "attention weight. Circle: median; bar: middle half.",
    "adversarial-histogram": "How far attention can be from the model's own while the output stays "
    "the same. At ln 2 it lies on entirely different words.",
    "adversarial-violins": "The same divergence, by the largest attention weight. Circle: median; "
    "bar: middle half.",
    "pair-agreement": "Agreement of attention with each importance score, and of the two scores "
    "with each other, Kendall tau. Circle: median; bar: middle half; cross: mean.",
    "heatmaps": "Attention of the model, and other attention that gives the same output, for "
    "instances where the model's attention is strong and the other very different.",
}

_LN2 = math.log(2)


def draw(experiment: Experiment) -> dict[str, Figure]:
    """Draws every figure.

    Args:
        experiment: What to draw.

    Returns:
        Figures by name, as in ``CAPTIONS``: ready for ``save_figures``, or to
        change further. No global state of Matplotlib is changed.
    """
    shuffled, adversarial = experiment.permutation.median_tvd, experiment.adversarial.max_jsd
    same = _same_output(experiment)
    with style():
        return {
            "tau-histograms": _tau_histograms(experiment),
            "permutation-violins": _by_attention(
                experiment,
                ("permutation_test", shuffled),
                f"Output change under shuffled attention: {described(shuffled)}",
                "median change of the output (TVD, of at most 1)",
                limit=1.0,
            ),
            "adversarial-histogram": _adversarial_histogram(experiment),
            "adversarial-violins": _by_attention(
                experiment,
                ("adversarial_attention", adversarial),
                f"{same}: {described(adversarial)}",
                "largest Jensen-Shannon divergence (nats, of at most ln 2 = 0.69)",
                limit=_LN2,
            ),
            "pair-agreement": _pair_agreement(experiment),
            "heatmaps": draw_heatmaps(experiment),
        }


def _tau_histograms(experiment: Experiment) -> Figure:
    """Histograms of tau by class, for gradients and for leave-one-out."""
    figure = new_figure(9, 4.2)
    figure.suptitle(heading(experiment))
    left, right = figure.subplots(1, 2, sharey=True)
    band = 1.96 * null_spread(median_length(experiment))
    published: list[Handle] = []
    for axes, name, result in (
        (left, "gradients", experiment.gradient),
        (right, "leave-one-out", experiment.loo),
    ):
        if not math.isnan(band):
            axes.axvspan(-band, band, color="black", alpha=0.07, linewidth=0)
        histogram(axes, experiment, result.statistic, np.linspace(-1, 1, 41))
        published = mark_published_means(axes, experiment, result.measure) or published
        axes.set(xlabel="Kendall tau", xticks=np.linspace(-1, 1, 5))
        axes.set_title(f"Attention and {name}\n{described(result.statistic)}")
    left.set_ylabel("instances")
    unrelated = Patch(color="black", alpha=0.07, label="unrelated rankings (95 %)")
    add_legend(figure, experiment, [unrelated, *published])
    return figure


def _adversarial_histogram(experiment: Experiment) -> Figure:
    """Histogram of the largest divergence by class."""
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    jsd = experiment.adversarial.max_jsd
    histogram(axes, experiment, jsd, np.linspace(0, _LN2, 29))
    published = mark_published_means(axes, experiment, "adversarial_attention")
    axes.axvline(_LN2, color=GREY, linewidth=1, linestyle=":")
    _note(axes, "ln 2: no word in common", (_LN2, 1.0), ("data", "axes fraction"), ha="right")
    axes.set(
        xlim=(0, 0.72),
        xlabel="largest Jensen-Shannon divergence from the model's attention (nats)",
        ylabel="instances",
    )
    axes.set_title(f"{_same_output(experiment)}: {described(jsd)}", pad=18)
    figure.suptitle(heading(experiment))
    add_legend(figure, experiment, published)
    return figure


def _by_attention(
    experiment: Experiment, measured: tuple[str, Tensor], title: str, label: str, limit: float
) -> Figure:
    """Violins by range of the largest attention weight, halves for two classes."""
    figure = new_figure(7.5, 4.8)
    axes = figure.subplots()
    measure, values = measured[0], array(measured[1])
    bins = np.clip(np.floor(np.nan_to_num(array(experiment.gradient.max_attention)) * 4), 0, 3)
    every, medians = groups(experiment), [0.0]
    for place, name in enumerate(ATTENTION_BINS):
        counts = []
        for group in every:
            chosen = values[(bins == place) & group.members & ~np.isnan(values)]
            side = 0 if len(every) != 2 else (-1, 1)[group.number or 0]
            violin(axes, chosen, place, group.colour, side)
            height = place + 0.25 * side
            median = mark_published_median(axes, experiment, measure, name, group, height)
            medians += [] if median is None else [median]
            counts.append(len(chosen))
        said = _counted(counts, int(np.isnan(values[bins == place]).sum()))
        _note(axes, said, (1.01, place), ("axes fraction", "data"), va="center")
    # Small effects are drawn large enough to be seen; the axis says how large they are.
    largest = max(float(np.nanmax(values, initial=0.0)), *medians, 0.02)
    reach = min(limit, 1.1 * largest)
    axes.set_yticks(range(4), list(ATTENTION_BINS))
    axes.set(ylim=(-0.5, 3.5), xlim=(-0.02 * reach, 1.02 * reach), xlabel=label)
    axes.set(ylabel="largest attention weight", title=title)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    figure.suptitle(heading(experiment))
    marks = [diamond("published median (off a drawing)")] if len(medians) > 1 else []
    add_legend(figure, experiment, marks)
    return figure


def _pair_agreement(experiment: Experiment) -> Figure:
    """Violins of tau for the three pairs, with means."""
    figure = new_figure(7.5, 4)
    axes = figure.subplots()
    pairs = (
        ("gradients and leave-one-out", "gradient_loo", experiment.gradient_loo),
        ("attention and leave-one-out", "attention_loo", experiment.loo),
        ("attention and gradients", "attention_gradient", experiment.gradient),
    )
    handles = [Line2D([], [], color="black", marker="|", ms=9, label="mean, 95 % interval")]
    marked = [_pair(axes, experiment, each, place) for place, each in enumerate(pairs)]
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(3), [name for name, _, _ in pairs])
    axes.set(ylim=(-0.5, 2.75), xlim=(-1.02, 1.02), xlabel="Kendall tau")
    axes.set(title="How far the three ways to rank words agree", xticks=np.linspace(-1, 1, 9))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    figure.suptitle(heading(experiment))
    handles += [diamond("published mean")] if any(marked) else []
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _pair(
    axes: Axes, experiment: Experiment, pair: tuple[str, str, Correlation], place: int
) -> bool:
    """Draws one pair; returns whether there is a published mean."""
    _, measure, result = pair
    values = array(result.statistic)
    values = values[~np.isnan(values)]
    violin(axes, values, place, ALL_COLOUR)
    if len(values):
        mean, height = float(values.mean()), place + 0.46
        axes.plot(mean_interval(values), (height, height), color="black", linewidth=1.5)
        axes.plot(mean, height, "|", color="black", ms=9)
        # Beside the cross: above it, there may be the mark of the next pair.
        _note(axes, f"   {mean:.2f}", (mean, height), ("data", "data"), va="center")
    figure = experiment.published(measure)
    if figure is None or math.isnan(figure.mean):
        return False
    axes.plot(figure.mean, place - 0.25, "D", mfc="none", color="black")
    return True


def _same_output(experiment: Experiment) -> str:
    return f"Different attention, output within {experiment.settings.epsilon:g}"


def _counted(counts: list[int], undefined: int) -> str:
    """Returns how many instances a row of violins stands for."""
    if not any(counts):
        return f"{undefined} undefined" if undefined else "no instances"
    return "n = " + " / ".join(f"{count:,}" for count in counts)


def _note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    coordinates: tuple[str, str],
    *,
    ha: str = "left",
    va: str = "bottom",
) -> None:
    """Writes a small grey note."""
    axes.annotate(
        text,
        place,
        xycoords=coordinates,
        color=GREY,
        fontsize=9,
        ha=ha,
        va=va,
    )
