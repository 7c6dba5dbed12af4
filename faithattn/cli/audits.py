"""``faithattn report``, ``compare`` and ``merge``: what to do with the folders of audits."""

from __future__ import annotations

import argparse
import json
from typing import Any

from faithattn.cli.guards import failing
from faithattn.cli.limits import add_limits, exceeded
from faithattn.errors import AuditError

_LESS_MEMORY = "Close other programs."


def add_parsers(commands: Any) -> None:
    """Adds the sub-commands to those of ``faithattn``."""
    _add_report(commands)
    _add_compare(commands)
    _add_merge(commands)


def _add_report(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="show an audit, and write its pages again",
        description="Prints the report of an audit's folder, and writes its pages (report.html, "
        "report.md, report.json, instances.csv). Of an audit that is not finished it prints what "
        "is there. Exit status 3 if a limit is not met.",
    )
    parser.add_argument("folder", metavar="DIR", help="the --out of an audit")
    parser.add_argument("--out", metavar="DIR", help="where the pages go (default: the same)")
    parser.add_argument("--json", action="store_true", help="print JSON, and write nothing")
    add_limits(parser)
    parser.set_defaults(work=_report)


def _add_compare(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="show how the second of two audits differs",
        description="Compares two audits metric by metric: the second's mean less the first's, "
        "with intervals and effect sizes. On the same data each instance is compared with itself. "
        "Exit status 3 if --fail-if-worse and the second is less faithful by some metric.",
    )
    parser.add_argument("first", metavar="A", help="folder of an audit")
    parser.add_argument("second", metavar="B", help="folder of another")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--fail-if-worse", action="store_true",
        help="exit status 3 if an interval shows that B is less faithful",
    )  # fmt: skip
    parser.set_defaults(work=_compare)


def _add_merge(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "merge",
        help="join the folders of an audit's shards",
        description="Joins the folders that the shards of one audit wrote, and writes the report.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of the shards")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the whole")
    parser.set_defaults(work=_merge)


def _report(chosen: argparse.Namespace) -> int:
    with failing(2, ValueError, OSError, AuditError, memory=_LESS_MEMORY):
        report = _opened(chosen.folder)
        if chosen.json:
            print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
            return exceeded(report, chosen)
        print(report)
        if report.complete:
            written = report.write(chosen.out or chosen.folder)
            print(f"\nWritten: {', '.join(str(path) for path in written[:4])}.")
        return exceeded(report, chosen)


def _compare(chosen: argparse.Namespace) -> int:
    with failing(2, ValueError, OSError, AuditError, memory=_LESS_MEMORY):
        found = _opened(chosen.first).compare(_opened(chosen.second))
    print(json.dumps(found.to_dict(), indent=2, allow_nan=False) if chosen.json else found)
    worse = any(each.direction == "less faithful" for each in found.changes)
    return 3 if chosen.fail_if_worse and worse else 0


def _merge(chosen: argparse.Namespace) -> int:
    with failing(2, ValueError, OSError, AuditError, memory=_LESS_MEMORY):
        from faithattn.audits.audit import merge

        report = merge(chosen.folders, chosen.out)
        print(report)
        written = report.write(chosen.out)
        print(f"\nWritten to {chosen.out}. Begin with {written[0]}.")
    return 0


def _opened(folder: str) -> Any:
    from faithattn.audits.report import Report

    return Report.open(folder)
