"""The rules of the tests that change attention: shuffle, replace, erase the top weight."""

from __future__ import annotations

from faithattn.audits.evidence import CANNOT_TELL, CONTRADICTS, SUPPORTS, Evidence
from faithattn.audits.verdicts.enough import between, lacking, unit_of, without_unit
from faithattn.audits.verdicts.numbers import interval, number
from faithattn.audits.verdicts.thresholds import Thresholds

_OF_UNITS = ", in units of regression_unit where the output is a number"


def shuffling_words(thresholds: Thresholds) -> str:
    """The rule of the permutation test in words."""
    return (
        "Supports if the 95 % interval of the mean output change (median over shuffles) lies at "
        f"{number(thresholds.least_change)} or above, contradicts if it lies at "
        f"{number(thresholds.most_idle_change)} or below{_OF_UNITS}"
    )


def shuffling(evidence: Evidence, thresholds: Thresholds) -> tuple[str, str]:
    """Conclusion, and the numbers behind it."""
    found, unit = evidence.overall, unit_of(evidence, thresholds)
    missing = lacking(found, evidence, thresholds) or without_unit(evidence, thresholds)
    if missing or unit is None:
        return CANNOT_TELL, missing
    says = f"mean output change {interval(found)}"
    if found.low >= thresholds.least_change * unit:
        return SUPPORTS, says
    if found.high <= thresholds.most_idle_change * unit:
        return CONTRADICTS, says
    return CANNOT_TELL, f"{says}{between(evidence)}"


def adversary_words(thresholds: Thresholds) -> str:
    """The rule of the adversary in words."""
    return (
        "Contradicts if attention as different as attention can be gives almost the same output "
        "in so many instances that the 95 % interval of their share lies at "
        f"{number(thresholds.least_unhindered)} or above. Supports if it is proven that none goes "
        "farther than a share of the way there whose mean has an interval at "
        f"{number(thresholds.most_reach)} or below. Texts of one or two positions count as "
        "undefined, and being merely far decides nothing"
    )


def adversary(evidence: Evidence, thresholds: Thresholds) -> tuple[str, str]:
    """Conclusion, and the numbers behind it."""
    free, bound = (evidence.further.get(name) for name in ("unhindered", "bound"))
    if free is None or bound is None:
        return CANNOT_TELL, "how far any attention could go was not measured"
    missing = lacking(free, evidence, thresholds) or without_unit(evidence, thresholds)
    if missing:
        return CANNOT_TELL, missing
    hindered = f"nothing hinders the adversary in a share of {interval(free)} of the instances"
    limit = f"it is proven to go no farther than {interval(bound)} of the way"
    if free.low >= thresholds.least_unhindered:
        return CONTRADICTS, hindered
    if bound.high <= thresholds.most_reach:
        return SUPPORTS, limit
    return CANNOT_TELL, f"{hindered}, and {limit}"


def top_weight_words(thresholds: Thresholds) -> str:
    """The rule of erasing the top weight in words."""
    return (
        "Supports if the 95 % interval of the mean output change without the top weight, less that "
        f"without another, lies at {number(thresholds.least_top_effect)} or above{_OF_UNITS}. "
        "Never contradicts: where others matter as much as the top, the difference is small too"
    )


def top_weight(evidence: Evidence, thresholds: Thresholds) -> tuple[str, str]:
    """Conclusion, and the numbers behind it."""
    found, unit = evidence.overall, unit_of(evidence, thresholds)
    missing = lacking(found, evidence, thresholds) or without_unit(evidence, thresholds)
    if missing or unit is None:
        return CANNOT_TELL, missing
    says = f"mean difference {interval(found)}"
    if found.low >= thresholds.least_top_effect * unit:
        return SUPPORTS, says
    return CANNOT_TELL, f"{says}{between(evidence)}"
