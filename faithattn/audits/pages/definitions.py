"""What each number means, in one sentence, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Meaning(NamedTuple):
    """Of one metric.

    Attributes:
        title: What is asked.
        field: The column of its numbers, without the metric's name.
        short: The number in a few words.
        sentence: How it is defined.
        source: Where it comes from; empty where it is our own.
        ends: Ends of its axis; None where it has none.
    """

    title: str
    field: str
    short: str
    sentence: str
    source: str = ""
    ends: tuple[float, float] | None = None


_JAIN = "Jain and Wallace 2019, Attention is not Explanation, arXiv 1902.10186"
_SERRANO = "Serrano and Smith 2019, Is Attention Interpretable?, arXiv 1906.03731"
LN2 = 0.6931471805599453

_MEANINGS = {
    "gradient_correlation": Meaning(
        "Attention against gradients",
        "statistic",
        "tau with gradients",
        "Kendall tau between attention and gradient times input, word by word: 1 is the same order "
        "of importance, 0 unrelated, -1 reversed.",
        _JAIN,
        (-1.0, 1.0),
    ),
    "loo_correlation": Meaning(
        "Attention against leave-one-out",
        "statistic",
        "tau with leave-one-out",
        "Kendall tau between attention and how far the output moves when each word is left out: 1 "
        "is the same order of importance, 0 unrelated, -1 reversed.",
        _JAIN,
        (-1.0, 1.0),
    ),
    "permutation_test": Meaning(
        "Attention shuffled",
        "median_tvd",
        "TVD when shuffled",
        "Median over shuffles of the total variation distance between the output and the output "
        "with attention shuffled, 0 to 1: near 0, it does not matter where attention points.",
        _JAIN,
        (0.0, 1.0),
    ),
    "adversarial_attention": Meaning(
        "Other attention, same output",
        "max_jsd",
        "JSD of the adversary",
        "Largest Jensen-Shannon divergence from the model's attention, 0 to ln 2 = 0.693 nats, "
        "among attention found that keeps the output within epsilon; where none is found it is 0.",
        _JAIN,
        (0.0, LN2),
    ),
    "single_weight_erasure": Meaning(
        "The largest weight erased",
        "delta_change",
        "effect of the top weight",
        "How far the output moves without the largest weight, less how far it moves without "
        "another one drawn at random.",
        _SERRANO,
    ),
    "erasure_to_flip": Meaning(
        "Weights erased until the decision flips",
        "censored_attention",
        "share erased",
        "Share of the weights erased, in the order of attention, until the predicted class "
        "changes.",
        _SERRANO,
        (0.0, 1.0),
    ),
}

STATISTICS = {
    "instances": "how many were tested.",
    "undefined": "instances without a number (one word, all scores equal, or failed), counted and "
    "left out of the rest.",
    "failed": "instances of batches on which the metric failed.",
    "95 % interval": "bootstrap interval of the mean over instances, or over their clusters: where "
    "the mean of many more such instances would lie.",
    "unrelated (95 %)": "where the mean would lie if attention had nothing to do with importance.",
    "noise ceiling": "agreement of the two importance scores with each other: more than that "
    "cannot be asked of attention.",
    "random explanation": "the same number for random weights in place of attention.",
    "uniform attention": "the same number for equal weights in place of attention.",
    "significant": "instances whose p-value stays below 5 % after Benjamini and Hochberg's "
    "correction for their number.",
    "detectable": "the smallest difference of the mean from a fixed value that a sample of this "
    "size would show four times out of five, at the 5 % level.",
}


def meaning(metric: str, quantity: str = "") -> Meaning:
    """What is known about a metric.

    Args:
        metric: Its name.
        quantity: What its numbers are, for metrics of the caller's own.

    Examples:
        >>> meaning("permutation_test").field
        'median_tvd'
        >>> meaning("my_score", "share of commas").title
        'My score: share of commas'
    """
    if metric in _MEANINGS:
        return _MEANINGS[metric]
    name = metric.replace("_", " ")
    title = name[:1].upper() + name[1:]
    title = f"{title}: {quantity}" if quantity and quantity != name else title
    return Meaning(title, "value", quantity or name, "")


def sources(metrics: Iterable[str]) -> list[str]:
    """Works to cite for the metrics, each once.

    Args:
        metrics: Their names.
    """
    return list(dict.fromkeys(found for each in metrics if (found := meaning(each).source)))
