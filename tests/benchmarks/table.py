"""The one table: its head, its lines, and what was missed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tests.benchmarks.timing import Row

WIDTH = 150
HEAD = (
    f"{'task':<66}{'ours':>8}{'baseline':>9}{'ratio':>7}{'+-':>7}{'goal':>8}"
    f"{'limit':>12}{'MB':>6}  against"
)


def line(row: Row, *, judged: bool = True) -> str:
    """One row; a goal that is not met has a ``!``."""
    goal = "" if row.goal is None else ratio(row.goal)
    goal += "!" if judged and row.missed else " "
    limit = "" if row.limit is None else f"{ratio(row.limit)} {row.unit:<4}"
    peak = "" if row.peak is None else f"{row.peak:.0f}"
    return (
        f"{row.task:<66}{duration(row.ours):>8}{duration(row.baseline):>9}{ratio(row.ratio):>7}"
        f"{ratio(row.noise):>7}{goal:>8}{limit:>12}{peak:>6}  {row.against}"
    ).rstrip()


def duration(value: float) -> str:
    """Seconds with three digits and a unit that suits them."""
    if math.isnan(value):
        return "-"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{_three(value * factor)} {unit}"
    return f"{value * 1e6:.2f} us"


def ratio(value: float) -> str:
    """Three digits, and no exponent for what ratios are."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if 0 < value < 0.1 else _three(value)


def missed(rows: Iterable[Row]) -> list[str]:
    """How many goals there were, and those not met."""
    goals = [row for row in rows if row.goal is not None or row.broken]
    below = [row for row in goals if row.missed]
    return [
        f"{len(goals) - len(below)} of {len(goals)} goals are met",
        *(f"  missed: {row.task}, against {row.against}: {_reason(row)}" for row in below),
    ]


def _reason(row: Row) -> str:
    return row.broken or f"{ratio(row.ratio)}, goal {ratio(row.goal or math.nan)}"


def _three(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"
