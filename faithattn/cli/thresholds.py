"""Where verdicts draw their lines, as it is typed: ``--threshold``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithattn.audits.verdicts.thresholds import Thresholds


def add_thresholds(parser: Any) -> None:
    """Adds the option to a sub-command, or to a group of its options."""
    parser.add_argument(
        "--threshold", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="where verdicts draw a line, such as least_tau .5 (default: the calibrated ones, in "
        "docs/verdicts.md); may be given again",
    )  # fmt: skip


def thresholds_of(chosen: argparse.Namespace) -> Thresholds | None:
    """The lines that were typed; None for the calibrated ones.

    Raises:
        ValueError: If there is no such line, or its value is out of range.
    """
    if not chosen.threshold:
        return None
    from dataclasses import fields

    from faithattn.audits.verdicts.thresholds import Thresholds

    known = {each.name: each.default for each in fields(Thresholds)}
    given: dict[str, float | int] = {}
    for name, text in chosen.threshold:
        if name not in known:
            raise ValueError(
                f"threshold must be one of {', '.join(known)}; got {name}. Look at its spelling."
            )
        whole = isinstance(known[name], int)
        try:
            given[name] = int(text) if whole else float(text)
        except ValueError:
            raise ValueError(
                f"threshold must have a {'whole ' if whole else ''}number; got {text!r} for "
                f"{name}. The default is {known[name]}."
            ) from None
    return Thresholds(**given)  # type: ignore[arg-type]
