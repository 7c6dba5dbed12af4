"""What calibration found: how often each metric ranked a pair rightly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from faithattn.planted.calibration.cells import Cell, mean, rows_of
from faithattn.planted.calibration.wording import markdown_table, text_table
from faithattn.statistics import none_if_nan


@dataclass(frozen=True)
class Calibration:
    """How often metrics ranked pairs of known relative faithfulness rightly; chance is .5.

    A metric **passes** a kind of pairs if, at the largest sample size, the
    interval of its probability lies above .5 in every length, depth and
    contrast, and at most half of its values are undefined.

    Attributes:
        cells: One for every metric, kind and setting.
        titles: The metrics in words, by name.
        seed: Seed of models, texts and draws.
        seconds: Time each metric took, by name; what several share counts for
            the first.
        removal: How positions were taken away.

    Examples:
        >>> from faithattn import calibrate
        >>> found = calibrate(["gradient_correlation"], lengths=(8,), depths=(0,), sizes=(4,))
        >>> found.passes("gradient_correlation", "models")
        True
    """

    cells: tuple[Cell, ...]
    titles: Mapping[str, str]
    seed: int
    seconds: Mapping[str, float]
    removal: str = "delete"

    def of(
        self, metric: str | None = None, kind: str | None = None, **setting: float
    ) -> list[Cell]:
        """Cells of a metric, a kind or a setting such as ``size=1``; all where left out."""
        asked = {"metric": metric, "kind": kind, **setting}
        wanted = {name: value for name, value in asked.items() if value is not None}
        return [
            cell
            for cell in self.cells
            if all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def probability(
        self, metric: str | None = None, kind: str | None = None, **setting: float
    ) -> float:
        """Mean probability over the cells that :meth:`of` gives; nan without any."""
        return mean(cell.probability for cell in self.of(metric, kind, **setting))

    def failures(self, metric: str, kind: str) -> list[Cell]:
        """Cells of the largest sample size that keep a metric from passing, the worst first."""
        cells = self.of(metric, kind)
        largest = max((cell.size for cell in cells), default=0)
        failed = [cell for cell in cells if cell.size == largest and not cell.passed]
        return sorted(failed, key=lambda cell: (not math.isnan(cell.low), cell.low))

    def passes(self, metric: str, kind: str) -> bool:
        """Whether a metric ranks a kind of pairs rightly in every setting; False without cells."""
        return bool(self.of(metric, kind)) and not self.failures(metric, kind)

    def verdict(self, metric: str, kind: str) -> str:
        """Says in words whether a metric passes, and where it does not."""
        cells, failed = self.of(metric, kind), self.failures(metric, kind)
        if not failed:
            return "passes" if cells else "not asked"
        worst = failed[0]
        if worst.reason:
            return f"fails: {worst.reason}"
        how = "undefined" if worst.undefined > 0.5 else "fails"
        if worst.high < 0.5:
            how = "ranks the wrong way"
        others = f" and {len(failed) - 1} more settings" if len(failed) > 1 else ""
        if len(failed) == 2:
            others = others.removesuffix("s")
        return f"{how} at {worst.setting} ({worst.probability:.2f}){others}"

    def table(self) -> str:
        """Mean probability overall and along each axis, a line for every metric and kind."""
        return text_table(self)

    def markdown(self) -> str:
        """The same as Markdown."""
        return markdown_table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers become None."""
        return {
            "seed": self.seed,
            "removal": self.removal,
            "titles": dict(self.titles),
            "seconds": dict(self.seconds),
            "verdicts": [
                {"metric": metric, "kind": kind, "passes": self.passes(metric, kind)}
                | {"verdict": self.verdict(metric, kind)}
                for metric, kind in rows_of(self.cells)
            ],
            "cells": [
                {
                    name: none_if_nan(value) if isinstance(value, float) else value
                    for name, value in asdict(cell).items()
                }
                for cell in self.cells
            ],
        }

    def draw(self, path: str | PathLike[str]) -> Path:
        """Draws every setting as an image.

        Args:
            path: Where to; ``.png``, ``.svg`` or another ending of Matplotlib.

        Returns:
            The file.

        Raises:
            OSError: If it cannot be written.
            ValueError: If Matplotlib does not know the ending.
        """
        from faithattn.planted.calibration.drawing import save

        return save(self, Path(path))

    def __str__(self) -> str:
        return self.table()
