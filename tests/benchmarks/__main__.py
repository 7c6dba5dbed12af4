"""``python -m tests.benchmarks [--smoke]``: one table, ratios measured side by side."""

from __future__ import annotations

import argparse

from tests.benchmarks import kendall, memory, published
from tests.benchmarks.timing import Row, one_thread


def main() -> None:
    """Runs every benchmark and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    smoke = parser.parse_args().smoke
    with one_thread():
        rows = [*published.rows(smoke), *kendall.rows(smoke)]
    print(f"{'task':<62}{'ours':>10}{'baseline':>10}{'ratio':>8}{'goal':>7}  against")
    for row in rows:
        print(_line(row))
    length = 400 if smoke else 4000
    peak = memory.megabytes(length)
    print(
        f"\npermutation_test, 100 shuffles, 32 texts of {length:,}: {peak:.0f} MB above the model "
        f"(goal: under {memory.LIMIT_MEGABYTES} MB at 4,000)"
    )


def _line(row: Row) -> str:
    goal = "" if row.goal is None else f"{row.goal:.2f}"
    return (
        f"{row.task:<62}{row.ours * 1e3:>8.1f}ms{row.baseline * 1e3:>8.1f}ms{row.ratio:>8.3f}"
        f"{goal:>7}  {row.against}"
    )


if __name__ == "__main__":
    main()
