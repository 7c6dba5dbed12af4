"""A model held against a stored baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faithattn.adapters.view import AttentionView
from faithattn.audits.evidence import Evidence
from faithattn.audits.headlines import headlines_of, own_headlines
from faithattn.audits.measuring.asked import Metrics
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.report import Report
from faithattn.statistics import none_if_nan
from faithattn.testing.baseline import Baseline, rounded, versions
from faithattn.testing.change import BETTER, SAME, Change, compare
from faithattn.testing.gathering import gather, planned
from faithattn.testing.limits import require_shares

TOLERANCE = 0.01


@dataclass(frozen=True)
class Checked:
    """A model held against its baseline.

    Attributes:
        path: File of the baseline.
        outcome: ``"unchanged"``, ``"written"``; ``"changed"``; or, where
            nothing can be compared, ``"no baseline"``, ``"other settings"``
            or ``"other data"``.
        changes: Change of every metric, where it could be compared.
        reasons: What stood in the way, or is worth knowing.
        remedy: How to write the baseline.
        means: Mean, interval and counts by metric, as far as they were measured.
        report: The report of the audit behind it; None where nothing was measured.
    """

    path: Path
    outcome: str
    changes: tuple[Change, ...] = ()
    reasons: tuple[str, ...] = ()
    remedy: str = ""
    means: Mapping[str, Mapping[str, Any]] | None = None
    report: Report | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every metric kept to its baseline, or the baseline was written."""
        return self.outcome in (SAME, "written")

    def settle(self) -> Checked:
        """Returns itself if the model kept to its baseline.

        Raises:
            AssertionError: If it did not; the text says what changed.
        """
        __tracebackhide__ = True
        if not self.passed:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        lines = [f"{self.outcome}: {self.path}", *self.reasons, *map(str, self.changes)]
        moved = [each for each in self.changes if each.outcome != SAME]
        if moved and all(each.outcome == BETTER for each in moved):
            lines.append(f"The model is better; update the baseline: {self.remedy}")
        elif not self.passed:
            lines.append(f"Where this is meant, update the baseline: {self.remedy}")
        return "\n".join(lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain values for JSON, one mapping a metric; one in all where none was measured."""
        shared = {
            "kind": "baseline",
            "file": self.path.name,
            "reasons": list(self.reasons),
            "text": str(self),
        }
        if not self.changes:
            means = self.means or {"": {}}
            return [
                {
                    "metric": name,
                    "quantity": "",
                    "asked": "baseline",
                    "outcome": self.outcome,
                    "passed": self.passed,
                    **{key: found.get(key) for key in ("mean", "low", "high", "n", "undefined")},
                    **shared,
                }
                for name, found in means.items()
            ]
        return [
            {
                **each.to_dict(),
                "mean": each.to_dict()["difference"],
                "undefined": each.lost,
                "asked": f"change within {each.tolerance:g}",
                "passed": each.outcome == SAME,
                **shared,
            }
            for each in self.changes
        ]


def check_baseline(
    model: object,
    batches: Iterable[Any],
    path: str | Path,
    *,
    metrics: Metrics = None,
    update: bool = False,
    tolerance: float | Mapping[str, float] = TOLERANCE,
    max_undefined: float = 0.5,
    seed: int = 0,
    view: AttentionView | None = None,
    prepare: Callable[[Any], Any] | None = None,
) -> Checked:
    """Requires every metric to be what it was, instance by instance.

    The values of each instance are paired with those stored. The check fails
    where the 95 % interval of the mean difference lies beyond the tolerance as
    a whole, in either direction: an improvement is a change that the baseline
    must be told. Nothing is written unless ``update`` says so.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs, or :class:`~faithattn.audits.batch.Batch` objects; the
            same as those of the baseline.
        path: File of the baseline, JSON.
        metrics: Names or scores, or a mapping from names to options; None is
            the four published tests.
        update: Whether to write the baseline instead of comparing.
        tolerance: What a mean may change by, in its own units; a mapping from
            metrics where they differ, with 0.01 for those not in it.
        max_undefined: Fails where a larger share of the instances that had a
            value have lost it.
        seed: Seed of whatever is drawn.
        view: Which attention is meant; not needed for one row.
        prepare: Turns what ``batches`` yields into inputs or a ``Batch``.

    Returns:
        The changes, which print themselves.

    Raises:
        AssertionError: If a metric changed, or there is no baseline of these
            data and settings; the text says which.
        ValueError: If an argument is out of range, or the file is no baseline.

    Examples:
        >>> import tempfile
        >>> from faithattn import planted
        >>> case, folder = planted.faithful(size=12), Path(tempfile.mkdtemp())
        >>> asked = {"metrics": ["gradient_correlation"], "path": folder / "faithful.json"}
        >>> check_baseline(case.model, [case.inputs], update=True, **asked).outcome
        'written'
        >>> check_baseline(case.model, [case.inputs], **asked).outcome
        'unchanged'
    """
    __tracebackhide__ = True
    return compared(
        model,
        batches,
        path,
        metrics=metrics,
        update=update,
        tolerance=tolerance,
        max_undefined=max_undefined,
        seed=seed,
        view=view,
        prepare=prepare,
        remedy="call again with update=True",
    ).settle()


def compared(
    model: object,
    batches: Iterable[Any],
    path: str | Path,
    *,
    metrics: Metrics = None,
    update: bool = False,
    tolerance: float | Mapping[str, float] = TOLERANCE,
    max_undefined: float = 0.5,
    seed: int = 0,
    view: AttentionView | None = None,
    prepare: Callable[[Any], Any] | None = None,
    remedy: str = "",
) -> Checked:
    """What :func:`check_baseline` finds, whatever the outcome; measures only where it must."""
    plan, path = planned(metrics, view, seed), Path(path)
    allowed = _tolerances(tolerance, [each.metric for each in plan.asked])
    require_shares(0.95, max_undefined)
    settings = _settings(plan)
    stored = None
    if not update:
        if not path.exists():
            return Checked(path, "no baseline", remedy=remedy)
        stored = Baseline.read(path)
        reasons = _differences("", stored.settings, settings)
        if reasons:
            return Checked(path, "other settings", reasons=tuple(reasons), remedy=remedy)
    report = gather(model, batches, metrics, view=view, seed=seed, prepare=prepare)
    data, summary = _data(report), {each.metric: _summary(each) for each in report.evidence}
    values = {name: np.asarray(report.headline_values(name)) for name in summary}
    if stored is None:
        Baseline(data, settings, versions(), summary, values).write(path)
        return Checked(path, "written", means=summary, report=report)
    other = _differences("data ", stored.data, data)
    if other:
        return Checked(path, "other data", (), tuple(other), remedy, summary, report)
    changes = tuple(
        compare(
            each.metric,
            each.quantity,
            each.larger_is_faithful,
            stored.values[each.metric],
            rounded(values[each.metric]),
            clusters=report.clusters,
            tolerance=allowed[each.metric],
            max_undefined=max_undefined,
        )
        for each in headlines_of(plan)
    )
    if all(each.outcome == SAME for each in changes):
        return Checked(path, SAME, changes, (), remedy, summary, report)
    notes = _differences("", stored.written_with, versions())
    return Checked(path, "changed", changes, tuple(notes), remedy, summary, report)


def _settings(plan: Plan) -> dict[str, Any]:
    """All that was asked; of the caller's own metrics how they are computed."""
    asked, own = plan.to_dict(), own_headlines(plan)
    metrics = {
        name: {"compute": each["score"]} if name in own else each["options"]
        for name, each in asked["metrics"].items()
    }
    (view,) = asked["views"].values()
    return {"seed": plan.seed, "view": view, "metrics": metrics}


def _data(report: Report) -> dict[str, Any]:
    """Digest of the data, and how many instances and batches they are."""
    known = report.provenance
    return {"digest": report.data_digest, **{key: known[key] for key in ("instances", "batches")}}


def _differences(prefix: str, before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two plain values, a sentence each."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            each
            for key in dict.fromkeys([*before, *now])
            for each in _differences(
                prefix, before.get(key), now.get(key), f"{name}.{key}" if name else str(key)
            )
        ]
    if before == now:
        return []
    shown = [repr(each)[:14] if name == "digest" else repr(each) for each in (before, now)]
    return [f"{prefix}{name} was {shown[0]} and is {shown[1]}"]


def _tolerances(given: float | Mapping[str, float], asked: Collection[str]) -> dict[str, float]:
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(asked, given)
    unknown = [name for name in by_name if name not in asked]
    if unknown:
        raise ValueError(
            f"tolerance must be for metrics that are checked; got {unknown[0]!r}. "
            f"Name some of {', '.join(asked)}."
        )
    for value in by_name.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValueError(
                f"tolerance must be a number of 0 or more; got {value!r}. "
                "Pass what a mean may change by."
            )
    return {name: float(by_name.get(name, TOLERANCE)) for name in asked}


def _summary(evidence: Evidence) -> dict[str, Any]:
    overall = evidence.overall
    numbers = {"mean": overall.mean, "low": overall.low, "high": overall.high}
    shown = {
        key: None if math.isnan(value) else none_if_nan(round(value, 6))
        for key, value in numbers.items()
    }
    return {**shown, "n": overall.n, "undefined": overall.undefined}
