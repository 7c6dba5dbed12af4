"""Explanations beside each other, by every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faithattn.results.comparison.text import grid, notes, page
from faithattn.results.shares import share_interval
from faithattn.statistics import Statistics, describe, none_if_nan

NOT_ATTENTION = "it changes the attention itself, and says nothing of other scores"


@dataclass(frozen=True)
class Column:
    """What a column of a comparison holds.

    Attributes:
        name: The metric.
        title: What its number is, in a few words.
        larger_is_faithful: Which way it points.
        kind: ``"faithfulness"``, or ``"plausibility"``: agreement with people.
        attention_only: Whether it changes the attention itself, and so says
            nothing about other scores of the positions.
        caution: Where its calibration found it wanting, a sentence; empty if nowhere.
        share: Whether its values are 0 and 1, whose mean has Wilson's interval.
    """

    name: str
    title: str
    larger_is_faithful: bool
    kind: str = "faithfulness"
    attention_only: bool = False
    caution: str = ""
    share: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """Explanations by metrics, one value an instance in every cell.

    A cell is missing where its metric does not apply to scores of that kind,
    or where something failed; :attr:`reasons` says which.

    Attributes:
        explanations: Names of the rows.
        columns: The metrics.
        values: Values ``(N,)`` by explanation and metric; nan where undefined.
        reasons: Why a cell, ``(explanation, metric)``, is missing.
        seconds: Time that each explanation took.
        metric_seconds: Time that each metric took for all of them; what several
            share counts for the first.
        view: The attention that was meant.
        removal: How positions were taken away.
        scores: The scores ``(B, L)`` of each explanation, a tensor a batch.
        size: Number of instances, those of batches in which all failed among them.

    Examples:
        >>> import torch
        >>> from faithattn import compare_explanations
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])
        >>> own = {"attention": "attention", "first word": torch.eye(5)[[1, 1]]}
        >>> found = compare_explanations(
        ...     TextClassifier(9), ids, explanations=own, metrics=["loo_correlation"]
        ... )
        >>> found.statistics("first word", "loo_correlation").n
        2
    """

    explanations: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Mapping[tuple[str, str], Tensor]
    reasons: Mapping[tuple[str, str], str]
    seconds: Mapping[str, float]
    metric_seconds: Mapping[str, float]
    view: str
    removal: str
    scores: Mapping[str, tuple[Tensor, ...]] = field(repr=False, kw_only=True)
    size: int = field(kw_only=True)

    @cached_property
    def _statistics(self) -> dict[tuple[str, str], Statistics]:
        shares = {each.name for each in self.columns if each.share}
        return {
            cell: _described(values, share=cell[1] in shares)
            for cell, values in self.values.items()
        }

    def statistics(self, explanation: str, metric: str) -> Statistics:
        """Mean, interval, quartiles and undefined count of one cell.

        Raises:
            KeyError: If there is no such cell; :attr:`reasons` says why.
        """
        self._require(explanation, metric)
        return self._statistics[explanation, metric]

    def difference(self, explanation: str, metric: str, *, reference: str) -> Statistics:
        """How far an explanation is above another on the same instances.

        Instances where either is undefined count as undefined.

        Raises:
            KeyError: If one of the two cells is missing.
        """
        self._require(explanation, metric)
        self._require(reference, metric)
        apart = self.values[explanation, metric] - self.values[reference, metric]
        return describe(apart.double().numpy())

    def select(
        self, *, explanations: Sequence[str] | None = None, metrics: Sequence[str] | None = None
    ) -> Comparison:
        """Some of its rows and columns, in the order asked for, such as for a picture.

        Args:
            explanations: Names of rows; None for all.
            metrics: Names of columns; None for all.

        Raises:
            ValueError: If there is no such row or column.
        """
        columns = {each.name: each for each in self.columns}
        rows = _asked_for("explanations", explanations, self.explanations)
        names = _asked_for("metrics", metrics, tuple(columns))

        def kept(cells: Mapping[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
            return {cell: cells[cell] for cell in cells if cell[0] in rows and cell[1] in names}

        return replace(
            self,
            explanations=rows,
            columns=tuple(columns[name] for name in names),
            values=kept(self.values),
            reasons=kept(self.reasons),
            seconds={name: self.seconds[name] for name in rows},
            metric_seconds={name: self.metric_seconds[name] for name in names},
            scores={name: self.scores[name] for name in rows if name in self.scores},
        )

    def records(self) -> list[dict[str, Any]]:
        """One row a cell: mean, interval, counts, time; None where there is no number."""
        rows = []
        for explanation in self.explanations:
            for column in self.columns:
                found = self._statistics.get((explanation, column.name))
                row: dict[str, Any] = {"explanation": explanation, "metric": column.name}
                row |= {"kind": column.kind, "larger_is_faithful": column.larger_is_faithful}
                for name in ("n", "undefined", "mean", "low", "high", "std"):
                    value = None if found is None else getattr(found, name)
                    row[name] = none_if_nan(value) if isinstance(value, float) else value
                rows.append({**row, "reason": self.reasons.get((explanation, column.name))})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "view": self.view,
            "removal": self.removal,
            "cells": self.records(),
            "seconds": dict(self.seconds),
            "metric_seconds": dict(self.metric_seconds),
            "cautions": {each.name: each.caution for each in self.columns if each.caution},
        }

    def markdown(self, *, reference: str | None = "") -> str:
        """The means as a page, faithfulness and plausibility apart.

        Args:
            reference: The explanation that the others are marked against,
                where they differ from it; by default the first. None marks
                nothing.

        Raises:
            ValueError: If there is no such explanation.
        """
        if reference == "":
            reference = self.explanations[0]
        if reference is not None and reference not in self.explanations:
            raise ValueError(
                f"reference must be one of {', '.join(self.explanations)}; got {reference!r}. "
                "Pass None for no marks."
            )
        return page(self, reference)

    def draw(self, path: str | Path) -> Path:
        """Draws one panel a metric, a point with its 95 % interval an explanation.

        Args:
            path: The file; its ending says which format.

        Returns:
            The path.
        """
        from faithattn.results.comparison.figure import draw

        return draw(self, Path(path))

    def __str__(self) -> str:
        return "\n".join([*grid(self), *notes(self)])

    @classmethod
    def concatenate(cls, comparisons: Sequence[Comparison]) -> Comparison:
        """Joins the comparisons of several batches; a cell that one lacks is undefined there.

        Raises:
            ValueError: If there are none, or they compare different things.
        """
        if isinstance(comparisons, Comparison) or not comparisons:
            raise ValueError("comparisons must be a list of them; got none. Pass a list.")
        first = comparisons[0]
        for each in comparisons:
            for name in ("explanations", "columns", "view", "removal"):
                if getattr(each, name) != getattr(first, name):
                    raise ValueError(
                        f"comparisons must compare the same; got {name} {getattr(first, name)!r} "
                        f"and {getattr(each, name)!r}. Join only batches of one comparison."
                    )
        cells = list(dict.fromkeys(cell for each in comparisons for cell in each.values))
        return cls(
            first.explanations,
            first.columns,
            {cell: torch.cat([each._or_nan(cell) for each in comparisons]) for cell in cells},
            {cell: why for each in comparisons for cell, why in each.reasons.items()},
            _total([each.seconds for each in comparisons]),
            _total([each.metric_seconds for each in comparisons]),
            first.view,
            first.removal,
            scores={
                name: tuple(part for each in comparisons for part in each.scores.get(name, ()))
                for name in first.explanations
            },
            size=sum(each.size for each in comparisons),
        )

    @property
    def failures(self) -> dict[tuple[str, str], str]:
        """The reasons of cells that are missing because something failed."""
        return {cell: why for cell, why in self.reasons.items() if why != NOT_ATTENTION}

    def _or_nan(self, cell: tuple[str, str]) -> Tensor:
        found = self.values.get(cell)
        return torch.full((self.size,), torch.nan) if found is None else found

    def _require(self, explanation: str, metric: str) -> None:
        if (explanation, metric) not in self.values:
            why = self.reasons.get((explanation, metric), "it was not asked for")
            raise KeyError(f"there is no cell ({explanation!r}, {metric!r}): {why}")


def _described(values: Tensor, *, share: bool) -> Statistics:
    """Statistics of a cell; resampled shares of 0 or 1 would have an interval of one point."""
    found = describe(values.double().numpy())
    if not share:
        return found
    low, high = share_interval(values)
    return replace(found, low=low, high=high)


def _asked_for(
    argument: str, names: Sequence[str] | None, known: tuple[str, ...]
) -> tuple[str, ...]:
    """The names that are asked for, each of which must be known."""
    if names is None:
        return known
    unknown = [name for name in names if name not in known]
    if isinstance(names, str) or unknown or not names:
        got = unknown[0] if unknown else names
        raise ValueError(
            f"{argument} must be some of {', '.join(known)}; got {got!r}. Leave it out for all."
        )
    return tuple(names)


def _total(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Times of several batches added up by name; all have the same names."""
    return {name: sum(each[name] for each in times) for name in times[0]}
