"""Statistics of the findings: of words ranked first, log-odds attention and replaced words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faithattn.paper.experiment.findings import LogOddsFindings, Replacement, TopK
from faithattn.results.shares import share_interval
from faithattn.results.substitution import SubstitutionResult
from faithattn.statistics import Difference, Statistics, compare_means, describe

_RANDOM = "random"
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
        tied: Instances where a tie goes beyond the first ``k`` of either score.
    """

    k: int
    pair: str
    ours: Statistics
    chance: float
    whole: int
    tied: int


@dataclass(frozen=True)
class SubstitutionRow:
    """Instances whose log-odds attention is about as far from the model's.

    Attributes:
        name: Range of the divergence, or ``"all"``.
        jsd_from: Where the range begins, nats.
        jsd_to: Where it ends.
        ours: Statistics of the output change.
        flipped: Share whose predicted class changes; nan where there is none.
    """

    name: str
    jsd_from: float
    jsd_to: float
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


class Described(NamedTuple):
    """Statistics of what was found; empty where it was not measured.

    Attributes:
        top_k: One row for each number of words and pair.
        words: On how many words attention lies that follows ``"log_odds"``, and
            the ``"model"``'s.
        substitution: All instances, then those of each range of the divergence.
        replacement: One row for each number of words and order, the orders of
            a number together.
    """

    top_k: tuple[TopKRow, ...]
    words: Mapping[str, Statistics]
    substitution: tuple[SubstitutionRow, ...]
    replacement: tuple[ReplacementRow, ...]


def describe_findings(top_k: Sequence[TopK], log_odds: LogOddsFindings | None) -> Described:
    """Statistics of single instances, which take seconds where there are thousands.

    Args:
        top_k: Distances of the words ranked first.
        log_odds: What log-odds do; None where not measured.
    """
    rows = tuple(_top_k_row(each) for each in top_k)
    if log_odds is None:
        return Described(rows, {}, (), ())
    words = {"log_odds": log_odds.words, "model": log_odds.own_words}
    return Described(
        rows,
        {name: describe(_array(each)) for name, each in words.items()},
        substitution_rows(log_odds.substitution),
        () if log_odds.replacement is None else _replacement_rows(log_odds.replacement),
    )


def _top_k_row(found: TopK) -> TopKRow:
    """The distances of one pair at one number of words."""
    return TopKRow(
        k=found.k,
        pair=found.pair,
        ours=describe(_array(found.distance)),
        chance=float(found.chance[~found.distance.isnan()].double().mean()),
        whole=int((found.positions <= found.k).sum()),
        tied=int(found.tied.sum()),
    )


def substitution_rows(result: SubstitutionResult) -> tuple[SubstitutionRow, ...]:
    """All instances, then those within each range of the divergence.

    Args:
        result: Log-odds attention put in the place of the model's.
    """
    jsd, tvd, flipped = (_array(each) for each in (result.jsd, result.tvd, result.flipped))
    places = np.clip(np.searchsorted(_JSD_EDGES, jsd, side="right") - 1, 0, 3)
    # A nan sorts after every edge; it lies in no range.
    places[np.isnan(jsd)] = -1
    rows = [SubstitutionRow("all", 0.0, _JSD_EDGES[-1], describe(tvd), _share(flipped))]
    for place, name in enumerate(_JSD_NAMES):
        chosen = places == place
        low, high = _JSD_EDGES[place : place + 2]
        row = SubstitutionRow(name, low, high, describe(tvd[chosen]), _share(flipped[chosen]))
        rows.append(row)
    return tuple(rows)


def _replacement_rows(found: Replacement) -> tuple[ReplacementRow, ...]:
    """The falls of each number of words and order, beside those of words drawn at random."""
    rows = []
    for place, count in enumerate(found.counts):
        for order, change in found.change.items():
            fall, flips = _array(change[:, place]), found.flipped[order][:, place]
            above = None
            if order != _RANDOM and _RANDOM in found.change:
                above = compare_means(fall, _array(found.change[_RANDOM][:, place]), paired=True)
            share = _share(_array(flips))
            rows.append(
                ReplacementRow(order, count, describe(fall), share, share_interval(flips), above)
            )
    return tuple(rows)


def _share(flags: NDArray[np.float64]) -> float:
    known = flags[~np.isnan(flags)]
    return float(known.mean()) if len(known) else math.nan


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().double().cpu().numpy(), dtype=np.float64)
