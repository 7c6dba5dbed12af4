"""The rule of the two correlations: attention against gradients, and against leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence

from faithattn.audits.evidence import CANNOT_TELL, CONTRADICTS, SUPPORTS, Evidence
from faithattn.audits.verdicts.enough import between, lacking, unit_of
from faithattn.audits.verdicts.numbers import interval, number
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.importance.removal.operators import REPLAYED

BUILT_IN = "gradient_correlation"
_OF_WEIGHTS = (
    "leaving out was done by setting the weight to 0, whose effect contains the weight: "
    "attention that does nothing agrees with it as well"
)


def agreement_words(thresholds: Thresholds, metric: str) -> str:
    """The rule in words."""
    text = (
        f"Supports if the 95 % interval of the mean tau lies at {number(thresholds.least_tau)} or "
        "above, and above what unrelated rankings and, where that was measured, a random "
        "explanation reach"
    )
    if metric == BUILT_IN:
        text += (
            ", and shuffling changes the output by more than "
            f"{number(thresholds.most_idle_change)} in the same audit, "
            "since a gradient at fixed attention contains the weight as a factor"
        )
    else:
        text += ", unless leaving out means a weight of 0"
    return (
        f"{text}. Contradicts if it lies at {number(thresholds.most_unrelated_tau)} or below, and "
        "the two importance scores, where both were measured, agree with each other by "
        f"{number(thresholds.least_tau)} or more"
    )


def agreement(
    evidence: Evidence, thresholds: Thresholds, beside: Sequence[Evidence]
) -> tuple[str, str]:
    """Conclusion, and the numbers behind it."""
    found = evidence.overall
    missing = lacking(found, evidence, thresholds)
    if missing:
        return CANNOT_TELL, missing
    if evidence.settings.get("removal") in REPLAYED:
        return CANNOT_TELL, _OF_WEIGHTS
    says = f"mean tau {interval(found)}"
    if found.low >= thresholds.least_tau:
        doubt = _doubt(evidence, thresholds, beside)
        return (CANNOT_TELL, f"{says}, but {doubt}") if doubt else (SUPPORTS, says)
    if found.high <= thresholds.most_unrelated_tau:
        ceiling = evidence.ceiling
        if ceiling is not None and not ceiling.low >= thresholds.least_tau:
            doubt = f"gradients and leave-one-out agree with each other by only {interval(ceiling)}"
            return CANNOT_TELL, f"{says}, but {doubt}"
        return CONTRADICTS, says
    return CANNOT_TELL, f"{says}{between(evidence)}"


def _doubt(evidence: Evidence, thresholds: Thresholds, beside: Sequence[Evidence]) -> str:
    """What else high agreement may come from; nothing if that was ruled out."""
    low = evidence.overall.low
    if evidence.null is not None and not low > evidence.null[1]:
        return f"unrelated rankings reach {number(evidence.null[1])} in texts of these lengths"
    random = evidence.controls.get("random")
    if random is not None and not low > random.high:
        return f"a random explanation has {interval(random)}"
    return _idle(evidence, thresholds, beside) if evidence.metric == BUILT_IN else ""


def _idle(evidence: Evidence, thresholds: Thresholds, beside: Sequence[Evidence]) -> str:
    """Why it is not known that the output uses attention at all; nothing if it is known."""
    why = "a gradient at fixed attention contains the weight as a factor, and"
    shuffled = [
        each for each in beside if each.metric == "permutation_test" and each.view == evidence.view
    ]
    if not shuffled:
        return f"{why} permutation_test, which would tell whether that counts, was not run"
    unit = unit_of(shuffled[0], thresholds)
    missing = lacking(shuffled[0].overall, shuffled[0], thresholds)
    if missing or unit is None:
        return f"{why} permutation_test cannot tell whether that counts"
    if shuffled[0].overall.low > thresholds.most_idle_change * unit:
        return ""
    return f"{why} shuffling changes the output by only {interval(shuffled[0].overall)}"
