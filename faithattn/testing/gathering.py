"""What is measured: an audit without controls, of one view, that lasts as long as its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from faithattn.adapters.view import AttentionView, check_view
from faithattn.audits.audit import audit
from faithattn.audits.feeding import Prepare
from faithattn.audits.measuring.asked import NAMES, Metrics
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.report import Report
from faithattn.metrics.scores.question import Score


def only(metric: object, options: Mapping[str, Any]) -> Any:
    """One metric with its options, as an audit is asked for it.

    Raises:
        TypeError: If it is neither a name nor a score.
        ValueError: If no metric has that name.
    """
    if not isinstance(metric, str | Score):
        raise TypeError(
            f"metric must be a name or a Score; got {type(metric).__name__}. "
            "Wrap a function as Score(name, title, larger_is_faithful, compute=function)."
        )
    if isinstance(metric, str) and metric not in NAMES:
        raise ValueError(
            f"metric must be one of {', '.join(NAMES)}, or a Score; got {metric!r}. "
            "Check the spelling."
        )
    return {metric: options}


def planned(metrics: Metrics, view: AttentionView | None, seed: int) -> Plan:
    """What will be measured, checked before anything is.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name or an option is none that can be.
    """
    check_view(view)
    return Plan.of(metrics, view, seed, controls=False)


def gather(
    model: object,
    batches: Iterable[Any],
    metrics: Any,
    *,
    view: AttentionView | None,
    seed: int,
    prepare: Prepare | None,
) -> Report:
    """Measures every metric on every batch."""
    return audit(
        model, batches, metrics=metrics, view=view, seed=seed, prepare=prepare, controls=False
    )
