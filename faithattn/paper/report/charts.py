"""The published figures, drawn for an experiment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from faithattn.pages.charts.charts import row_chart
from faithattn.pages.charts.rows import Row, Style
from faithattn.pages.document import Chart
from faithattn.pages.escaping import plain
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.comparable import published_class_of
from faithattn.paper.published import PublishedFigure
from faithattn.paper.report.arrays import Values, array
from faithattn.paper.report.facts import median_length
from faithattn.paper.report.names import unit
from faithattn.results.correlation import Correlation
from faithattn.statistics import ATTENTION_BINS, mean_interval, null_spread

_LN2 = math.log(2)
_MOST_CLASSES = 3
_FEWEST_FOR_OUTLINE = 5
_POINTS = 80


class Group(NamedTuple):
    """Instances drawn in one row; ``number`` is their class, None for all."""

    name: str
    number: int | None
    members: NDArray[np.bool_]


def charts(experiment: Experiment) -> tuple[Chart, ...]:
    """Every figure of an experiment.

    Args:
        experiment: What to draw.
    """
    shuffled, adversarial = experiment.permutation.median_tvd, experiment.adversarial.max_jsd
    same = f"Other attention, output within {experiment.settings.epsilon:g}"
    return (
        _tau_histogram(experiment, "gradients", experiment.gradient),
        _tau_histogram(experiment, "leave-one-out", experiment.loo),
        _by_attention(
            experiment,
            ("permutation_test", shuffled),
            "permutation-by-attention",
            "Output change under shuffled attention",
            "median change of the output (TVD, of at most 1)",
        ),
        _adversarial_histogram(experiment, same),
        _by_attention(
            experiment,
            ("adversarial_attention", adversarial),
            "adversarial-by-attention",
            same,
            "largest Jensen-Shannon divergence (nats, of at most ln 2 = 0.69)",
        ),
        _pair_agreement(experiment),
    )


def groups(experiment: Experiment) -> list[Group]:
    """All instances, then the predicted classes where they are two or three.

    Args:
        experiment: What they belong to.
    """
    predicted = experiment.gradient.predicted.numpy()
    found = [Group("all", None, np.ones(len(predicted), bool))]
    labels = experiment.dataset.labels
    # Several labels leave no predicted class.
    if len(labels) <= _MOST_CLASSES and experiment.dataset.kind != "labels":
        found += [
            Group(f"predicted {plain(label, 24)}", number, predicted == number)
            for number, label in enumerate(labels)
        ]
    return found


def _tau_histogram(experiment: Experiment, name: str, result: Correlation) -> Chart:
    """Histograms of tau by class."""
    values = array(result.statistic)
    half = 1.96 * null_spread(median_length(experiment))
    band = None if math.isnan(half) else (-half, half)
    edges = np.linspace(-1, 1, 41)
    rows = [
        replace(_histogram(experiment, result.measure, values, group, edges), band=band)
        for group in groups(experiment)
    ]
    does = "do" if name == "gradients" else "does"
    return row_chart(
        f"tau-{name}",
        f"Attention and {name}: {described(values)}",
        f"How alike attention ranks words as {name} {does}: "
        f"each {unit(experiment)} counts once. "
        "Shaded: where 95 % of unrelated rankings of the median length lie.",
        rows,
        Style("Kendall tau", (-1, 1), tuple(edges.tolist()), height=64.0),
    )


def _adversarial_histogram(experiment: Experiment, title: str) -> Chart:
    """Histogram of the largest divergence by class."""
    values = array(experiment.adversarial.max_jsd)
    edges = np.linspace(0, _LN2, 29)
    rows = [
        _histogram(experiment, "adversarial_attention", values, group, edges)
        for group in groups(experiment)
    ]
    return row_chart(
        "adversarial-histogram",
        f"{title}: {described(values)}",
        "How far attention can be from the model's own while the output stays the same. At ln 2 "
        "it lies on entirely different words.",
        rows,
        Style(
            "largest Jensen-Shannon divergence from the model's attention (nats)",
            (0, 0.72),
            tuple(edges.tolist()),
            height=64.0,
            lines={"ln 2: no word in common": _LN2},
        ),
    )


def _histogram(
    experiment: Experiment, measure: str, values: Values, group: Group, edges: Values
) -> Row:
    """One group: its histogram, its mean and the published mean."""
    chosen = values[group.members]
    kept = chosen[~np.isnan(chosen)]
    name = (
        "Overall" if group.number is None else published_class_of(experiment.dataset, group.number)
    )
    figure = experiment.published(measure, name)
    return Row(
        group.name,
        counted(chosen),
        mean=float(kept.mean()) if len(kept) else math.nan,
        interval=mean_interval(kept) if len(kept) else None,
        marks={} if figure is None else {"published": figure.mean},
        heights=tuple(np.histogram(kept, edges)[0].astype(float).tolist()) if len(kept) else (),
    )


def _by_attention(
    experiment: Experiment, measured: tuple[str, Tensor], name: str, title: str, axis: str
) -> Chart:
    """Outlines by range of the largest attention weight and by class."""
    measure, values = measured[0], array(measured[1])
    bins = np.clip(np.floor(np.nan_to_num(array(experiment.gradient.max_attention)) * 4), 0, 3)
    every = groups(experiment)[1:] or groups(experiment)
    # Small effects are drawn large enough to be seen; the axis says how large they are.
    reach = max(float(np.nanmax(values, initial=0.0)), 0.02)
    edges = np.linspace(0, reach, _POINTS + 1)
    rows = []
    for place, range_name in enumerate(ATTENTION_BINS):
        for group in every:
            figure = _published_range(experiment, measure, range_name, group)
            marks = {} if figure is None else {"published": figure.median}
            label = range_name if group.number is None else f"{range_name}, {group.name}"
            rows.append(_outline(label, values[(bins == place) & group.members], edges, marks))
    drawn = " Published medians were read off a drawing." if any(row.marks for row in rows) else ""
    return row_chart(
        name,
        f"{title}: {described(values)}",
        f"By the largest attention weight. Bar: the middle half of the {unit(experiment)}s, with "
        f"their median.{drawn}",
        rows,
        Style(axis, (0, reach), tuple(edges.tolist()), height=42.0, smooth=True),
    )


def _published_range(
    experiment: Experiment, measure: str, range_name: str, group: Group
) -> PublishedFigure | None:
    """The published figure of a range of attention, of all instances or of a class."""
    if group.number is None:
        return experiment.published(measure, range_name)
    number = published_class_of(experiment.dataset, group.number)
    return experiment.published(measure, f"{range_name} class {number}") if number else None


def _pair_agreement(experiment: Experiment) -> Chart:
    """How far the three ways to rank words agree."""
    edges = np.linspace(-1, 1, _POINTS + 1)
    rows = []
    for label, measure, result in (
        ("attention and gradients", "attention_gradient", experiment.gradient),
        ("attention and leave-one-out", "attention_loo", experiment.loo),
        ("gradients and leave-one-out", "gradient_loo", experiment.gradient_loo),
    ):
        values = array(result.statistic)
        figure = experiment.published(measure)
        marks = {} if figure is None else {"published": figure.mean}
        rows.append(_outline(label, values, edges, marks, mean=True))
    return row_chart(
        "pair-agreement",
        "How far the three ways to rank words agree",
        "Agreement of attention with each importance score, and of the two scores with each "
        "other: more than the third row cannot be asked of the first two.",
        rows,
        Style("Kendall tau", (-1, 1), tuple(edges.tolist()), height=54.0, smooth=True),
    )


def _outline(
    label: str, chosen: Values, edges: Values, marks: dict[str, float], mean: bool = False
) -> Row:
    """One group as an outline of its density, with its quartiles."""
    kept = chosen[~np.isnan(chosen)]
    if not len(kept):
        return Row(label, counted(chosen), marks=marks)
    q25, median, q75 = np.quantile(kept, [0.25, 0.5, 0.75]).tolist()
    return Row(
        label,
        counted(chosen),
        mean=float(kept.mean()) if mean else math.nan,
        interval=mean_interval(kept) if mean else None,
        quartiles=(q25, median, q75),
        marks=marks,
        heights=tuple(_density(kept, edges)),
    )


def _density(kept: Values, edges: Values) -> Iterator[float]:
    """Heights of an outline between the smallest and the largest value; none where it has none."""
    if len(kept) < _FEWEST_FOR_OUTLINE or np.ptp(kept) < 1e-9:
        return
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (centres >= kept.min()) & (centres <= kept.max())
    if inside.sum() > 1:
        yield from np.where(inside, gaussian_kde(kept)(centres), 0.0).tolist()


def counted(chosen: Sequence[float] | Values) -> str:
    """How many instances a row stands for.

    Args:
        chosen: Their values.
    """
    undefined = int(np.isnan(chosen).sum())
    if len(chosen) == undefined:
        return f"{undefined} undefined" if undefined else "no instances"
    return f"n = {len(chosen) - undefined:,}"


def described(values: Values) -> str:
    """Mean, spread and the number of undefined values in words.

    Args:
        values: Values; nan where undefined.
    """
    kept = values[~np.isnan(values)]
    undefined = f", {len(values) - len(kept)} undefined" if len(kept) < len(values) else ""
    if len(kept) == 0:
        return f"no values{undefined}"
    spread = f" ± {kept.std(ddof=1):.2f}" if len(kept) > 1 else ""
    return f"mean {kept.mean():.2f}{spread}{undefined}"
