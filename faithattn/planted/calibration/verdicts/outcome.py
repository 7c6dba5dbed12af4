"""What came out: how often each test gave which verdict on models whose answer is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.planted.calibration.verdicts.cases import NO, TESTS, WEAK, YES

_RIGHT = {YES: "supports", NO: "contradicts", WEAK: "cannot_tell"}
_WRONG = {YES: ("contradicts",), NO: ("supports",), WEAK: (), "": ()}
_KINDS = {
    YES: "attention is what the output uses",
    NO: "the output does without attention, or attention misleads",
    WEAK: "attention is weakly used (cannot tell / told)",
}


@dataclass(frozen=True)
class VerdictCell:
    """Verdicts of one test on one family of models at one size.

    Attributes:
        case: The family.
        test: The test.
        size: Texts a verdict is based on.
        answer: What is known: ``"yes"``, ``"no"``, ``"weak"``, or nothing.
        supports: How many verdicts support attention.
        contradicts: How many contradict it.
        cannot_tell: How many cannot tell.
    """

    case: str
    test: str
    size: int
    answer: str
    supports: int
    contradicts: int
    cannot_tell: int

    @property
    def total(self) -> int:
        """All verdicts."""
        return self.supports + self.contradicts + self.cannot_tell

    @property
    def right(self) -> int:
        """Verdicts that are what is known; of weakly used attention, that cannot tell."""
        return int(getattr(self, _RIGHT[self.answer])) if self.answer else 0

    @property
    def wrong(self) -> int:
        """Verdicts against what is known; not telling never is, nor what is told of weak use."""
        return sum(int(getattr(self, name)) for name in _WRONG[self.answer])


@dataclass(frozen=True)
class VerdictCalibration:
    """How often verdicts were right on planted models.

    Attributes:
        cells: One for every family, test and size.
        thresholds: Where the lines were.
        seed: The first seed.
    """

    cells: tuple[VerdictCell, ...]
    thresholds: Thresholds
    seed: int

    def of(self, **asked: Any) -> list[VerdictCell]:
        """Cells of a ``case``, ``test``, ``size`` or ``answer``; all where left out."""
        return [
            cell
            for cell in self.cells
            if all(getattr(cell, name) == value for name, value in asked.items())
        ]

    def markdown(self) -> str:
        """Two tables: what every family got, and how often that was right."""
        return f"{self._summary()}\n\n{self._families()}\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "seed": self.seed,
            "thresholds": self.thresholds.to_dict(),
            "cells": [asdict(cell) for cell in self.cells],
        }

    def __str__(self) -> str:
        return self.markdown()

    def _summary(self) -> str:
        """By what is known and test: right, wrong, cannot tell, in percent."""
        sizes = sorted({cell.size for cell in self.cells})
        rows = [["known", "test", *(f"n = {size}: right / wrong / cannot tell" for size in sizes)]]
        rows.append(["---", "---", *["--:"] * len(sizes)])
        for answer, words in _KINDS.items():
            for test in TESTS:
                shares = [
                    _shares(self.of(answer=answer, test=test, size=size), answer) for size in sizes
                ]
                if any(shares):
                    rows.append([words, f"`{test}`" if "_" in test else test, *shares])
        return _table(rows)

    def _families(self) -> str:
        """By family: verdicts that support + contradict, of all, at each size."""
        sizes = sorted({cell.size for cell in self.cells})
        rows = [["model", "n", *TESTS], ["---", "--:", *["---"] * len(TESTS)]]
        for case in dict.fromkeys(cell.case for cell in self.cells):
            for size in sizes:
                found = {cell.test: cell for cell in self.of(case=case, size=size)}
                rows.append([case, str(size), *(_counts(found.get(test)) for test in TESTS)])
        return _table(rows)


def _counts(cell: VerdictCell | None) -> str:
    """Verdicts that support (+) and contradict (-); an exclamation mark where some are wrong."""
    if cell is None:
        return ""
    parts = [
        f"{sign}{count}" for sign, count in (("+", cell.supports), ("-", cell.contradicts)) if count
    ]
    mark = "!" if cell.wrong else ""
    return f"{' '.join(parts) or '·'}{mark}"


def _shares(cells: Iterable[VerdictCell], answer: str) -> str:
    several = list(cells)
    total = sum(cell.total for cell in several)
    if not total:
        return ""
    right, wrong, unsure = (
        sum(getattr(cell, name) for cell in several) for name in ("right", "wrong", "cannot_tell")
    )
    counts = (unsure, total - unsure) if answer == WEAK else (right, wrong, unsure)
    return " / ".join(_percent(count, total) for count in counts)


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %".replace(".0 %", " %")


def _table(rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
