"""Limits on what an audit may find, for scripts: ``--fail-below`` and ``--fail-above``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Collection, Iterable
from typing import Any

UNMET = 3


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a sub-command."""
    group = parser.add_argument_group(
        "limits",
        "for scripts; NAME is a metric, METRIC@VIEW where there are several views. The end of\n"
        "the 95 % interval decides, not the mean: a sample too small to know does not pass",
    )
    for name, what in (("below", "lower end is below"), ("above", "upper end is above")):
        group.add_argument(
            f"--fail-{name}", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
            help=f"exit status {UNMET} if the {what} VALUE; may be given again",
        )  # fmt: skip


def check_limits(
    chosen: argparse.Namespace, metrics: Iterable[str] | None, views: Iterable[str]
) -> None:
    """Raises where a limit is on nothing that an audit finds, before it is run.

    Args:
        chosen: What was typed.
        metrics: The metrics; None for the four tests.
        views: Names of the views, where there are several.
    """
    from faithattn.audits.measuring.metrics import TESTS
    from faithattn.audits.part import keyed

    named = list(views) or [""]
    asked = [keyed(metric, view) for metric in metrics or TESTS for view in named]
    for option, given in (("--fail-below", chosen.fail_below), ("--fail-above", chosen.fail_above)):
        for name, text in given:
            _number(option, text)
            _require_known(option, name, asked)


def exceeded(report: Any, chosen: argparse.Namespace) -> int:
    """The exit status: 0, or that of limits that are not met, which are named."""
    from faithattn.audits.part import keyed

    found = {keyed(each.metric, each.view): each for each in report.evidence}
    status = 0
    for below, given in ((True, chosen.fail_below), (False, chosen.fail_above)):
        for name, text in given:
            option = "--fail-below" if below else "--fail-above"
            _require_known(option, name, found)
            overall = found[name].overall
            value = _number(option, text)
            end = overall.low if below else overall.high
            # An undefined end meets no limit.
            if not (end >= value if below else end <= value):
                status = UNMET
                sys.stderr.write(
                    f"{name}: mean {overall.mean:.3f}, 95 % interval {overall.low:.3f} to "
                    f"{overall.high:.3f}, must not be {'below' if below else 'above'} {value:g}.\n"
                )
    return status


def _require_known(option: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(
            f"{option} must name a metric of the audit, one of {', '.join(known)}; got "
            f"{name}. Look at its spelling."
        )


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{option} must have a number; got {text!r}. Write .3.")
    return value
