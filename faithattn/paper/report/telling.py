"""Texts word by word: the model's attention beside another that gives the same output."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from faithattn.pages.document import Explorer, Specimen, Track
from faithattn.pages.escaping import plain
from faithattn.pages.specimens import strongest_positions
from faithattn.paper.experiment import Experiment
from faithattn.paper.report.arrays import Values, array
from faithattn.paper.report.names import joined, predicted_labels, true_labels

INSTANCES = 24

_WORDS_SHOWN = 60
_WORDS_LEAST = 6
_LABELS = 3  # of several labels, so many are named
_NONE = "no label"

Labels: TypeAlias = tuple[int, ...]


def explorer(experiment: Experiment, count: int = INSTANCES) -> Explorer | None:
    """The most telling texts; None where no text has other attention that keeps the output.

    Args:
        experiment: What they belong to.
        count: How many.
    """
    chosen = telling_instances(experiment, count)
    if not chosen:
        return None
    true, predicted = true_labels(experiment), predicted_labels(experiment)
    several, known = experiment.dataset.kind == "labels", None not in predicted
    specimens = tuple(_specimen(experiment, row, true[row], predicted[row]) for row in chosen)
    grouped_by = ("predicted " if known else "") + ("labels" if several else "class")
    return Explorer("instances", grouped_by, specimens)


def telling_instances(experiment: Experiment, count: int = INSTANCES) -> list[int]:
    """Rows with a large divergence from strong attention, the most telling first.

    Args:
        experiment: What they belong to.
        count: How many.
    """
    result, length = experiment.adversarial, experiment.gradient.mask.sum(1)
    # In a short text every weight is large: what counts is how far it is above an equal share.
    strength = result.max_attention - 1 / length
    score = (result.max_jsd * strength).masked_fill(~result.feasible[:, 0], 0)
    # Short enough to be read at once, where there are such.
    readable = ((length >= _WORDS_LEAST) & (length <= _WORDS_SHOWN)).double()
    order = (score.nan_to_num() * (0.1 + readable)).sort(descending=True, stable=True).indices
    return [row for row in order.tolist() if score[row] > 0][:count]


def _specimen(experiment: Experiment, row: int, true: Labels, predicted: Labels | None) -> Specimen:
    """One text with its scores, cut around its strongest words where it is long."""
    result, mask = experiment.adversarial, experiment.gradient.mask[row]
    scores = {
        "the model's attention": array(result.original[row][mask]),
        "other attention, same output": array(result.strongest[row][mask]),
        "gradients": array(experiment.gradient.importance[row][mask]),
        "leave-one-out": array(experiment.loo.importance[row][mask]),
    }
    own, other = list(scores.values())[:2]
    kept = strongest_positions(np.maximum(own, other).tolist(), _WORDS_SHOWN)
    strongest = float(max(own.max(), other.max()))
    tracks = tuple(
        _track(name, values, kept, strongest if place < 2 else None)
        for place, (name, values) in enumerate(scores.items())
    )
    tokens = experiment.examples[row].tokens
    group = true if predicted is None else predicted
    return Specimen(
        _title(experiment, row, true, predicted),
        plain(joined(experiment, group) or _NONE, 40),
        tuple(tokens[place] for place in kept),
        tracks,
        {
            "JSD": float(result.max_jsd[row]),
            "largest weight": float(result.max_attention[row]),
            "tau gradients": float(experiment.gradient.statistic[row]),
            "tau leave-one-out": float(experiment.loo.statistic[row]),
            "TVD shuffled": float(experiment.permutation.median_tvd[row]),
            "words": int(mask.sum()),
        },
        _change(experiment, row, len(kept) < len(tokens)),
        tuple(kept),
    )


def _track(name: str, values: Values, kept: list[int], strongest: float | None) -> Track:
    """One row of numbers; those of attention share the strongest of both."""
    largest = float(np.nanmax(np.abs(values), initial=0.0)) if strongest is None else strongest
    kind = "scores" if strongest is None else "weights"
    return Track(name, tuple(values[kept].tolist()), largest, kind)


def _title(experiment: Experiment, row: int, true: Labels, predicted: Labels | None) -> str:
    """Which instance it is, and what the model says of it."""
    second = plain(" ".join(experiment.examples[row].question), 48)
    if second:
        second = f"{'hypothesis: ' if experiment.dataset.kind == 'pairs' else ''}{second} · "
    said = [f"true {_some(experiment, true)}"]
    if predicted is not None:
        said.insert(0, f"predicted {_some(experiment, predicted)}")
    return f"#{experiment.instances[row]}  {second}{', '.join(said)}"


def _some(experiment: Experiment, labels: Labels) -> str:
    """The class, or the first of several labels and how many more there are."""
    if experiment.dataset.kind != "labels":
        return joined(experiment, labels, width=16)
    more = f" + {len(labels) - _LABELS}" if len(labels) > _LABELS else ""
    return f"[{joined(experiment, labels[:_LABELS], width=16)}{more}]" if labels else _NONE


def _change(experiment: Experiment, row: int, cut: bool) -> str:
    """How little the output changes, and how much the attention."""
    result = experiment.adversarial
    shown = " The strongest words are shown with their neighbours." if cut else ""
    return (
        f"With the other attention the output moves by {result.tvd[row, 0]:.3f}; JSD "
        f"{result.max_jsd[row]:.2f} of at most 0.69.{shown}"
    )
