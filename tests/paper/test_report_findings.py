"""The words ranked first, log-odds attention and replaced words, in every file of a report."""

from __future__ import annotations

import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from kinds import ORDERS, experiment_of, several_labels, topics, with_findings
from scipy import stats

from faithattn.pages.document import Chart, Table
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.description import substitution_rows
from faithattn.paper.experiment.findings import LogOddsFindings
from faithattn.paper.report import document_of, instance_records, results, text_table, write_report
from faithattn.paper.report.finding_charts import finding_charts
from faithattn.paper.report.finding_tables import finding_tables
from faithattn.statistics import mean_interval

PAIRS = {
    "attention_gradient": "attention-gradient",
    "attention_loo": "attention-LOO",
    "gradient_loo": "gradient-LOO",
}
EDGES = (0.0, 0.1, 0.3, 0.5, math.log(2))


@pytest.fixture(scope="module")
def found() -> Experiment:
    return with_findings(experiment_of(topics(40)))


def table_of(experiment: Experiment, title: str) -> dict[str, dict[str, str]]:
    """A table by row and column; of two columns of one name the last."""
    table = next(each.table for each in finding_tables(experiment) if each.title == title)
    return {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}


def kept(values: torch.Tensor) -> Any:
    array = values.double().numpy()
    return array[~np.isnan(array)]


def of_log_odds(experiment: Experiment) -> LogOddsFindings:
    assert experiment.log_odds is not None
    return experiment.log_odds


def charts_of(experiment: Experiment) -> dict[str, Chart]:
    return {chart.name: chart for chart in finding_charts(experiment)}


def test_nothing_is_shown_that_was_not_measured(found: Experiment) -> None:
    bare = replace(found, log_odds=None, top_k=())
    assert finding_tables(bare) == [] and finding_charts(bare) == ()
    data = results(bare)
    assert data["top_k"] is None and data["log_odds"] is None
    assert not any(
        name.startswith(("top_", "substitution", "replaced")) for name in instance_records(bare)[0]
    )


def test_first_words(found: Experiment) -> None:
    rows = table_of(found, "Do they agree on the first words?")
    assert len(rows) == len(found.top_k) == 6
    data = {(row["k"], row["pair"]): row for row in results(found)["top_k"]}
    for each in found.top_k:
        row = rows[f"first {each.k}: {PAIRS[each.pair]}"]
        values, chance = kept(each.distance), kept(each.chance)
        undefined = len(each.distance) - len(values)
        assert undefined > 0
        assert (row["n"], row["undef."]) == ("40", str(undefined))
        assert row["mean +- std"] == f"{values.mean():.3f} +- {values.std(ddof=1):.3f}"
        low, high = mean_interval(values)
        assert row["interval"] == f"{low:.2f}..{high:.2f}"
        assert row["chance"] == f"{chance.mean():.3f}"
        lengths = [len(example.tokens) for example in found.examples]
        whole = sum(length <= each.k for length in lengths)
        assert row["short"] == str(whole)
        tied = sum(length % 4 == 3 for length in lengths)
        assert row["tied"] == str(tied) != str(whole)
        plain = data[each.k, each.pair]
        assert (plain["whole"], plain["n"], plain["undefined"]) == (whole, 40, undefined)
        assert plain["tied"] == tied
        assert plain["mean"] == pytest.approx(values.mean())
        assert plain["chance"] == pytest.approx(chance.mean())
        assert "significant" not in plain


def test_substitution_by_divergence(found: Experiment) -> None:
    # Divergences on, just below and above every edge, and one beyond ln 2 by rounding.
    divergences = [0.0, 0.0999, 0.1, 0.2, 0.3, 0.31, 0.49, 0.5, 0.6, math.log(2) + 1e-7, math.nan]
    jsd = torch.tensor(divergences, dtype=torch.float64)
    tvd = torch.arange(11, dtype=torch.float64) / 100
    flips = torch.tensor([1.0, 0.0] * 5 + [0.0], dtype=torch.float64)
    undefined = jsd.isnan()
    result = replace(
        of_log_odds(found).substitution,
        jsd=jsd,
        tvd=tvd.masked_fill(undefined, torch.nan),
        flipped=flips.masked_fill(undefined, torch.nan),
    )
    first, *rows = substitution_rows(result)
    assert (first.name, first.ours.n, first.ours.undefined) == ("all", 11, 1)
    assert first.ours.median == pytest.approx(0.045) and first.flipped == 0.5
    assert [row.ours.n for row in rows] == [2, 2, 3, 3]
    for row, low, high in zip(rows, EDGES, EDGES[1:], strict=False):
        last = high == EDGES[-1]
        members = [p for p, d in enumerate(divergences) if low <= d and (d < high or last)]
        assert row.ours.median == pytest.approx(np.median([tvd[place] for place in members]))
        assert row.flipped == pytest.approx(np.mean([float(flips[place]) for place in members]))
        assert (row.jsd_from, row.jsd_to) == (low, high)


