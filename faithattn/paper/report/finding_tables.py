"""The words ranked first, log-odds attention and replaced words, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from faithattn.pages.document import Table
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.description import ReplacementRow, SubstitutionRow, TopKRow
from faithattn.paper.experiment.findings import LogOddsFindings
from faithattn.paper.report.arrays import array
from faithattn.paper.report.facts import number, percent
from faithattn.paper.report.names import ORDER_NAMES, PAIR_NAMES
from faithattn.statistics import Difference, Statistics

# Share of a text's words from which on attention is called nearly even.
_NEARLY_EVEN = 0.9


class FindingTable(NamedTuple):
    """What was asked, how to read the numbers, and the numbers."""

    title: str
    reading: str
    table: Table


def finding_tables(experiment: Experiment) -> list[FindingTable]:
    """One table for each question that the experiment has an answer to.

    Args:
        experiment: What to describe.
    """
    described, found = experiment.described, []
    if described.top_k:
        found.append(_top_k(described.top_k))
    if experiment.log_odds is not None:
        found.append(_substitution(experiment, experiment.log_odds))
    if described.replacement:
        found.append(_replacement(described.replacement))
    return found


def _top_k(found: Sequence[TopKRow]) -> FindingTable:
    """Distances of the words ranked first."""
    rows = [
        (
            f"first {row.k}: {PAIR_NAMES[row.pair]}",
            *_counts(row.ours),
            _spread(row.ours),
            _ends(row.ours.low, row.ours.high),
            number(row.chance),
            f"{row.whole:,}",
            f"{row.tied:,}",
        )
        for row in found
    ]
    columns = ("", "n", "undef.", "mean +- std", "interval", "chance", "short", "tied")
    return FindingTable(
        "Do they agree on the first words?",
        "Top-k Kendall distance (Fagin et al. 2003, p = 1/2) of the words ranked first: 0 = the "
        "same in the same order, 1 = reversed, or no word in common. chance: unrelated rankings of "
        "the same lengths. short: instances with no more words, which are compared whole. tied: "
        "instances where a tie goes beyond the first words; its earlier words are then taken, by "
        "both, and the distance says less.",
        _table("Distance of the words ranked first", columns, rows),
    )


def substitution_table(rows: Sequence[SubstitutionRow]) -> Table:
    """The change of the output by range of the divergence.

    Args:
        rows: All instances, then each range.
    """
    cells = [
        (
            row.name if row.name == "all" else f"JSD {row.name}",
            *_counts(row.ours),
            _spread(row.ours),
            _ends(row.ours.low, row.ours.high, digits=3),
            number(row.ours.median),
            "" if math.isnan(row.flipped) else percent(row.flipped),
        )
        for row in rows
    ]
    columns = ("", "n", "undef.", "mean +- std", "interval", "median", "flipped")
    return _table("Output change by divergence from the model's attention", columns, cells)


def _substitution(experiment: Experiment, found: LogOddsFindings) -> FindingTable:
    """Log-odds attention in the place of the model's."""
    result, rows = found.substitution, experiment.described.substitution
    tau = float(result.association.statistic)
    together = "" if math.isnan(tau) else f"; tau of divergence and change {tau:.2f}"
    known = not bool(result.flipped.isnan().all())
    flips = " flipped: share whose predicted class changes." if known else ""
    own = experiment.settings.attention == "log_odds"
    same = " The model's attention is that already." if own else ""
    right = "share of labels right" if experiment.dataset.kind == "labels" else "accuracy"
    return FindingTable(
        "Attention by log-odds, put in",
        "Change of the output (TVD, 0 to 1) when attention follows the log-odds of words instead, "
        f"by its divergence from the model's (JSD, mean {number(float(result.jsd.nanmean()))} of "
        f"at most {math.log(2):.3f}{together}).{same}{_concentration(experiment, found)} The "
        "log-odds are of a regression on which words a text holds, whose own "
        f"{right} on the test split is {found.accuracy:.3f}.{flips}",
        substitution_table(rows[:1] if own else rows),
    )


def _concentration(experiment: Experiment, found: LogOddsFindings) -> str:
    """On how many words either attention lies, and what follows where that is nearly all."""
    words, own = (experiment.described.words[name].median for name in ("log_odds", "model"))
    if math.isnan(words):
        return ""
    said = (
        f" It is as spread as even attention to {_few(words)} words, the model's as that to "
        f"{_few(own)} (exp of the entropy, medians)."
    )
    share = float(np.nanmedian(array(found.words / experiment.gradient.mask.sum(1))))
    if share < _NEARLY_EVEN:
        return said
    return f"{said} That is nearly all words of a text: it does what even attention would do."


def _replacement(found: Sequence[ReplacementRow]) -> FindingTable:
    """The first words replaced by those of another class."""
    rows = [
        (
            f"{row.count} by {ORDER_NAMES.get(row.order, row.order)}",
            *_counts(row.fall),
            number(row.fall.mean),
            _ends(row.fall.low, row.fall.high, digits=3),
            percent(row.flipped),
            *_difference(row.above_random),
        )
        for row in found
    ]
    columns = (
        "", "n", "undef.", "mean", "interval", "flipped", "above random", "interval",
    )  # fmt: skip
    return FindingTable(
        "The first words, replaced",
        "Fall of the predicted class's probability when the words ranked first are replaced by "
        "words of another class, the same words for every order. above random: how much further "
        "it falls than with words drawn at random in the same texts; near 0, the ranking does not "
        "find the words that matter. undef.: texts with fewer words.",
        _table("Fall of the probability by number of words and order", columns, rows),
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table without columns that say nothing."""
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return Table(
        caption,
        tuple(columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in rows),
    )


def _counts(ours: Statistics) -> Iterator[str]:
    """How many instances, and how many of them have no value."""
    yield f"{ours.n:,}"
    yield f"{ours.undefined:,}"


def _spread(ours: Statistics) -> str:
    return number(ours.mean) + ("" if math.isnan(ours.std) else f" +- {ours.std:.3f}")


def _difference(found: Difference | None) -> tuple[str, str]:
    """A paired difference and its interval; empty where there is nothing to compare with."""
    if found is None:
        return "", ""
    return number(found.mean), _ends(found.low, found.high, digits=3)


def _ends(low: float, high: float, digits: int = 2) -> str:
    return "-" if math.isnan(low) else f"{low:.{digits}f}..{high:.{digits}f}"


def _few(words: float) -> str:
    """A number of words: with a digit behind the point where they are few."""
    return f"{words:.1f}" if words < 100 else f"{words:,.0f}"
