"""What an audit was asked, of which model, by which software: all that its numbers depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faithattn.errors import AuditError

SCHEMA = 1
FORMAT = "faithattn audit"
DTYPES = ("float64", "int64", "bool")

_SUBJECTS = {"settings": "{}", "model": "the model's {}", "versions": "the version of {}"}
_SHOWN = 40  # characters of a value in a sentence
_ABSENT = object()


@dataclass(frozen=True)
class Manifest:
    """What the numbers of an audit depend on, as JSON holds it.

    Attributes:
        schema: Version of the folder's layout.
        settings: Metrics with their options, views, seed and whatever else was asked.
        model: Class, digest and size of the model.
        versions: Software by name.
        columns: Names of the columns with their types, ``"float64"``,
            ``"int64"`` or ``"bool"``, in the order of their files.

    Raises:
        ValueError: If a value is none of JSON's, a type is unknown, a name
            occurs twice or there is no column.

    Examples:
        >>> columns = [("instance", "int64"), ("loo_correlation.statistic", "float64")]
        >>> old, new = (Manifest(1, {"seed": seed}, {}, {}, columns) for seed in (0, 1))
        >>> old.difference(new)
        ['seed was 0 and is 1']
    """

    schema: int
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    versions: Mapping[str, Any]
    columns: Sequence[tuple[str, str]]

    def __post_init__(self) -> None:
        for name in _SUBJECTS:
            object.__setattr__(self, name, _as_json(name, dict(getattr(self, name))))
        columns = tuple((str(name), str(dtype)) for name, dtype in self.columns)
        names = [name for name, _ in columns]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"columns must be at least one, each with a name of its own; got {names}. "
                "Name each once."
            )
        for name, dtype in columns:
            if dtype not in DTYPES:
                raise ValueError(
                    f"columns must be of type {', '.join(DTYPES)}; got {dtype} for {name}. "
                    "Use float64 for numbers."
                )
        object.__setattr__(self, "columns", columns)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        return {
            "format": FORMAT,
            "schema": self.schema,
            "settings": dict(self.settings),
            "model": dict(self.model),
            "versions": dict(self.versions),
            "columns": [list(column) for column in self.columns],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Manifest:
        """The manifest that ``to_dict`` gave.

        Raises:
            AuditError: If the values are no manifest, or one of another schema.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise AuditError(
                f"manifest.json must be one of an audit; got none with format {FORMAT!r}. "
                "Give the folder that an audit wrote."
            )
        if values.get("schema") != SCHEMA:
            raise AuditError(
                f"manifest.json must have schema {SCHEMA}; got {values.get('schema')!r}. "
                "Read it with the version of faithattn that wrote it."
            )
        try:
            parts = (values[name] for name in ("settings", "model", "versions", "columns"))
            return cls(SCHEMA, *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise AuditError(
                f"manifest.json must be whole; got one without {error}. Begin in a new folder."
            ) from error

    def difference(self, other: Manifest) -> list[str]:
        """What changed from this manifest to another, a plain sentence each.

        Columns follow from the rest, and are named only if nothing else changed.
        """
        found = list(_changes("schema", self.schema, other.schema))
        for name, subject in _SUBJECTS.items():
            before, after = getattr(self, name), getattr(other, name)
            for key in sorted({*before, *after}):
                values = before.get(key, _ABSENT), after.get(key, _ABSENT)
                found += _changes(subject.format(key), *values)
        if not found:
            before, after = dict(self.columns), dict(other.columns)
            for key in [*before, *(key for key in after if key not in before)]:
                values = before.get(key, _ABSENT), after.get(key, _ABSENT)
                found += _changes(f"the type of column {key}", *values)
            if not found and self.columns != other.columns:
                found.append("the order of the columns changed")
        return found


def _as_json(name: str, values: dict[str, Any]) -> Any:
    """What is read again from the JSON of values, so that tuples equal lists."""
    try:
        return json.loads(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be values that JSON holds; got some that it does not: {error}. "
            "Turn them into text or numbers."
        ) from error


def _changes(subject: str, before: Any, after: Any) -> Iterator[str]:
    """Sentences about the differing leaves of nested mappings."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            values = before.get(key, _ABSENT), after.get(key, _ABSENT)
            yield from _changes(f"{subject}.{key}", *values)
    # True equals 1, and 1.0 equals 1, but JSON tells them apart.
    elif before is not after and (before, type(before)) != (after, type(after)):
        if before is _ABSENT:
            yield f"{subject} was not given and is {_shown(after)}"
        elif after is _ABSENT:
            yield f"{subject} was {_shown(before)} and is not given"
        else:
            yield f"{subject} was {_shown(before, after)} and is {_shown(after, before)}"


def _shown(value: Any, other: Any = _ABSENT) -> str:
    """A value as a sentence has it: a long one around the place where it differs from another."""
    text = json.dumps(value, ensure_ascii=False)
    start = 0
    if other is not _ABSENT:
        beside = json.dumps(other, ensure_ascii=False)
        same = next((k for k, pair in enumerate(zip(text, beside)) if pair[0] != pair[1]), 0)  # noqa: B905 -- lengths differ
        start = same - 10 if same > _SHOWN - 10 else 0
    window = text[start : start + _SHOWN]
    return "…" * (start > 0) + window + "…" * (start + _SHOWN < len(text))
