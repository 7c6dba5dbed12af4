"""Names as a reader knows them."""

from __future__ import annotations

from collections.abc import Iterable

from faithattn.pages.escaping import plain
from faithattn.paper.experiment import Experiment

ENCODER_NAMES = {"bilstm": "BiLSTM", "cnn": "CNN", "average": "average"}
ATTENTION_NAMES = {
    "additive": "additive",
    "scaled_dot": "scaled dot-product",
    "log_odds": "fixed log-odds",
}
PAIR_NAMES = {
    "attention_gradient": "attention-gradient",
    "attention_loo": "attention-LOO",
    "gradient_loo": "gradient-LOO",
}
ORDER_NAMES = {
    "attention": "attention",
    "gradient": "gradients",
    "leave_one_out": "leave-one-out",
    "random": "random order",
}


def unit(experiment: Experiment) -> str:
    """What one instance is: a text, or a pair of texts.

    Args:
        experiment: What it belongs to.
    """
    return "pair" if experiment.dataset.kind == "pairs" else "text"


def true_labels(experiment: Experiment) -> list[tuple[int, ...]]:
    """The class or the labels that each tested instance has.

    Args:
        experiment: What they belong to.
    """
    return [
        (example.label,) if example.labels is None else example.labels
        for example in experiment.examples
    ]


def predicted_labels(experiment: Experiment) -> list[tuple[int, ...] | None]:
    """The class or the labels that the model gives each tested instance; None where not known.

    Args:
        experiment: What they belong to.
    """
    if experiment.predicted_labels is not None:
        return list(experiment.predicted_labels)
    classes = experiment.gradient.predicted.tolist()
    return [None if number < 0 else (number,) for number in classes]


def joined(
    experiment: Experiment, labels: Iterable[int], between: str = ", ", width: int | None = None
) -> str:
    """Names of a class or of labels on one line.

    Args:
        experiment: What they belong to.
        labels: Their numbers.
        between: What stands between two names.
        width: Characters to keep of each; None keeps all.
    """
    names = experiment.dataset.labels
    return between.join(plain(names[number], width) for number in labels)
