"""The words ranked first, log-odds attention and replaced words, drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from faithattn.pages.charts.charts import row_chart, scatter_chart
from faithattn.pages.charts.rows import Row, Style
from faithattn.pages.charts.scatter import Cloud
from faithattn.pages.document import Chart
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.description import ReplacementRow, SubstitutionRow, TopKRow
from faithattn.paper.report.arrays import array
from faithattn.paper.report.finding_tables import substitution_table
from faithattn.paper.report.names import ORDER_NAMES, PAIR_NAMES, unit
from faithattn.results.substitution import SubstitutionResult
from faithattn.statistics import Statistics

# Small changes are drawn large enough to be seen; the axis says how large they are.
_LEAST_REACH = 0.02


def finding_charts(experiment: Experiment) -> tuple[Chart, ...]:
    """One figure for each of them that was measured.

    Args:
        experiment: What to draw.
    """
    return tuple(_charts(experiment))


def _charts(experiment: Experiment) -> Iterator[Chart]:
    described, found = experiment.described, experiment.log_odds
    if described.top_k:
        yield _top_k(described.top_k)
    # Where the model's attention is that by log-odds, every point would be the same.
    if found is not None and experiment.settings.attention != "log_odds":
        yield _substitution(found.substitution, described.substitution, unit(experiment))
    if described.replacement:
        yield _replacement(described.replacement)


def _top_k(found: Sequence[TopKRow]) -> Chart:
    """Mean distance of the words ranked first, beside that of unrelated rankings."""
    rows = [
        _mean_row(
            f"first {each.k}: {PAIR_NAMES[each.pair]}",
            each.ours,
            {} if math.isnan(each.chance) else {"random": each.chance},
        )
        for each in found
    ]
    return row_chart(
        "first-words",
        "How far the rankings differ in the words they put first",
        "Kendall distance of the first words: 0 is the same words in the same order. Open circle: "
        "what unrelated rankings of the same lengths would give.",
        rows,
        Style("distance", (0, 1)),
    )


def _substitution(
    result: SubstitutionResult, rows: Sequence[SubstitutionRow], instance: str
) -> Chart:
    """Change of the output against the divergence of the attention that was put in."""
    change = array(result.tvd)
    largest = max([_LEAST_REACH, *change[change == change].tolist()])
    return scatter_chart(
        "log-odds-attention",
        "Attention by log-odds, put in: does the output move?",
        f"Each point is a {instance}. To the right: attention by the log-odds of words is further "
        "from the model's own. Up: the output moves more when it is put in.",
        Cloud(
            array(result.jsd).tolist(),
            change.tolist(),
            "Jensen-Shannon divergence from the model's attention (nats, of at most ln 2 = 0.69)",
            "change of the output (TVD, of at most 1)",
            (0, math.log(2)),
            (0, largest),
            tuple((row.jsd_from, row.jsd_to, row.ours.median) for row in rows[1:]),
        ),
        substitution_table(rows),
    )


def _replacement(found: Sequence[ReplacementRow]) -> Chart:
    """Mean fall of the probability by order and number of words."""
    rows = [
        _mean_row(f"{row.count} by {ORDER_NAMES.get(row.order, row.order)}", row.fall)
        for row in found
    ]
    return row_chart(
        "words-replaced",
        "How far the probability falls when the first words are replaced",
        "By words of another class, the same for every order. An order that finds the words that "
        "matter lies to the right of a random one.",
        rows,
        Style("fall of the predicted class's probability", (0, _LEAST_REACH)),
    )


def _mean_row(label: str, ours: Statistics, marks: dict[str, float] | None = None) -> Row:
    """A mean with its interval."""
    n = ours.n - ours.undefined
    return Row(
        label,
        f"n = {n:,}" if n else f"{ours.undefined} undefined",
        mean=ours.mean,
        interval=None if math.isnan(ours.low) else (ours.low, ours.high),
        marks=marks or {},
    )
