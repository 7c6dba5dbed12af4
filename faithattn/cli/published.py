"""``faithattn published``: the figures of the study, to read or as data."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from faithattn.cli.errors import CommandError

if TYPE_CHECKING:
    from faithattn.paper.published import PublishedFigure

_DESCRIPTION = """\
Shows the figures of Jain & Wallace (2019), arXiv 1902.10186. As a table, without a data set, those
over all instances; with one, also those by class and by largest attention. As CSV or JSON every
column: also quartiles, whether a figure was read off a drawing, and its source.
"""
_EPILOG = """\
examples:
  faithattn published --list                       the data sets: task, classes, encoders
  faithattn published sst                          every figure of SST
  faithattn published --encoder cnn --measure gradient_loo
  faithattn published --format csv > published.csv
  faithattn published snli --attention additive --format json
"""
_MEASURES = (
    "gradient_correlation",
    "loo_correlation",
    "attention_gradient",
    "attention_loo",
    "gradient_loo",
    "permutation_test",
    "adversarial_attention",
)
_FILTERS = {
    "encoder": ("bilstm", "cnn", "average"),
    "attention": ("additive", "scaled_dot"),
    "measure": _MEASURES,
}
_NOTE = """
mean, std, p<=.05 (share of instances) and median over instances; empty: not published.
permutation_test and adversarial_attention were read off drawings and are approximate.
Source: Jain & Wallace 2019, arXiv 1902.10186."""


def add_parser(commands: Any) -> None:
    """Adds the sub-command to those of ``faithattn``."""
    parser = commands.add_parser(
        "published",
        help="show the figures that the study published",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="such as sst or babi-1")
    parser.add_argument("--list", action="store_true", help="list the data sets, not the figures")
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table",
        help="how to print (default: table)",
    )  # fmt: skip
    for name, values in _FILTERS.items():
        parser.add_argument(f"--{name}", choices=values, help=f"only figures of this {name}")
    parser.set_defaults(work=work)


def work(chosen: argparse.Namespace) -> int:
    """Prints the published figures, or their data sets."""
    figures = _figures(chosen)
    if chosen.list:
        _print_datasets(figures, chosen.format)
    elif chosen.format == "table":
        if chosen.dataset is None:
            figures = [figure for figure in figures if figure.group == "Overall"]
        _print_table(figures)
    else:
        _print_data([asdict(figure) for figure in figures], chosen.format)
    return 0


def _figures(chosen: argparse.Namespace) -> list[PublishedFigure]:
    """The figures that were asked for, of which there must be one."""
    from faithattn.paper.published import published, published_datasets

    figures = published(chosen.dataset)
    if not figures:
        names = ", ".join(each.name for each in published_datasets())
        raise CommandError(
            f"DATASET must be one of {names}; got {chosen.dataset}. The study has no other.",
            status=2,
        )
    asked = {name: getattr(chosen, name) for name in _FILTERS if getattr(chosen, name)}
    found = [
        figure
        for figure in figures
        if all(getattr(figure, name) == value for name, value in asked.items())
    ]
    if not found:
        options = " ".join(f"--{name} {value}" for name, value in asked.items())
        raise CommandError(
            f"{options} must leave a figure; got none of {figures[0].dataset}. "
            f"See faithattn published {figures[0].dataset}.",
            status=2,
        )
    return found


def _print_table(figures: Sequence[PublishedFigure]) -> None:
    """The figures in columns."""
    print(
        f"{'data set':<13} {'encoder':<7} {'attention':<10} {'measure':<21} {'group':<16}"
        f"{'mean':>7}{'std':>7}{'p<=.05':>7}{'median':>7}"
    )
    for each in figures:
        numbers = (each.mean, each.std, each.significant, each.median)
        print(
            f"{each.dataset:<13} {each.encoder:<7} {each.attention:<10} {each.measure:<21} "
            f"{each.group:<16}" + "".join(f"{_number(number):>7}" for number in numbers)
        )
    print(_NOTE)


def _print_datasets(figures: Sequence[PublishedFigure], how: str) -> None:
    """What the data sets of the figures are, and how many figures each has."""
    from faithattn.paper.published import published_datasets

    rows: list[dict[str, Any]] = []
    for each in published_datasets():
        own = [figure for figure in figures if figure.dataset == each.name]
        if own:
            rows.append(
                {
                    "dataset": each.name,
                    "task": each.task,
                    "classes": list(each.classes),
                    "encoders": sorted({figure.encoder for figure in own}),
                    "figures": len(own),
                }
            )
    if how != "table":
        _print_data(rows, how)
        return
    print(f"{'data set':<14} {'figures':>7}  {'encoders':<20}  task (classes)")
    for row in rows:
        classes = f" ({', '.join(row['classes'])})" if row["classes"] else ""
        encoders = ", ".join(row["encoders"])
        print(f"{row['dataset']:<14} {row['figures']:>7}  {encoders:<20}  {row['task']}{classes}")


def _print_data(rows: Sequence[dict[str, Any]], how: str) -> None:
    """Rows as CSV, undefined numbers empty and several values joined by ``|``, or as JSON."""
    plain = [{name: _known(value) for name, value in row.items()} for row in rows]
    if how == "json":
        print(json.dumps(plain, indent=2))
        return
    writer = csv.DictWriter(sys.stdout, list(plain[0]), lineterminator="\n")
    writer.writeheader()
    for row in plain:
        writer.writerow(
            {
                name: "|".join(value) if isinstance(value, list) else value
                for name, value in row.items()
            }
        )


def _known(value: object) -> object:
    """None where there is no number."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
