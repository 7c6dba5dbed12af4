"""The one number of each metric that an audit sums up: what it is, and how to read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from faithattn.audits.measuring.plan import Plan
from faithattn.metrics.scores.question import Score
from faithattn.metrics.scores.table import SCORES

LN2 = 0.6931471805599453
_OWN = ("field", "quantity", "larger_is_faithful", "share", "caution")


@dataclass(frozen=True)
class Headline:
    """What the number of a metric is.

    Attributes:
        metric: The metric.
        field: Which of its columns.
        quantity: What the number is, in a few words.
        larger_is_faithful: Which way it points.
        title: What is done, for headings.
        question: What the metric asks, a plain question; empty if nobody wrote it.
        sentence: How the number is defined; empty if nobody wrote it.
        source: Where it comes from; empty where that is unknown.
        ends: The smallest and the largest number there is, where outputs are
            probabilities; None where there are none.
        open_ended: Whether outputs of other kinds may go beyond the larger end.
        pvalue: Column of its p-value; empty where there is none.
        correlation: Whether it is a rank correlation, 0 for unrelated rankings.
        share: Whether it is 0 or 1.
        caution: Where calibration found the metric wanting; empty if nowhere.
    """

    metric: str
    field: str
    quantity: str
    larger_is_faithful: bool
    title: str
    question: str = ""
    sentence: str = ""
    source: str = ""
    ends: tuple[float, float] | None = None
    open_ended: bool = False
    pvalue: str = ""
    correlation: bool = False
    share: bool = False
    caution: str = ""


def title_of(metric: str, quantity: str = "") -> str:
    """A metric in a heading.

    Args:
        metric: Its name.
        quantity: What its numbers are, for metrics other than the tests.

    Examples:
        >>> title_of("permutation_test"), title_of("my_score", "share of commas")
        ('Attention shuffled', 'My score: share of commas')
    """
    if metric in HEADLINES:
        return HEADLINES[metric].title
    name = metric.replace("_", " ")
    title = name[:1].upper() + name[1:]
    return f"{title}: {quantity}" if quantity and quantity != name else title


def headlines_of(plan: Plan) -> tuple[Headline, ...]:
    """The numbers that an audit of this plan sums up, in order."""
    found = []
    for each in plan.asked:
        known = HEADLINES[each.metric] if each.score is None else _of_score(each.score)
        found.append(_fitted(known, [name for name, _ in each.fields]))
    return tuple(found)


def own_headlines(plan: Plan) -> dict[str, dict[str, Any]]:
    """What a report must be told of the caller's own metrics, by name, ready for JSON.

    A score of the caller's may have the name of one of the library, but not of a test.
    """
    scores = (each.score for each in plan.asked if each.score is not None)
    return {
        score.name: {name: getattr(_of_score(score), name) for name in _OWN}
        for score in scores
        if score is not SCORES.get(score.name)
    }


def known_headlines(
    metrics: Collection[str], own: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
) -> tuple[Headline, ...]:
    """The same as :func:`headlines_of`, of an audit that is read again.

    Args:
        metrics: The metrics, in order.
        own: What :func:`own_headlines` gave.
        columns: Names of the audit's columns.
    """
    found = []
    for metric in metrics:
        if metric in own:
            known = Headline(
                metric=metric, title=title_of(metric, own[metric]["quantity"]), **own[metric]
            )
        else:
            known = HEADLINES[metric] if metric in HEADLINES else _of_score(SCORES[metric])
        start = f"{metric}."
        fields = [name[len(start) :] for name in columns if name.startswith(start)]
        found.append(_fitted(known, [name.partition("@")[0] for name in fields]))
    return tuple(found)


def _fitted(headline: Headline, fields: Sequence[str]) -> Headline:
    """The headline of these columns: the caller's orders of erasure have columns of their names."""
    return headline if headline.field in fields else replace(headline, field=fields[0])


def _of_score(score: Score) -> Headline:
    """What the number of a score is."""
    return Headline(
        score.name,
        "value",
        score.title,
        score.larger_is_faithful,
        title_of(score.name, score.title),
        share=score.share,
        caution=score.caution,
    )


def _test(metric: str, field: str, title: str, question: str, **more: Any) -> Headline:
    """A test, which is a score among others too."""
    score = SCORES[metric]
    return Headline(
        metric,
        field,
        score.title,
        score.larger_is_faithful,
        title,
        question,
        caution=score.caution,
        **more,
    )


_JAIN = "Jain and Wallace 2019, Attention is not Explanation, arXiv 1902.10186"
_SERRANO = "Serrano and Smith 2019, Is Attention Interpretable?, arXiv 1906.03731"
_TAU: dict[str, Any] = {
    "source": _JAIN,
    "ends": (-1.0, 1.0),
    "pvalue": "pvalue",
    "correlation": True,
}
HEADLINES: Mapping[str, Headline] = {
    headline.metric: headline
    for headline in (
        _test(
            "gradient_correlation",
            "statistic",
            "Attention against gradients",
            "Does attention rank positions as gradients do?",
            sentence="Kendall tau between attention and gradient times input, word by word: 1 is "
            "the same order of importance, 0 unrelated, -1 reversed.",
            **_TAU,
        ),
        _test(
            "loo_correlation",
            "statistic",
            "Attention against leave-one-out",
            "Does attention rank positions as leaving each one out does?",
            sentence="Kendall tau between attention and how far the output moves when each word is "
            "left out: 1 is the same order of importance, 0 unrelated, -1 reversed.",
            **_TAU,
        ),
        _test(
            "permutation_test",
            "median_tvd",
            "Attention shuffled",
            "Does the output change when attention is shuffled?",
            sentence="Median over shuffles of the total variation distance between the output and "
            "the output with attention shuffled, 0 to 1: near 0, it does not matter where "
            "attention points.",
            source=_JAIN,
            ends=(0.0, 1.0),
            open_ended=True,
            pvalue="pvalue",
        ),
        _test(
            "adversarial_attention",
            "max_jsd",
            "Other attention, same output",
            "Could quite other attention have given the same output?",
            sentence="Largest Jensen-Shannon divergence from the model's attention, 0 to ln 2 = "
            "0.693 nats, among attention found that keeps the output within epsilon; where none "
            "is found it is 0.",
            source=_JAIN,
            ends=(0.0, LN2),
        ),
        _test(
            "single_weight_erasure",
            "delta_change",
            "The largest weight erased",
            "Does the largest weight matter more than another?",
            sentence="How far the output moves without the largest weight, less how far it moves "
            "without another one drawn at random.",
            source=_SERRANO,
        ),
        _test(
            "erasure_to_flip",
            "censored_attention",
            "Weights erased until the decision flips",
            "How many weights must go, largest first, until the decision flips?",
            sentence="Share of the weights erased, in the order of attention, until the predicted "
            "class changes; 1 where it never does.",
            source=_SERRANO,
            ends=(0.0, 1.0),
        ),
    )
}
