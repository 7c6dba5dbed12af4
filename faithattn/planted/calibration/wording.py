"""Calibration as a table to read, in plain text and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from faithattn.planted.calibration.cells import mean, rows_of

if TYPE_CHECKING:
    from faithattn.planted.calibration.outcome import Calibration

_WIDTH = 100
AXES = ("length", "depth", "size", "contrast")
_TITLES = {"models": "two models", "explanations": "two explanations"}
_ABOUT = {
    "models": "Two models of the same outputs: one uses its attention, the other less or not.",
    "explanations": "One model: what each word adds to the output, against the same scores spoiled "
    "at a share of the positions.",
}


class Line(NamedTuple):
    """A metric and kind: mean probability overall and along each axis, and the verdict."""

    metric: str
    kind: str
    overall: float
    along: dict[str, dict[float, float]]
    undefined: float
    verdict: str
    seconds: float


def lines(calibration: Calibration) -> Iterator[Line]:
    """Every metric and kind, summed up."""
    values = axis_values(calibration)
    for metric, kind in rows_of(calibration.cells):
        along = {
            axis: {
                value: calibration.probability(metric, kind, **{axis: value})
                for value in values[axis]
            }
            for axis in AXES
        }
        cells = calibration.of(metric, kind)
        yield Line(
            metric,
            kind,
            calibration.probability(metric, kind),
            along,
            mean(cell.undefined for cell in cells),
            calibration.verdict(metric, kind),
            calibration.seconds[metric],
        )


def axis_values(calibration: Calibration) -> dict[str, list[float]]:
    """The values of each axis, ascending."""
    return {axis: sorted({getattr(cell, axis) for cell in calibration.cells}) for axis in AXES}


def text_table(calibration: Calibration) -> str:
    """The table in plain text, a block for each kind of pairs."""
    values = axis_values(calibration)
    found = list(lines(calibration))
    width = max(len(line.metric) for line in found)
    parts = [fill(_heading(calibration), _WIDTH)]
    for kind, about in _ABOUT.items():
        chosen = [line for line in found if line.kind == kind]
        if not chosen:
            continue
        names = (
            " " * width + "   all" + "".join(f"  {axis:<{5 * len(values[axis])}}" for axis in AXES)
        )
        numbers = " " * (width + 6) + "".join(
            "  " + "".join(f"{value:>5g}" for value in values[axis]) for axis in AXES
        )
        parts += ["", fill(about, _WIDTH), names.rstrip(), f"{numbers}  undefined"]
        parts += [_text_line(line, width) for line in chosen]
        parts += [f"{line.metric:<{width}}   {line.verdict}" for line in chosen]
    return "\n".join(parts)


def _text_line(line: Line, width: int) -> str:
    cells = "".join(
        "  " + "".join(_number(value).rjust(5) for value in line.along[axis].values())
        for axis in AXES
    )
    share = "" if line.undefined == 0 else f"{line.undefined:>10.1%}"
    return f"{line.metric:<{width}} {_number(line.overall):>5}{cells} {share}".rstrip()


def markdown_table(calibration: Calibration) -> str:
    """The table in Markdown, one for each kind of pairs."""
    values = axis_values(calibration)
    parts = [_heading(calibration)]
    for kind, about in _ABOUT.items():
        chosen = [line for line in lines(calibration) if line.kind == kind]
        if not chosen:
            continue
        columns = [f"{axis} {value:g}" for axis in AXES for value in values[axis]]
        parts += [f"**{_TITLES[kind].capitalize()}.** {about}"]
        rows = [["metric", "all", *columns, "undefined", "verdict", "s"]]
        rows.append(["---"] * len(rows[0]))
        rows += [_markdown_line(line) for line in chosen]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts) + "\n"


def _markdown_line(line: Line) -> list[str]:
    along = [_number(value) for axis in AXES for value in line.along[axis].values()]
    return [
        f"`{line.metric}`",
        _number(line.overall),
        *along,
        "" if line.undefined == 0 else f"{line.undefined:.1%}",
        line.verdict.replace("|", "\\|"),
        f"{line.seconds:.0f}",
    ]


def _heading(calibration: Calibration) -> str:
    counts = sorted({cell.n_pairs for cell in calibration.cells})
    largest = max(cell.size for cell in calibration.cells)
    pairs = " or ".join(map(str, counts))
    return (
        f"Probability of ranking a pair rightly, chance .5; {pairs} pairs a setting, seed "
        f"{calibration.seed}, removal: {calibration.removal}. A metric passes if at size {largest} "
        "the 95 % interval is above .5 "
        "in every length, depth and contrast."
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
