"""Plugin of pytest: fixture ``faithfulness``, marker ``faithattn``, baselines, a report.

Loading it loads no library that computes; the first check does.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from faithattn.pytest_plugin.collected import ON_REPORTS, Collected
from faithattn.pytest_plugin.fixture import CHECKS, faithfulness
from faithattn.pytest_plugin.folder import Folder, folder_of
from faithattn.pytest_plugin.settings import NAMES

__all__ = ["faithfulness"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line."""
    group = parser.getgroup("faithattn", "faithfulness of attention")
    group.addoption(
        "--faithattn-report",
        metavar="DIR",
        help="write the evidence of every check as a page and as JSON, with index.md, into DIR",
    )
    group.addoption(
        "--faithattn-update",
        action="store_true",
        help="write the baselines of faithfulness.check instead of comparing with them",
    )
    group.addoption(
        "--faithattn-baselines",
        metavar="DIR",
        help="folder of baselines; by default faithattn-baselines/ beside each test file",
    )
    group.addoption(
        "--faithattn-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of whatever is drawn in checks that name none (default: 0)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker and, but for workers of xdist, who collects the checks."""
    settings = ", ".join(f"{name}=" for name in NAMES)
    config.addinivalue_line(
        "markers",
        f"faithattn({settings}): settings of a test's checks; tests that use the fixture "
        "faithfulness have the marker anyhow.",
    )
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(Collected(_folder(config)), "faithattn-collected")


def _folder(config: pytest.Config) -> Folder | None:
    """The folder of the report, made before any test runs."""
    folder = folder_of(config)
    if folder is None or config.getoption("collectonly", False):
        return None
    try:
        folder.make()
    except OSError as error:
        raise pytest.UsageError(
            "--faithattn-report must name a folder that can be written; got "
            f"{config.getoption('--faithattn-report')} "
            f"({error.strerror}). Choose another."
        ) from error
    return folder


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks the tests that measure, so that ``-m "not faithattn"`` leaves them out."""
    if "faithfulness" in getattr(item, "fixturenames", ()):
        item.add_marker("faithattn")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hands what a test has found to its report, which travels from workers of xdist."""
    report = yield
    found = item.stash.get(CHECKS, None)
    if found:
        setattr(report, ON_REPORTS, list(found))
        found.clear()
    return report
