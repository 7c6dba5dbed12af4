"""The folder of a report: a file of evidence for every test, and pages over all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faithattn._version import __version__
from faithattn.pytest_plugin.names import file_name
from faithattn.pytest_plugin.table import Row, counts, markdown

if TYPE_CHECKING:
    from faithattn.audits.report import Report

SCHEMA = 1
_BRIEF = ("metric", "quantity", "kind", "asked", "mean", "low", "high", "n", "undefined")


class Folder:
    """Where a report goes.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Makes the folder, and sees whether files can be written to it."""
        (self.path / "tests").mkdir(parents=True, exist_ok=True)
        _write(self.path / "index.md", "# Faithfulness\n\nThe tests have not ended yet.\n")

    def write_report(self, test: str, number: int, report: Report) -> dict[str, Any]:
        """Writes the page of a check, with its figures and the numbers of every instance.

        Args:
            test: The test.
            number: Number of the check within it, from 1.
            report: What was measured.

        Returns:
            What the check's evidence shall say of it: ``report``, the page
            within the folder, or ``problem``, why it could not be written.
        """
        own = _link(test).removesuffix(".json") + (f"-{number}" if number > 1 else "")
        try:
            report.write(self.path / own)
        except OSError as error:  # a full disk must not end the test
            return {"report": None, "problem": str(error)}
        return {"report": f"{own}/report.html"}

    def write_test(self, test: str, checks: Sequence[Mapping[str, Any]]) -> None:
        """Writes the evidence of one test."""
        found = {"schema": SCHEMA, "faithattn": __version__, "test": test, "checks": list(checks)}
        _write(self.path / _link(test), json.dumps(found, indent=1, allow_nan=False) + "\n")

    def write_pages(self, checks: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Writes the table of all checks for people and for programs."""
        rows: list[Row] = [(test, each) for test, found in checks.items() for each in found]
        brief = [
            {
                "test": test,
                "file": _link(test),
                "report": each.get("report"),
                **{name: each.get(name) for name in (*_BRIEF, "outcome", "passed")},
            }
            for test, each in rows
        ]
        index = {"schema": SCHEMA, "faithattn": __version__, "checks": brief}
        _write(self.path / "index.json", json.dumps(index, indent=1, allow_nan=False) + "\n")
        parts = ["# Faithfulness", f"{counts([each for _, each in rows])}."]
        if rows:
            links = [(_link(test), each.get("report") or "") for test, each in rows]
            parts.append(markdown(rows, links))
        texts = dict.fromkeys(each["text"] for _, each in rows if not each["passed"])
        if texts:
            parts += ["## What did not pass", *(_fenced(text) for text in texts)]
        _write(self.path / "index.md", "\n\n".join(parts) + "\n")


def folder_of(config: pytest.Config) -> Folder | None:
    """The folder that the command line names, of workers of xdist too; None where it names none."""
    directory = config.getoption("--faithattn-report")
    return None if directory is None else Folder(config.invocation_params.dir / directory)


def _link(test: str) -> str:
    return f"tests/{file_name(test, marked=True)}.json"


def _fenced(text: str) -> str:
    """A block that no line of the text can close."""
    longest = max((len(each) for each in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
