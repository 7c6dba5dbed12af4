"""What an assertion found: the evidence, and what follows for the limit."""

from __future__ import annotations

import math
import unittest
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.evidence import Evidence, Instance
from faithattn.audits.report import Report
from faithattn.statistics import Statistics, mean_bound, none_if_nan
from faithattn.testing.deciding import instances_to_decide
from faithattn.testing.limits import Limits
from faithattn.testing.wording import group_table, instance_line, show, words_of

PASSED, BELOW, ABOVE = "passed", "below", "above"
CANNOT_TELL, UNDEFINED = "cannot tell", "undefined"
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """A metric held against limits.

    Attributes:
        evidence: The metric over all instances and by group.
        limits: What was asked.
        outcome: ``"passed"``; ``"below"`` or ``"above"`` where the mean is
            clearly beyond a limit; ``"cannot tell"`` where the sample is too
            small; ``"undefined"`` where too many instances have no value.
        lower: One-sided lower bound of the mean, at the confidence asked.
        upper: One-sided upper bound.
        needed: About how many instances would decide; None where the sample
            decides, or no number would.
        worst: Instances furthest in the direction that the limit forbids.
        report: The report of the audit behind it.
    """

    evidence: Evidence
    limits: Limits
    outcome: str
    lower: float
    upper: float
    needed: int | None
    worst: tuple[Instance, ...]
    report: Report = field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the limit is kept, or the sample too small and that is let pass."""
        let_pass = self.outcome == CANNOT_TELL and self.limits.undecided == "pass"
        return self.outcome == PASSED or let_pass

    def settle(self) -> Finding:
        """Returns itself if the limit is kept.

        Raises:
            AssertionError: If it is not; the text is the evidence.
            unittest.SkipTest: If the sample cannot tell and that is to skip.
        """
        __tracebackhide__ = True
        if self.outcome == CANNOT_TELL and self.limits.undecided == "skip":
            raise unittest.SkipTest(f"{self.evidence.metric} ({self.limits}): {self._why()}")
        if not self.passed:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        found, overall = self.evidence, self.evidence.overall
        lines = [
            f"{found.metric}: {self._why()}",
            f"asked: mean {found.quantity} {self.limits}, by the one-sided "
            f"{100 * self.limits.confidence:g} % bound",
            f"found: mean {show(overall.mean)}, 95 % interval {show(overall.low)} to "
            f"{show(overall.high)}, n {overall.n}, undefined {overall.undefined}",
        ]
        if found.caution:
            lines.append(f"note: {found.caution}")
        lines += group_table(found.groups)
        if self.worst:
            lines.append(f"{len(self.worst)} {self._end} instances:")
            column = f"{found.metric}.{self.report.headlines[0].field}"
            lines += [instance_line(each, column) for each in self.worst]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers become None."""
        found = self.evidence.overall
        return {
            "kind": "limit",
            "metric": self.evidence.metric,
            "quantity": self.evidence.quantity,
            "asked": str(self.limits),
            "outcome": self.outcome,
            "passed": self.passed,
            **{name: none_if_nan(getattr(found, name)) for name in ("low", "high")},
            **{name: none_if_nan(getattr(self, name)) for name in ("lower", "upper")},
            "mean": none_if_nan(found.mean),
            "n": found.n,
            "undefined": found.undefined,
            "confidence": self.limits.confidence,
            "needed": self.needed,
            "detectable": none_if_nan(self.evidence.detectable),
            "groups": {
                kind: {name: plain_statistics(each) for name, each in groups.items()}
                for kind, groups in self.evidence.groups.items()
            },
            "worst": [_plain_instance(each) for each in self.worst],
            "text": str(self),
        }

    @property
    def _end(self) -> str:
        return "highest" if self.limits.at_least is None else "lowest"

    def _why(self) -> str:
        """The numbers that decided, in words."""
        found = self.evidence.overall
        if self.outcome == UNDEFINED:
            return (
                f"{found.undefined} of {found.n} instances have no value, "
                f"more than the share {self.limits.max_undefined:g} that may"
            )
        bounds = f"mean {show(found.mean)}, bounds {show(self.lower)} and {show(self.upper)}"
        if self.outcome == PASSED:
            return f"keeps to the limit: {bounds}"
        if self.outcome in (BELOW, ABOVE):
            return f"clearly {self.outcome} the limit: {bounds}"
        if self.needed is None:
            return f"cannot tell: {bounds}; no larger sample of this kind is sure to decide"
        return (
            f"cannot tell: {bounds}; with this spread about {self.needed} instances would decide "
            f"(these {found.n} show a difference of {show(self.evidence.detectable)} "
            "with probability 0.8)"
        )


def plain_statistics(value: Statistics) -> dict[str, Any]:
    """Statistics as JSON can hold them."""
    return {
        name: none_if_nan(each) if isinstance(each, float) else each
        for name, each in asdict(value).items()
    }


def _plain_instance(each: Instance) -> dict[str, Any]:
    return {"instance": each.number, "tokens": list(words_of(each)), "values": dict(each.values)}


def judge(report: Report, limits: Limits) -> Finding:
    """Holds the values of the one metric of an audit against limits."""
    (evidence,) = report.evidence
    values = np.asarray(report.headline_values(evidence.metric))
    clusters, overall = report.clusters, evidence.overall
    lower = mean_bound(values, "lower", clusters=clusters, confidence=limits.confidence)
    upper = mean_bound(values, "upper", clusters=clusters, confidence=limits.confidence)
    if overall.undefined > limits.max_undefined * overall.n or overall.undefined == overall.n:
        outcome, needed = UNDEFINED, None
    else:
        outcome, needed = _decide(limits, overall, lower, upper)
    worst = report.instances(_furthest(values, lowest=limits.at_least is not None))
    return Finding(evidence, limits, outcome, lower, upper, needed, tuple(worst), report)


def _decide(
    limits: Limits, overall: Statistics, lower: float, upper: float
) -> tuple[str, int | None]:
    """The outcome, and where it is open how many instances would decide."""
    open_limits = []
    for limit, bound, other, beyond in (
        (limits.at_least, lower, upper, BELOW),
        (limits.at_most, upper, lower, ABOVE),
    ):
        if limit is None:
            continue
        sign = 1 if beyond == BELOW else -1
        if sign * (other - limit) < 0:
            return beyond, None
        if not sign * (bound - limit) >= 0:  # an unknown bound keeps to nothing
            near = bound if sign * (overall.mean - limit) >= 0 else other
            open_limits.append((limit, near))
    if not open_limits:
        return PASSED, None
    known = overall.n - overall.undefined
    numbers = [
        instances_to_decide(known, overall.mean, bound, limit, limits.confidence)
        for limit, bound in open_limits
    ]
    found = [each for each in numbers if each is not None]
    return CANNOT_TELL, max(found) if len(found) == len(numbers) else None


def _furthest(values: NDArray[np.float64], *, lowest: bool) -> list[int]:
    """Ids of the instances with the smallest or the largest values, ties by id."""
    order = np.argsort(values if lowest else -values, kind="stable")  # nan comes last
    return [int(each) for each in order[:_SHOWN] if not math.isnan(values[each])]