def test_substitution_in_words_and_numbers(found: Experiment) -> None:
    log_odds = of_log_odds(found)
    result = log_odds.substitution
    title = "Attention by log-odds, put in"
    reading = next(each.reading for each in finding_tables(found) if each.title == title)
    jsd, tvd = kept(result.jsd), kept(result.tvd)
    tau = stats.kendalltau(jsd, np.where(tvd > 5e-7, tvd, 0)).statistic
    assert f"mean {jsd.mean():.3f} of at most 0.693; tau of divergence and change {tau:.2f})" in (
        reading
    )
    assert "accuracy on the test split is 0.750." in reading and "flipped:" in reading
    lengths = np.array([len(example.tokens) for example in found.examples])
    words, own = (np.median(kept(each)) for each in (log_odds.words, log_odds.own_words))
    assert (kept(log_odds.words) / lengths[lengths > 1]).min() > 0.9
    assert (
        f"as spread as even attention to {words:.1f} words, the model's as that to {own:.1f} (exp"
        in reading
    )
    assert "it does what even attention would do" in reading
    row = table_of(found, title)["all"]
    assert row["median"] == f"{np.median(tvd):.3f}"
    assert row["flipped"] == f"{kept(result.flipped).mean():.0%}"
    data = results(found)["log_odds"]
    assert data["accuracy"] == 0.75
    effective = data["effective_words"]
    assert effective["log_odds"]["mean"] == pytest.approx(kept(log_odds.words).mean())
    assert effective["model"]["median"] == pytest.approx(own)
    summary = data["substitution"]
    assert summary["notes"]["mean JSD"] == pytest.approx(jsd.mean())
    assert summary["overall"]["median"] == pytest.approx(np.median(tvd))
    assert sum(each["n"] for each in summary["by_jsd"]) == len(jsd)
    assert [(each["jsd_from"], each["jsd_to"]) for each in summary["by_jsd"]] == list(
        itertools.pairwise(EDGES)
    )
    for each in summary["by_jsd"]:
        chosen = tvd[(each["jsd_from"] <= jsd) & (jsd < each["jsd_to"] + 1e-6)]
        assert each["n"] == len(chosen)
        if len(chosen) > 1:
            assert (each["low"], each["high"]) == pytest.approx(mean_interval(chosen))


@pytest.mark.parametrize(("share", "said"), [(0.89, False), (0.91, True)])
def test_attention_to_nearly_all_words_is_said_to_be(
    found: Experiment, share: float, said: bool
) -> None:
    lengths = found.gradient.mask.sum(1)
    words = (1000 * lengths * share).double()
    longer = replace(found.gradient, mask=found.gradient.mask.repeat(1, 1000))
    findings = of_log_odds(found)._replace(words=words)
    _, put_in, _ = finding_tables(replace(found, gradient=longer, log_odds=findings))
    assert ("what even attention would do" in put_in.reading) is said
    assert f"even attention to {np.median(words):,.0f} words" in put_in.reading


def test_words_replaced(found: Experiment) -> None:
    replacement = of_log_odds(found).replacement
    assert replacement is not None
    rows = table_of(found, "The first words, replaced")
    data = {(row["order"], row["count"]): row for row in results(found)["log_odds"]["replacement"]}
    names = dict(
        zip(ORDERS, ("attention", "gradients", "leave-one-out", "random order"), strict=True)
    )
    assert len(rows) == len(data) == 8
    for order in ORDERS:
        for place, count in enumerate(replacement.counts):
            row, plain = rows[f"{count} by {names[order]}"], data[order, count]
            fall = replacement.change[order][:, place]
            assert row["mean"] == f"{kept(fall).mean():.3f}"
            assert plain["mean"] == pytest.approx(kept(fall).mean())
            flips = kept(replacement.flipped[order][:, place])
            assert row["flipped"] == f"{flips.mean():.0%}"
            wilson = stats.binomtest(int(flips.sum()), len(flips)).proportion_ci(method="wilson")
            assert plain["flipped_interval"] == pytest.approx([wilson.low, wilson.high])
            if order == "random":
                assert row["above random"] == "" and plain["above_random"] is None
                continue
            apart = kept(fall - replacement.change["random"][:, place])
            low, high = mean_interval(apart)
            assert row["above random"] == f"{apart.mean():.3f}"
            assert row["interval"] == f"{low:.3f}..{high:.3f}"
            assert plain["above_random"]["mean"] == pytest.approx(apart.mean())


