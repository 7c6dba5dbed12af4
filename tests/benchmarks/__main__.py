"""``python -m tests.benchmarks``: one table, measured side by side; docs/benchmarks.md explains it.

Unless ``--default-allocator`` is given, freed memory is kept in the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.benchmarks import (
    adversaries,
    audit,
    captum_baseline,
    capture,
    end_to_end,
    erasure,
    kendall,
    long_documents,
    memory,
    models,
    published,
    removal,
    replay,
    sweep,
    table,
)
from tests.benchmarks.timing import Row, keep_freed_memory, one_thread

_PARTS: dict[str, Callable[[bool], Iterable[Row | str]]] = {
    "published": published.rows,
    "adversaries": adversaries.rows,
    "captum": captum_baseline.rows,
    "erasure": erasure.rows,
    "removal": removal.rows,
    "audit": audit.rows,
    "kendall": kendall.rows,
    "capture": capture.rows,
    "replay": replay.rows,
    "worst": replay.worst,
    "end-to-end": end_to_end.rows,
    "sweep": sweep.rows,
}
# Tables of their own, after the others.
_LINES: dict[str, Callable[[bool], Iterator[str]]] = {
    "memory": memory.lines,
    "documents": long_documents.lines,
}


def main() -> None:
    """Runs every benchmark, or one part, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--only", choices=[*_PARTS, *_LINES], help="one part of the table")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the sweep there")
    parser.add_argument(
        "--default-allocator", action="store_true", help="let the C library return freed memory"
    )
    given = parser.parse_args()
    if given.plot and given.only not in (None, "sweep"):
        parser.error(f"--plot draws the sweep, which --only {given.only} leaves out")
    kept = not given.default_allocator and keep_freed_memory()
    print(f"freed memory is {'kept' if kept else 'returned as the C library sees fit'}")
    if not models.HAS_TRANSFORMERS:
        print(models.SKIPPED)
    wanted = [part for part in _PARTS if given.only in (None, part)]
    if wanted:
        with one_thread():
            _print_rows(wanted, given.smoke, given.plot)
    for part in (part for part in _LINES if given.only in (None, part)):
        print()
        for line in _LINES[part](given.smoke):
            print(line, flush=True)


def _print_rows(parts: list[str], smoke: bool, plot: Path | None) -> None:
    """The table, then what was missed of its goals, and the picture."""
    print(table.HEAD)
    rows: list[Row] = []
    cells: list[sweep.Cell] = []
    for part in parts:
        print(f"-- {part} ".ljust(table.WIDTH, "-"))
        for found in _sweep(smoke, cells) if part == "sweep" else _PARTS[part](smoke):
            line = found if isinstance(found, str) else table.line(found, judged=not smoke)
            print(line, flush=True)
            rows += [] if isinstance(found, str) else [found]
    if not smoke:
        print(*table.missed(rows), sep="\n")
    if plot:
        from tests.benchmarks.plots import draw

        print(f"drawn: {draw(cells, plot)}")


def _sweep(smoke: bool, cells: list[sweep.Cell]) -> Iterator[Row | str]:
    """The rows of the sweep, whose cells are kept for the picture."""
    for cell in sweep.cells(smoke):
        if isinstance(cell, str):
            yield cell
        else:
            cells.append(cell)
            yield cell.row


if __name__ == "__main__":
    main()
