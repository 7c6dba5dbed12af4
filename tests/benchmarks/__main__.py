"""``python -m tests.benchmarks [--smoke] [--only PART]``: one table, measured side by side.

Unless ``--default-allocator`` is given, freed memory is kept in the process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from tests.benchmarks import capture, end_to_end, kendall, memory, models, published, replay
from tests.benchmarks.timing import Row, keep_freed_memory, one_thread

_PARTS: dict[str, Callable[[bool], Iterable[Row]]] = {
    "published": published.rows,
    "kendall": kendall.rows,
    "capture": capture.rows,
    "replay": replay.rows,
    "worst": replay.worst,
    "end-to-end": end_to_end.rows,
}


def main() -> None:
    """Runs every benchmark and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--only", choices=[*_PARTS, "memory"], help="one part of the table")
    parser.add_argument(
        "--default-allocator", action="store_true", help="let the C library return freed memory"
    )
    given = parser.parse_args()
    smoke: bool = given.smoke
    kept = not given.default_allocator and keep_freed_memory()
    print(f"freed memory is {'kept' if kept else 'returned as the C library sees fit'}")
    if not models.HAS_TRANSFORMERS:
        print(models.SKIPPED)
    print(f"{'task':<72}{'ours':>10}{'baseline':>11}{'ratio':>8}{'+-':>7}{'goal':>7}  against")
    with one_thread():
        for part, rows in _PARTS.items():
            if given.only in (None, part):
                for row in rows(smoke):
                    print(_line(row, judged=not smoke), flush=True)
    if given.only in (None, "memory"):
        print("", *memory.lines(smoke), sep="\n")


def _line(row: Row, *, judged: bool) -> str:
    goal = "" if row.goal is None else f"{row.goal:.2f}"
    missed = ", MISSED" if judged and row.goal and row.ratio > row.goal else ""
    return (
        f"{row.task:<72}{row.ours * 1e3:>8.1f}ms{row.baseline * 1e3:>9.1f}ms{row.ratio:>8.3f}"
        f"{row.noise:>7.3f}{goal:>7}  {row.against}{missed}"
    )


if __name__ == "__main__":
    main()
