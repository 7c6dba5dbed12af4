"""Whether there is anything to decide on."""

from __future__ import annotations

import math

from faithattn.audits.evidence import Evidence
from faithattn.audits.verdicts.numbers import number
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.statistics import Statistics

_NO_UNIT = (
    "the output is a number whose unit only you know: pass Thresholds(regression_unit=...), the "
    "change that counts as 1"
)


def lacking(found: Statistics, evidence: Evidence, thresholds: Thresholds) -> str:
    """Why statistics decide nothing, or nothing: too few values, or too many missing ones."""
    defined = found.n - found.undefined
    if defined < thresholds.least_instances:
        some = f"only {defined} of {found.n} instances have a value"
        return f"{some}, fewer than {thresholds.least_instances}{_failed(evidence)}"
    if evidence.clusters is not None and evidence.clusters < thresholds.least_instances:
        one = "1 cluster" if evidence.clusters == 1 else f"{evidence.clusters} clusters"
        return f"the instances are of only {one}, fewer than {thresholds.least_instances}"
    if found.undefined > thresholds.most_undefined * found.n:
        some = f"{found.undefined} of {found.n} instances have no value"
        return f"{some}, more than {number(100 * thresholds.most_undefined)} %{_failed(evidence)}"
    if math.isnan(found.low) or math.isnan(found.high):
        return "there is no interval of the mean"
    return ""


def unit_of(evidence: Evidence, thresholds: Thresholds) -> float | None:
    """What an output change of 1 is called; None where only the user can know."""
    if evidence.settings.get("output") != "identity":
        return 1.0
    return thresholds.regression_unit


def without_unit(evidence: Evidence, thresholds: Thresholds) -> str:
    """Why changes of a regression output decide nothing, or nothing."""
    return _NO_UNIT if unit_of(evidence, thresholds) is None else ""


def between(evidence: Evidence) -> str:
    """What a larger sample might do, where the interval lies on neither side."""
    if math.isnan(evidence.detectable):
        return ""
    return f"; the sample would show a difference of {number(evidence.detectable)}"


def _failed(evidence: Evidence) -> str:
    return f" ({evidence.failed} of them failed)" if evidence.failed else ""
