"""The matrix as a Markdown table in the docs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from .checks import CHECKS, weights_of
from .zoo import Case

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
START, END = "<!-- matrix: start -->", "<!-- matrix: end -->"
COLUMNS = ("architecture", "attention", "sites", *CHECKS)
PACKAGES = ("torch", "transformers", "timm")


@dataclass(frozen=True)
class Row:
    """What was measured on one case, as the cells of the table."""

    cells: tuple[str, ...]
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        line = f"| {' | '.join(self.cells)} |"
        return "\n".join([line, *(f"    {failure}" for failure in self.failures)])


def measured(case: Case) -> Row:
    """Every check of a case; one that fails is a cross, with its message below the row."""
    results = [_result(check, case) for check in (_count, *CHECKS.values())]
    names = ("sites", *CHECKS)
    failures = [
        f"{name}: {message}" for name, (_, message) in zip(names, results, strict=True) if message
    ]
    cells = (case.name, case.variant, *(cell for cell, _ in results))
    return Row(cells, tuple(failures))


def _result(check: Callable[[Case], str], case: Case) -> tuple[str, str]:
    """A cell, and what went wrong if anything did."""
    try:
        return check(case), ""
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return "✗", f"{type(error).__name__}: {first}"


def table(rows: list[Row]) -> str:
    """The rows below their columns."""
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
    return "\n".join([head, *(f"| {' | '.join(row.cells)} |" for row in rows)])


def write(rows: list[Row]) -> None:
    """Puts the table, and the versions it was measured with, between the markers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    body = f"{START}\nMeasured with {_versions()}.\n\n{table(rows)}\n{END}"
    parts = re.split(f"{START}.*?{END}", text, flags=re.DOTALL)
    if len(parts) != 2:
        raise ValueError(f"{PAGE.name} must hold the markers once; got {len(parts) - 1} times.")
    PAGE.write_text(parts[0] + body + parts[1], encoding="utf-8")


def _count(case: Case) -> str:
    return str(len(weights_of(case)))


def _versions() -> str:
    """What the table was measured with."""
    found = [package for package in PACKAGES if find_spec(package) is not None]
    return ", ".join(f"{package} {version(package).split('+')[0]}" for package in found)
