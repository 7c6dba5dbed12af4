"""The one number of each metric that an audit sums up, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from faithattn.audits.measuring.asked import Asked
from faithattn.audits.measuring.plan import Plan
from faithattn.metrics.scores.table import SCORES


@dataclass(frozen=True)
class Headline:
    """What the number of a metric is.

    Attributes:
        metric: The metric.
        field: Which of its columns.
        quantity: What the number is, in a few words.
        question: What the metric asks, a plain question.
        reading: How to read the number, a sentence.
        larger_is_faithful: Which way it points.
        pvalue: Column of its p-value; empty where there is none.
        low: Smallest value it can take.
        high: Largest value it can take.
        correlation: Whether it is a rank correlation, 0 for unrelated rankings.
        share: Whether it is 0 or 1.
        caution: Where calibration found the metric wanting; empty if nowhere.
    """

    metric: str
    field: str
    quantity: str
    question: str
    reading: str
    larger_is_faithful: bool
    pvalue: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    correlation: bool = False
    share: bool = False
    caution: str = ""


_TAU = "1 = positions in the same order, 0 = unrelated, -1 = reversed."
_TESTS = (
    Headline(
        "gradient_correlation",
        "statistic",
        "tau with gradients",
        "Does attention rank positions as gradients do?",
        f"Kendall tau: {_TAU}",
        True,
        pvalue="pvalue",
        low=-1,
        high=1,
        correlation=True,
    ),
    Headline(
        "loo_correlation",
        "statistic",
        "tau with leave-one-out",
        "Does attention rank positions as leaving each one out does?",
        f"Kendall tau: {_TAU}",
        True,
        pvalue="pvalue",
        low=-1,
        high=1,
        correlation=True,
    ),
    Headline(
        "permutation_test",
        "median_tvd",
        "median TVD of shuffles",
        "Does the output change when attention is shuffled?",
        "Median change of the output, 0 to 1: near 0, it does not matter where attention points.",
        True,
        pvalue="pvalue",
        low=0,
        high=1,
    ),
    Headline(
        "adversarial_attention",
        "max_jsd",
        "eps-max JSD",
        "Could quite other attention have given the same output?",
        "Largest divergence found at the same output, 0 to ln 2 = 0.693: near ln 2, attention on "
        "quite other positions would have done.",
        False,
        low=0,
        high=0.6931472,
    ),
    Headline(
        "single_weight_erasure",
        "delta_change",
        "JSD without the top weight, less another",
        "Does the largest weight matter more than another?",
        "Change of the output without the largest weight less that without another, in nats: "
        "below 0, the other matters more.",
        True,
    ),
    Headline(
        "erasure_to_flip",
        "censored_attention",
        "share of weights to the flip",
        "How many weights must go, largest first, until the decision flips?",
        "Share of the weights, 0 to 1; 1 where it never flips.",
        False,
        low=0,
        high=1,
    ),
)
_KNOWN = {headline.metric: headline for headline in _TESTS}


def headlines_of(plan: Plan) -> list[Headline]:
    """The numbers that an audit of this plan sums up, in order."""
    return [_headline(each) for each in plan.asked]


def _headline(asked: Asked) -> Headline:
    """What the number of a metric is."""
    if asked.score is None:
        known, names = _KNOWN[asked.metric], [name for name, _ in asked.fields]
        caution = SCORES[asked.metric].caution if asked.metric in SCORES else ""
        # The user's own orders of erasure have columns of their names.
        return replace(
            known, field=known.field if known.field in names else names[0], caution=caution
        )
    score = asked.score
    return Headline(
        asked.metric,
        "value",
        score.title,
        score.title,
        "Larger is more faithful." if score.larger_is_faithful else "Smaller is more faithful.",
        score.larger_is_faithful,
        share=score.share,
        caution=score.caution,
    )
