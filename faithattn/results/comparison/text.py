"""A comparison as text: for a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from faithattn.statistics import Statistics

if TYPE_CHECKING:
    from faithattn.results.comparison.comparison import Column, Comparison

_COLUMNS = 4  # side by side on a terminal
_WIDTH = 28
_BETTER, _WORSE = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
_HEADINGS = {
    "faithfulness": "Faithfulness: what the model does",
    "plausibility": "Plausibility: agreement with people, which says nothing of the model",
}


def grid(comparison: Comparison) -> Iterator[str]:
    """The table for a terminal, a few columns at a time."""
    width = max(12, *(len(name) + 2 for name in comparison.explanations))
    for kind, heading in _HEADINGS.items():
        columns = [each for each in comparison.columns if each.kind == kind]
        if columns:
            yield heading
        for first in range(0, len(columns), _COLUMNS):
            part = columns[first : first + _COLUMNS]
            lines = {"": [_head(each) for each in part]}
            for name in comparison.explanations:
                lines[name] = [_cell(comparison, name, each) for each in part]
            widest = max(len(cell) for cells in lines.values() for cell in cells)
            for name, cells in lines.items():
                yield f"{name:<{width}}" + "".join(
                    f"{cell:>{max(_WIDTH, widest + 2)}}" for cell in cells
                )
            yield ""


def notes(comparison: Comparison, *, intervals: bool = True) -> Iterator[str]:
    """What a reader must know beside the table."""
    what = "mean [95 % interval]" if intervals else "means"
    yield (
        f"{comparison.size} instances, attention: {comparison.view}, removal: "
        f"{comparison.removal}. + larger, - smaller is more faithful; {what}; ?n: n undefined."
    )
    cautions: dict[str, list[str]] = {}
    for column in comparison.columns:
        if column.caution:
            cautions.setdefault(column.caution, []).append(column.name)
    for caution, names in cautions.items():
        yield f"To be read with care: {', '.join(names)}. {caution}"
    for reason, cells in _reasons(comparison).items():
        yield f"no value for {', '.join(cells)}: {reason}"
    for what, seconds in (
        ("explanations", comparison.seconds),
        ("metrics", comparison.metric_seconds),
    ):
        times = (f"{name} {spent:.2f} s" for name, spent in seconds.items())
        yield f"time of {what}: {', '.join(times)}"


def page(comparison: Comparison, reference: str | None) -> str:
    """The means as Markdown, marked where they differ from those of another explanation."""
    lines = []
    for kind, heading in _HEADINGS.items():
        columns = [each for each in comparison.columns if each.kind == kind]
        if not columns:
            continue
        lines += [f"**{heading}**", ""]
        lines += [_row(["explanation", *(_head(each) for each in columns)])]
        lines += [_row(["---", *("--:" for _ in columns)])]
        for name in comparison.explanations:
            cells = (_marked(comparison, name, each, reference) for each in columns)
            lines.append(_row([name, *cells]))
        lines.append("")
    said = list(notes(comparison, intervals=False))
    if reference is not None:
        said.insert(
            1,
            f"{_BETTER} more, {_WORSE} less faithful (or plausible) than {reference} on the same "
            "instances: 95 % interval of the paired difference, one cell at a time.",
        )
    return "\n".join([*lines, *(f"- {_plain(note)}" for note in said), ""])


def _head(column: Column) -> str:
    name = column.name if len(column.name) < _WIDTH - 1 else column.name[: _WIDTH - 3] + "."
    return f"{name} {'+' if column.larger_is_faithful else '-'}"


def _cell(comparison: Comparison, name: str, column: Column) -> str:
    if (name, column.name) not in comparison.values:
        return "failed" if (name, column.name) in comparison.failures else ""
    found: Statistics = comparison.statistics(name, column.name)
    unknown = f" ?{found.undefined}" if found.undefined else ""
    if found.undefined == found.n:
        return "undefined"
    return f"{_number(found.mean)} [{_number(found.low)}, {_number(found.high)}]{unknown}"


def _number(value: float) -> str:
    """Three digits, also of what is small."""
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"


def _marked(comparison: Comparison, name: str, column: Column, reference: str | None) -> str:
    """A mean, and whether it is better or worse than that of the reference."""
    cell = (name, column.name)
    if cell not in comparison.values:
        return "failed" if cell in comparison.failures else ""
    found = comparison.statistics(*cell)
    unknown = f" ?{found.undefined}" if found.undefined else ""
    if found.undefined == found.n:
        return "undefined"
    text = _number(found.mean)
    if reference not in (None, name) and (reference, column.name) in comparison.values:
        apart = comparison.difference(*cell, reference=str(reference))
        if apart.low > 0 or apart.high < 0:
            text += f" {_BETTER if (apart.low > 0) == column.larger_is_faithful else _WORSE}"
    return text + unknown


def _reasons(comparison: Comparison) -> dict[str, list[str]]:
    """Cells by the reason why they are missing, whole rows and columns in one word."""
    cells: dict[str, list[tuple[str, str]]] = {}
    for cell, reason in comparison.reasons.items():
        cells.setdefault(reason, []).append(cell)
    return {reason: _together(comparison, found) for reason, found in cells.items()}


def _together(comparison: Comparison, cells: list[tuple[str, str]]) -> list[str]:
    left, found = set(cells), []
    for name in comparison.explanations:
        row = {(name, each.name) for each in comparison.columns}
        if row <= left:
            found.append(name)
            left -= row
    for column in comparison.columns:
        inside = {cell for cell in left if cell[1] == column.name}
        if len(inside) > 1:
            found.append(f"{column.name} ({len(inside)} explanations)")
            left -= inside
    return found + [f"{metric} of {name}" for name, metric in sorted(left)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    return " ".join(text.split())
