"""Evidence in, verdict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from faithattn.audits.evidence import CANNOT_TELL, Evidence, Verdict
from faithattn.audits.verdicts import agreement, changes
from faithattn.audits.verdicts.claims import CLAIMS
from faithattn.audits.verdicts.numbers import interval, number
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.metrics.scores.table import SCORES

Decide: TypeAlias = Callable[[Evidence, Thresholds], tuple[str, str]]
Words: TypeAlias = Callable[[Thresholds], str]

_PEOPLE = "It compares attention with what people point at, which is not what the model does."
_UNCALIBRATED = "No rule was calibrated for it on models whose answer is known."


class _Rule(NamedTuple):
    """How a test is decided that needs no other, and that in words."""

    decide: Decide
    words: Words


_RULES = {
    "permutation_test": _Rule(changes.shuffling, changes.shuffling_words),
    "adversarial_attention": _Rule(changes.adversary, changes.adversary_words),
    "single_weight_erasure": _Rule(changes.top_weight, changes.top_weight_words),
}


def judge(
    evidence: Evidence, thresholds: Thresholds, *, beside: Sequence[Evidence] = ()
) -> Verdict:
    """Says whether evidence supports attention, contradicts it, or cannot tell.

    A test supports or contradicts only what it asks, which the rule says;
    rules look at the ends of intervals, never at a mean alone. Metrics that
    have no rule cannot tell: calibration found that they rank explanations
    of one model, not models by their use of attention.

    Args:
        evidence: What a metric found.
        thresholds: Where the lines are.
        beside: The other evidence of the audit. High agreement with gradients
            counts only beside a permutation test that changed the output.

    Returns:
        The verdict, with its rule and the numbers that decided.

    Examples:
        >>> import numpy as np
        >>> from faithattn.audits.verdicts.given import evidence_of_values
        >>> evidence = evidence_of_values("permutation_test", np.linspace(0.1, 0.3, 50))
        >>> judge(evidence, Thresholds()).conclusion
        'supports'
    """
    if evidence.metric not in CLAIMS:
        return _without_rule(evidence)
    rule = _RULES.get(evidence.metric)
    if rule is None:
        words = agreement.agreement_words(thresholds, evidence.metric)
        conclusion, because = agreement.agreement(evidence, thresholds, beside)
    else:
        words = rule.words(thresholds)
        conclusion, because = rule.decide(evidence, thresholds)
    return Verdict(
        evidence.metric,
        evidence.view,
        conclusion,
        f"Asks: {CLAIMS[evidence.metric].question} {words}. "
        f"Cannot tell otherwise, and with fewer than {thresholds.least_instances} defined "
        f"instances or more than {number(100 * thresholds.most_undefined)} % undefined ones.",
        because,
    )


def judge_all(evidences: Sequence[Evidence], thresholds: Thresholds) -> tuple[Verdict, ...]:
    """One verdict for each evidence, each judged beside the others.

    Examples:
        >>> judge_all([], Thresholds())
        ()
    """
    return tuple(judge(each, thresholds, beside=evidences) for each in evidences)


def _without_rule(evidence: Evidence) -> Verdict:
    score = SCORES.get(evidence.metric)
    if score is not None and score.kind == "plausibility":
        rule = _PEOPLE
    else:
        rule = evidence.caution or (score.caution if score else "") or _UNCALIBRATED
    says = f"mean {interval(evidence.overall)}, which decides nothing about the use of attention"
    return Verdict(evidence.metric, evidence.view, CANNOT_TELL, rule, says)
