"""Numbers, groups and instances as lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping

from faithattn.audits.evidence import Instance
from faithattn.statistics import Statistics

_WIDEST = 80  # characters of an instance's text


def show(value: float | None) -> str:
    """A number in three digits, smaller ones in two that count.

    Examples:
        >>> show(0.3412), show(0.00004), show(float("nan"))
        ('0.341', '4e-05', 'unknown')
    """
    if value is None or math.isnan(value):
        return "unknown"
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def group_table(groups: Mapping[str, Mapping[str, Statistics]]) -> list[str]:
    """A line a group, under a head; nothing of kinds that part nobody."""
    rows = [
        (f"{kind} {name}", each)
        for kind, found in groups.items()
        if len(found) > 1
        for name, each in found.items()
    ]
    if not rows:
        return []
    width = max(len(name) for name, _ in rows) + 2
    head = f"{'group':<{width}}{'n':>6}{'undefined':>11}{'mean':>9}  95 % interval"
    return [head] + [
        f"{name:<{width}}{each.n:>6}{each.undefined:>11}{show(each.mean):>9}"
        f"  {show(each.low)} to {show(each.high)}"
        for name, each in rows
    ]


def words_of(instance: Instance) -> tuple[str, ...]:
    """The words of an instance; none where only the numbers of its positions are known."""
    tokens = instance.tokens
    return () if tokens == tuple(map(str, range(len(tokens)))) else tokens


def instance_line(instance: Instance, column: str) -> str:
    """One instance: its value in a column, what is known about it, its text."""
    values = instance.values
    parts = [f"  #{instance.number}: {show(values[column])}"]
    if values.get("length") is not None:
        parts.append(f"length {values['length']:g}")
    if values.get("max_attention") is not None:
        parts.append(f"largest weight {show(values['max_attention'])}")
    text = " ".join(" ".join(words_of(instance)).split())
    if text:
        parts.append(text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}...")
    return ", ".join(parts)