def test_instances(found: Experiment, tmp_path: Path) -> None:
    write_report(found, tmp_path)
    with (tmp_path / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    log_odds = of_log_odds(found)
    assert log_odds.replacement is not None
    columns = {f"top_{each.k}_{each.pair}": each.distance for each in found.top_k}
    columns |= {f"substitution_{n}": getattr(log_odds.substitution, n) for n in ("jsd", "tvd")}
    columns["substitution_flipped"] = log_odds.substitution.flipped
    for order in ORDERS:
        for place, count in enumerate(log_odds.replacement.counts):
            name = f"replaced_{count}_{order}"
            columns[name] = log_odds.replacement.change[order][:, place]
            columns[f"{name}_flipped"] = log_odds.replacement.flipped[order][:, place]
    columns["effective_words_log_odds"] = log_odds.words
    columns["effective_words_model"] = log_odds.own_words
    assert len(columns) == 6 + 3 + 2 + 16
    for name, values in columns.items():
        read = [float(row[name]) if row[name] else math.nan for row in rows]
        np.testing.assert_allclose(read, values.double().numpy(), rtol=1e-7, atol=1e-12)
    assert {path.name for path in (tmp_path / "figures").iterdir()} >= {
        "first-words.svg", "log-odds-attention.svg", "words-replaced.svg",
    }  # fmt: skip
    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_figures(found: Experiment) -> None:
    drawn = charts_of(found)
    assert list(drawn) == ["first-words", "log-odds-attention", "words-replaced"]
    for chart in drawn.values():
        ElementTree.fromstring(chart.svg)
    first = {row[0]: row for row in drawn["first-words"].data.rows}
    place = drawn["first-words"].data.columns.index("random")
    each = found.top_k[0]
    assert first[f"first {each.k}: {PAIRS[each.pair]}"][place] == f"{kept(each.chance).mean():.3f}"
    rows = drawn["log-odds-attention"].data.rows
    assert rows == tuple(
        (name, *cells.values())
        for name, cells in table_of(found, "Attention by log-odds, put in").items()
    )
    points = ElementTree.fromstring(drawn["log-odds-attention"].svg)
    dots = next(part for part in points.iter() if part.get("class") == "points")
    assert len(dots) == len(kept(of_log_odds(found).substitution.jsd))
    assert len(drawn["words-replaced"].data.rows) == 8


def test_page_and_terminal(found: Experiment) -> None:
    table = text_table(found)
    assert table.isascii() and max(map(len, table.splitlines())) <= 100
    document = document_of(found)
    titles = [section.title for section in document.sections]
    for each in finding_tables(found):
        assert each.title in table and each.title in titles
        section = document.sections[titles.index(each.title)]
        shown = next(part for part in section.parts if isinstance(part, Table))
        assert "mean ± std" in shown.columns or "mean" in shown.columns
        assert len(shown.rows) == len(each.table.rows)


def test_the_widest_table_stays_whole() -> None:
    """Every column stands beside the others where all numbers are negative."""
    experiment = with_findings(experiment_of(topics(12)))
    replacement = of_log_odds(experiment).replacement
    assert replacement is not None
    change = {order: each - 1 for order, each in replacement.change.items()}
    change["random"] = change["random"] + 2
    replacement = replacement._replace(counts=(10, 20), change=change)
    findings = of_log_odds(experiment)._replace(replacement=replacement)
    lines = text_table(replace(experiment, log_odds=findings)).splitlines()
    header = next(line for line in lines if line.split()[-3:] == ["above", "random", "interval"])
    assert header.split()[:5] == ["n", "undef.", "mean", "interval", "flipped"]
    row = next(line for line in lines if line.startswith("  20 by leave-one-out"))
    assert row.count("..-") == 2 and len(row) == len(header) <= 100


def test_without_a_predicted_class() -> None:
    experiment = with_findings(experiment_of(several_labels()))
    assert of_log_odds(experiment).substitution.flipped.isnan().all()
    assert list(charts_of(experiment)) == ["first-words", "log-odds-attention"]
    _, put_in = finding_tables(experiment)
    assert "flipped" not in put_in.reading and "flipped" not in put_in.table.columns
    assert results(experiment)["log_odds"]["replacement"] is None
    assert {row["substitution_flipped"] for row in instance_records(experiment)} == {None}


def test_attention_that_is_by_log_odds_is_not_put_in(found: Experiment) -> None:
    settings = replace(found.settings, attention="log_odds")
    own = replace(found, prepared=replace(found.prepared, settings=settings))
    assert list(charts_of(own)) == ["first-words", "words-replaced"]
    _, put_in, _ = finding_tables(own)
    assert "The model's attention is that already." in put_in.reading
    assert [row[0] for row in put_in.table.rows] == ["all"]
    assert "already" not in finding_tables(found)[1].reading


def test_nothing_defined() -> None:
    """Every text of one word."""
    data = topics(6)
    short = tuple(replace(example, tokens=example.tokens[:1]) for example in data.test)
    experiment = with_findings(experiment_of(replace(data, test=short)))
    said = text_table(experiment) + "".join(chart.svg for chart in finding_charts(experiment))
    assert "nan" not in said.lower().split()
    assert "Half the tested texts have 1 word or fewer, too few for a tau." in said
    assert results(experiment)["top_k"][0]["mean"] is None
