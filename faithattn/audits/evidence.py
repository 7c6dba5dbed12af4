"""What an audit found about one metric, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faithattn.statistics import Statistics

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports", "contradicts", "cannot tell"


@dataclass(frozen=True)
class Evidence:
    """One metric under one view, over all instances.

    Attributes:
        metric: Its name, such as ``"permutation_test"``.
        view: Name of the view; empty where there is only one.
        quantity: What the numbers are, such as ``"median TVD"``.
        larger_is_faithful: Which way they point.
        overall: All instances.
        groups: Statistics by kind of group and group, such as
            ``groups["predicted"]["1"]``; kinds are ``"predicted"``,
            ``"label"``, ``"length"`` and ``"max attention"``.
        controls: The same quantity where the explanation is ``"random"`` or
            ``"uniform"``.
        null: 95 % band of the mean if explanation and importance were
            unrelated; None where no such band is known.
        ceiling: Agreement of the two importance scores with each other, beyond
            which no explanation can be expected to agree with both; for correlations.
        significant: Instances whose p-value stays below 5 % after Benjamini
            and Hochberg's correction; None without p-values.
        detectable: Smallest difference of the mean from a fixed value that this sample would
            show with probability .8 at the 5 % level.
        failed: Instances of batches in which the metric failed; among the undefined.
        clusters: How many clusters the instances with a value belong to; None
            where each is on its own.
        caution: Where calibration found the metric wanting; empty if nowhere.
        further: Other quantities that a verdict needs, by name. Of the adversary:
            ``"unhindered"`` and ``"bound"``, see ``faithattn.audits.verdicts.reach``.
        settings: How it was measured, where that decides what follows:
            ``"removal"`` (a name) and ``"output"`` (the Result's).
        pvalue: Two-sided p-value of the mean against 0, for correlations.
        adjusted: The same after Benjamini and Hochberg's correction over the views.
    """

    metric: str
    view: str
    quantity: str
    larger_is_faithful: bool
    overall: Statistics
    groups: Mapping[str, Mapping[str, Statistics]] = field(default_factory=dict)
    controls: Mapping[str, Statistics] = field(default_factory=dict)
    null: tuple[float, float] | None = None
    ceiling: Statistics | None = None
    significant: int | None = None
    detectable: float = float("nan")
    failed: int = 0
    caution: str = ""
    further: Mapping[str, Statistics] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    pvalue: float | None = None
    adjusted: float | None = None
    clusters: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What one test says about attention as an explanation.

    Attributes:
        metric: The test.
        view: Name of the view; empty where there is only one.
        conclusion: ``"supports"``, ``"contradicts"`` or ``"cannot tell"``.
        rule: The rule with its thresholds, in words.
        because: The numbers that decided, in words.
    """

    metric: str
    view: str
    conclusion: str
    rule: str
    because: str


@dataclass(frozen=True)
class Failure:
    """A metric that failed on a batch.

    Attributes:
        batch: Number of the batch, from 0.
        instances: Ids of its first and last instance.
        metric: The metric, ``metric`` or ``metric@view``; empty where the batch as a whole failed.
        reason: What went wrong, one line.
    """

    batch: int
    instances: tuple[int, int]
    metric: str
    reason: str


@dataclass(frozen=True, eq=False)
class Instance:
    """One instance to look at.

    Attributes:
        number: Its id.
        tokens: The text of each position; their numbers where it is unknown.
        scores: Scores of the positions by name: ``"attention"``, ``"gradient"``,
            ``"leave_one_out"``, ``"adversary"``.
        values: Its columns; None where undefined.
    """

    number: int
    tokens: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]]
    values: Mapping[str, float | int | bool | None]
