"""The numbers of the words ranked first, of log-odds attention and of replaced words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.findings import LogOddsFindings, Replacement
from faithattn.paper.report.arrays import Values, array
from faithattn.results.shares import share_interval
from faithattn.results.substitution import SubstitutionResult
from faithattn.statistics import Difference, Statistics, compare_means, describe

RANDOM = "random"
_JSD_EDGES = (0.0, 0.1, 0.3, 0.5, math.log(2))
_JSD_NAMES = ("[0,.1)", "[.1,.3)", "[.3,.5)", "[.5,ln 2]")


@dataclass(frozen=True)
class TopKRow:
    """How far apart the words ranked first are by two scores.

    Attributes:
        k: How many words are looked at.
        pair: Which two scores.
        ours: Statistics of the distance, 0 (alike) to 1.
        chance: Mean of what unrelated rankings would give.
        whole: Instances with no more than ``k`` words, compared whole.
    """

    k: int
    pair: str
    ours: Statistics
    chance: float
    whole: int


@dataclass(frozen=True)
class SubstitutionRow:
    """Instances whose log-odds attention is about as far from the model's.

    Attributes:
        name: Range of the divergence, or ``"all"``.
        low: Where the range begins, nats.
        high: Where it ends.
        ours: Statistics of the output change.
        flipped: Share whose predicted class changes; nan where there is none.
    """

    name: str
    low: float
    high: float
    ours: Statistics
    flipped: float


@dataclass(frozen=True)
class ReplacementRow:
    """The first words by one order, replaced.

    Attributes:
        order: ``"attention"``, ``"gradient"``, ``"leave_one_out"`` or ``"random"``.
        count: How many words.
        fall: Statistics of the fall of the predicted class's probability.
        flipped: Share whose predicted class changes.
        flipped_interval: Its 95 % Wilson interval.
        above_random: By how much the fall is larger than with words drawn at
            random in the same texts; None for those.
    """

    order: str
    count: int
    fall: Statistics
    flipped: float
    flipped_interval: tuple[float, float]
    above_random: Difference | None


def top_k_rows(experiment: Experiment) -> list[TopKRow]:
    """One row for each number of words and pair.

    Args:
        experiment: What to describe.
    """
    return [
        TopKRow(
            k=each.k,
            pair=each.pair,
            ours=describe(array(each.distance)),
            chance=float(each.chance[~each.distance.isnan()].double().mean()),
            whole=int((each.positions <= each.k).sum()),
        )
        for each in experiment.top_k
    ]


def substitution_rows(result: SubstitutionResult) -> list[SubstitutionRow]:
    """All instances, then those within each range of the divergence.

    Args:
        result: Log-odds attention put in the place of the model's.
    """
    jsd, tvd, flipped = (array(each) for each in (result.jsd, result.tvd, result.flipped))
    places = np.clip(np.searchsorted(_JSD_EDGES, jsd, side="right") - 1, 0, 3)
    # A nan sorts after every edge; it lies in no range.
    places[np.isnan(jsd)] = -1
    rows = [SubstitutionRow("all", 0.0, _JSD_EDGES[-1], describe(tvd), _share(flipped))]
    for place, name in enumerate(_JSD_NAMES):
        chosen = places == place
        low, high = _JSD_EDGES[place : place + 2]
        row = SubstitutionRow(name, low, high, describe(tvd[chosen]), _share(flipped[chosen]))
        rows.append(row)
    return rows


def replacement_rows(found: Replacement) -> list[ReplacementRow]:
    """One row for each number of words and order, the orders of a number together.

    Args:
        found: The words ranked first, replaced.
    """
    rows = []
    for place, count in enumerate(found.counts):
        for order, change in found.change.items():
            fall, flips = array(change[:, place]), found.flipped[order][:, place]
            above = None
            if order != RANDOM and RANDOM in found.change:
                above = compare_means(fall, array(found.change[RANDOM][:, place]), paired=True)
            share = _share(array(flips))
            rows.append(
                ReplacementRow(order, count, describe(fall), share, share_interval(flips), above)
            )
    return rows


def findings(experiment: Experiment) -> dict[str, Any]:
    """All of them as plain values; None where they were not measured.

    Args:
        experiment: What to describe.
    """
    top_k = [_flat(asdict(row), "ours") for row in top_k_rows(experiment)]
    found = experiment.log_odds
    return {"top_k": top_k or None, "log_odds": None if found is None else _log_odds(found)}


def _log_odds(found: LogOddsFindings) -> dict[str, Any]:
    """What log-odds did, as plain values."""
    rows = [_flat(asdict(row), "ours") for row in substitution_rows(found.substitution)]
    replaced = None
    if found.replacement is not None:
        replaced = [_flat(asdict(row), "fall") for row in replacement_rows(found.replacement)]
    return {
        "accuracy": found.accuracy,
        "substitution": found.substitution.summary().to_dict() | {"by_jsd": rows[1:]},
        "replacement": replaced,
    }


def _flat(row: dict[str, Any], inner: str) -> dict[str, Any]:
    """A row with its statistics beside its other values; p-values are none of them."""
    statistics = {key: value for key, value in row.pop(inner).items() if key != "significant"}
    return row | statistics


def _share(flags: Values) -> float:
    known = flags[~np.isnan(flags)]
    return float(known.mean()) if len(known) else math.nan
