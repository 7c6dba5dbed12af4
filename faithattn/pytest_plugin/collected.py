"""The checks of all tests of a session, those that ran in workers among them."""

from __future__ import annotations

from typing import Any

import pytest

from faithattn.pytest_plugin.folder import Folder
from faithattn.pytest_plugin.table import counts, table

ON_REPORTS = "faithattn_checks"


class Collected:
    """Listens to reports; writes them to a folder and below the results.

    Attributes:
        folder: Where the report goes; None for no report.
        checks: What was found, by test, in the order of arrival.
        problem: Why the report could not be written; empty if it was.
    """

    def __init__(self, folder: Folder | None) -> None:
        self.folder = folder
        self.checks: dict[str, list[dict[str, Any]]] = {}
        self.problem = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes what a test, here or in a worker, has found."""
        found = getattr(report, ON_REPORTS, None)
        if not found:
            return
        own = self.checks.setdefault(report.nodeid, [])
        own += found
        self.problem = next((each["problem"] for each in found if "problem" in each), self.problem)
        if self.folder is not None:
            try:
                self.folder.write_test(report.nodeid, own)
            except OSError as error:  # a full disk must not end the session
                self.problem = str(error)

    def pytest_sessionfinish(self) -> None:
        """Writes the pages of the report."""
        if self.folder is None:
            return
        try:
            self.folder.write_pages(self.checks)
        except OSError as error:
            self.problem = str(error)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints a line for every check; with ``-q`` only those that failed, and counts."""
        out, verbosity = terminalreporter, terminalreporter.config.get_verbosity()
        if self.problem:
            out.write_sep("=", "faithfulness", red=True)
            out.write_line(f"The report is not whole: {self.problem}", red=True)
        rows = [(test, each) for test, found in self.checks.items() for each in found]
        if not rows or verbosity < -1 or terminalreporter.no_summary:
            return
        if not self.problem:
            out.write_sep("=", "faithfulness")
        head, *lines = table(rows)
        shown = [
            (line, each["passed"])
            for line, (_, each) in zip(lines, rows, strict=True)
            if verbosity >= 0 or not each["passed"]
        ]
        if shown:
            out.write_line(head)
        for line, passed in shown:
            out.write_line(line, **({} if passed else {"red": True}))
        out.write_line(counts([each for _, each in rows]))
        if self.folder is not None and not self.problem:
            out.write_line(f"report: {self.folder.path / 'index.md'}")
