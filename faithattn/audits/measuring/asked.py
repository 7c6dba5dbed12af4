"""What an audit is asked to measure: names, options and scores, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from faithattn.audits.measuring.described import described
from faithattn.audits.measuring.metrics import FLOAT, METRICS, TESTS, Fields
from faithattn.metrics.scores.question import Score
from faithattn.metrics.scores.table import SCORES

Metrics: TypeAlias = "str | Score | Sequence[str | Score] | Mapping[str, Mapping[str, Any]] | None"
NAMES = (*METRICS, *(name for name in SCORES if name not in METRICS))


@dataclass(frozen=True, eq=False)
class Asked:
    """A metric that is asked for.

    Attributes:
        metric: Its name.
        options: Its options, all of them; none of a score.
        score: How it is computed; None for a test.
    """

    metric: str
    options: Mapping[str, Any]
    score: Score | None = None

    @property
    def fields(self) -> Fields:
        """Names and kinds of its columns, without controls."""
        if self.score is not None:
            return (("value", FLOAT),)
        return METRICS[self.metric].fields(self.options)

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the columns of the same quantity for another explanation."""
        if self.score is not None:
            return () if self.score.attention_only else ("random",)
        return METRICS[self.metric].controls

    def to_dict(self) -> dict[str, Any]:
        """Everything that its numbers depend on, ready for JSON."""
        found: dict[str, Any] = {
            "options": {name: described(value) for name, value in self.options.items()}
        }
        if self.score is not None:
            found["score"] = described(self.score.compute)
        return found


def asked_of(metrics: Metrics, removal: Any) -> tuple[Asked, ...]:
    """The metrics that are asked for, with all their options.

    ``removal`` is that of the metrics that name none.
    """
    entries = _entries(metrics)
    asked = tuple(_asked(entry, options, removal) for entry, options in entries)
    names = [each.metric for each in asked]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"metrics must be named once each; got {twice[0]!r} twice. Drop one.")
    return asked


def _entries(metrics: object) -> list[tuple[str | Score, Mapping[str, Any]]]:
    """Names or scores with the options that are given."""
    if metrics is None:
        return [(name, {}) for name in TESTS]
    if isinstance(metrics, str | Score):
        return [(metrics, {})]
    if isinstance(metrics, Mapping):
        for name, options in metrics.items():
            if not isinstance(options, Mapping):
                raise TypeError(
                    "metrics must map names to options by name; got "
                    f"{options!r} for {name!r}. Pass {{{name!r}: {{}}}} for its defaults."
                )
        entries = list(metrics.items())
    elif isinstance(metrics, Sequence):
        entries = [(each, {}) for each in metrics]
    else:
        raise TypeError(
            "metrics must be names, Score objects or a mapping from names to options; "
            f"got {type(metrics).__name__}. Pass ['permutation_test'], or None for the four tests."
        )
    if not entries:
        raise ValueError("metrics must hold at least one; got none. Leave it out for four tests.")
    return entries


def _asked(entry: object, given: Mapping[str, Any], removal: Any) -> Asked:
    score = entry if isinstance(entry, Score) else None
    name = entry.name if isinstance(entry, Score) else entry
    if score is not None and name in METRICS:
        if score is not SCORES.get(str(name)):
            raise ValueError(
                f"metrics must not give a score the name of a test; got {name!r}. Rename it."
            )
        score = None
    if score is None and (not isinstance(name, str) or name not in NAMES):
        raise ValueError(
            f"metrics must be among {', '.join(NAMES)}, or Score objects; got {name!r}. "
            "Leave metrics out for the four tests."
        )
    if name in METRICS:
        return Asked(str(name), _options(str(name), given, removal))
    score = SCORES[str(name)] if score is None else score
    if not score.name or "@" in score.name:
        raise ValueError(
            f"metrics must be scores with a name without '@'; got {score.name!r}. Rename it."
        )
    if given:
        raise ValueError(
            f"{score.name} must be asked for without options, as it takes none; "
            f"got {', '.join(map(str, given))}. Write a Score that sets them."
        )
    return Asked(score.name, {}, score)


def _options(name: str, given: Mapping[str, Any], removal: Any) -> dict[str, Any]:
    """All options of a test; raises for those that it has not, or that are out of range."""
    metric = METRICS[name]
    options = metric.defaults
    if "removal" in options:
        options["removal"] = removal
    unknown = [each for each in given if each not in options]
    if unknown:
        raise ValueError(
            f"options of {name} must be among {', '.join(options)}; got {unknown[0]!r}. "
            "Seed, view and target are those of the audit."
        )
    options.update(given)
    metric.check(**options)
    return options
