"""Rank agreement of attention with importance, in an audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faithattn.audits.measuring.subject import Subject, Values
from faithattn.importance.leave_one_out import check_removal
from faithattn.metrics.correlation import (
    gradient_correlation_of,
    importance_agreement,
    loo_correlation_of,
)
from faithattn.results.correlation import Correlation

GRADIENT, LOO = "gradient_correlation", "loo_correlation"


def gradient(subject: Subject, options: Mapping[str, Any]) -> Values:
    """Agreement with gradients, of the attention and of random scores."""
    detach = options["detach_attention"]
    reading, importance = subject.shared.gradient(subject.name, detach)
    subject.positions["gradient"] = importance
    given = {"detached": detach, "tie_tolerance": options["tie_tolerance"]}
    found = gradient_correlation_of(reading, importance, **given)
    subject.correlations[GRADIENT] = found
    if not subject.controls:
        return _values(found)
    random = subject.random(reading)
    control = gradient_correlation_of(reading, importance, explanation=random, **given)
    return _values(found, control)


def leave_one_out(subject: Subject, options: Mapping[str, Any]) -> Values:
    """Agreement with leave-one-out, of the attention and of random scores."""
    removal, reading = options["removal"], subject.reading
    importance = subject.shared.removed(subject.name, removal).unsigned
    subject.positions["leave_one_out"] = importance
    given = {"removal": check_removal(removal), "tie_tolerance": options["tie_tolerance"]}
    found = loo_correlation_of(reading, importance, **given)
    subject.correlations[LOO] = found
    if not subject.controls:
        return _values(found)
    random = subject.random(reading)
    return _values(found, loo_correlation_of(reading, importance, explanation=random, **given))


def agreement(subject: Subject) -> Values:
    """Agreement of both importances with each other, beyond which attention cannot be expected.

    Nothing where one of them is missing.
    """
    done = subject.correlations
    if GRADIENT not in done or LOO not in done:
        return {}
    return _values(importance_agreement(done[GRADIENT], done[LOO]))


def _values(found: Correlation, control: Correlation | None = None) -> Values:
    values = {"statistic": found.statistic, "pvalue": found.pvalue}
    return values if control is None else {**values, "random": control.statistic}
