"""The table of checks, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = tuple[str, dict[str, Any]]
HEAD = ("test", "metric", "n", "mean", "95 % interval", "limit", "outcome")


def number(value: float | None) -> str:
    """Three digits, of small numbers two that count; a dash where there is none.

    Examples:
        >>> number(0.3412), number(-0.00004), number(None)
        ('0.341', '-4e-05', '-')
    """
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def cells(test: str, check: dict[str, Any]) -> tuple[str, ...]:
    """What a row says of one check."""
    low, high = check["low"], check["high"]
    known = low is not None and high is not None
    signed = "+" if check["asked"].startswith("change") and (check["mean"] or 0) > 0 else ""
    return (
        test,
        check["metric"] or "-",
        "-" if check["n"] is None else str(check["n"]),
        signed + number(check["mean"]),
        f"{number(low)} to {number(high)}" if known else "-",
        check["asked"],
        check["outcome"],
    )


def table(rows: Sequence[Row]) -> list[str]:
    """A head, and a line for every check."""
    texts = [HEAD, *(cells(test, check) for test, check in rows)]
    widths = [max(len(text[place]) for text in texts) for place in range(len(HEAD))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(text, widths, strict=True)).rstrip()
        for text in texts
    ]


def counts(checks: Sequence[dict[str, Any]]) -> str:
    """How many checks passed, and how many ended otherwise."""
    passed = sum(each["passed"] for each in checks)
    skipped = sum(bool(each.get("skipped")) for each in checks)
    parts = [f"{passed} passed"]
    parts += [f"{skipped} skipped"] if skipped else []
    failed = len(checks) - passed - skipped
    parts += [f"{failed} failed"] if failed else []
    noun = "check" if len(checks) == 1 else "checks"
    return f"{len(checks)} {noun} of faithfulness: {', '.join(parts)}"


def markdown(rows: Sequence[Row], links: Sequence[tuple[str, str]]) -> str:
    """The table with tests and outcomes as links; what could be markup is escaped.

    Args:
        rows: Tests and their checks.
        links: For each row where the evidence is, and where the page; empty where there is none.
    """
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for (test, check), (evidence, page) in zip(rows, links, strict=True):
        first, *others, outcome = (escaped(cell) for cell in cells(test, check))
        last = f"[{outcome}]({page})" if page else outcome
        lines.append("| " + " | ".join([f"[{first}]({evidence})", *others, last]) + " |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is.

    Examples:
        >>> print(escaped("a|b [c](d) <e>"))
        a\|b \[c\](d) &lt;e&gt;
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|~":
        text = text.replace(mark, f"\\{mark}")
    return text
