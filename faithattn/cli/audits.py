"""``faithattn report``, ``compare`` and ``merge``: what to do with the folders of audits."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from faithattn.cli.guards import failing
from faithattn.cli.limits import add_limits, exceeded
from faithattn.cli.thresholds import add_thresholds, thresholds_of
from faithattn.errors import AuditError

if TYPE_CHECKING:
    from faithattn.audits.verdicts.thresholds import Thresholds

_LESS_MEMORY = "Close other programs."
_REPORT = """\
examples:
  faithattn report results/mine
  faithattn report results/mine --json | jq .verdicts
  faithattn report results/mine --fail-below loo_correlation .2 > /dev/null

exit status: 0 done, 2 no audit there or something wrong with the command, 3 a limit is not met.
"""
_COMPARE = """\
examples:
  faithattn compare results/before results/after
  faithattn compare results/main results/branch --fail-if-worse

Each line is one metric: the difference with its interval, the effect size (the difference in
standard deviations), the p-value corrected over the metrics, and which way it points.

exit status: 0 done, 2 no audits there or nothing in common, 3 with --fail-if-worse, if B is less
faithful.
"""
_MERGE = """\
examples:
  faithattn audit my.models:load --data test.npz --out results/part0 --shard 0/2
  faithattn audit my.models:load --data test.npz --out results/part1 --shard 1/2
  faithattn merge results/part0 results/part1 --out results/whole

All must be of one audit: model, data and settings are checked. The numbers are those of an audit in
one process, to the bit.

exit status: 0 done, 2 a batch is missing, or the folders do not belong together.
"""


def add_parsers(commands: Any) -> None:
    """Adds the sub-commands to those of ``faithattn``."""
    _add_report(commands)
    _add_compare(commands)
    _add_merge(commands)


def _add_report(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="show an audit, and write its pages again",
        description="Prints the report of an audit's folder, and writes its pages (report.html,\n"
        "report.md, report.json, instances.csv). Of an audit that is not finished it prints\n"
        "what is there.",
        epilog=_REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="the --out of an audit")
    parser.add_argument("--out", metavar="DIR", help="where the pages go (default: the same)")
    parser.add_argument("--json", action="store_true", help="print JSON, and write nothing")
    add_thresholds(parser)
    add_limits(parser)
    parser.set_defaults(work=_report)


def _add_compare(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="show how the second of two audits differs",
        description="Compares two audits metric by metric: the second's mean less the first's,\n"
        "with intervals and effect sizes. On the same data each instance is compared with itself.",
        epilog=_COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        epilog=_MERGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of the shards")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the whole")
    parser.set_defaults(work=_merge)


def _report(chosen: argparse.Namespace) -> int:
    with failing(2, ValueError, OSError, AuditError, names=("threshold",), memory=_LESS_MEMORY):
        report = _opened(chosen.folder, thresholds_of(chosen))
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


def _opened(folder: str, thresholds: Thresholds | None = None) -> Any:
    from faithattn.audits.report import Report

    return Report.open(folder, thresholds=thresholds)
