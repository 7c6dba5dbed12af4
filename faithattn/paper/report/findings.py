"""The words ranked first, log-odds attention and replaced words, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from faithattn.paper.experiment import Experiment


def findings(experiment: Experiment) -> dict[str, Any]:
    """All of them as plain values; None where they were not measured.

    Args:
        experiment: What to describe.
    """
    top_k = [_flat(asdict(row), "ours") for row in experiment.described.top_k]
    return {"top_k": top_k or None, "log_odds": _log_odds(experiment)}


def _log_odds(experiment: Experiment) -> dict[str, Any] | None:
    """What log-odds did."""
    found, described = experiment.log_odds, experiment.described
    if found is None:
        return None
    ranges = [_flat(asdict(row), "ours") for row in described.substitution[1:]]
    replaced = [_flat(asdict(row), "fall") for row in described.replacement]
    return {
        "accuracy": found.accuracy,
        "effective_words": {
            name: _statistics(asdict(each)) for name, each in described.words.items()
        },
        "substitution": found.substitution.summary().to_dict() | {"by_jsd": ranges},
        "replacement": replaced or None,
    }


def _flat(row: dict[str, Any], inner: str) -> dict[str, Any]:
    """A row with its statistics beside its other values."""
    statistics = _statistics(row.pop(inner))
    return row | statistics


def _statistics(described: dict[str, Any]) -> dict[str, Any]:
    """Statistics of what has no p-values."""
    return {key: value for key, value in described.items() if key != "significant"}
