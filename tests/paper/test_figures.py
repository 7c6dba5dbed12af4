from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from experiments import LEARNING, SMALL, hostile, stories, write_texts

from faithattn.pages.document import Chart
from faithattn.pages.html import html
from faithattn.paper.experiment import Experiment
from faithattn.paper.report.charts import charts
from faithattn.paper.report.document import document_of
from faithattn.paper.report.telling import explorer, telling_instances
from faithattn.paper.reproduction import reproduce


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return reproduce(write_texts(tmp_path_factory.mktemp("data") / "sst.csv"), LEARNING)


def by_name(experiment: Experiment) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts(experiment)}


def said(chart: Chart) -> str:
    return " ".join(ElementTree.fromstring(chart.svg).itertext())


def test_every_figure_says_what_it_shows(texts: Experiment) -> None:
    drawn = by_name(texts)
    assert len(drawn) == 6
    assert "1 undefined" in drawn["tau-gradients"].title
    assert "published" in said(drawn["tau-gradients"])
    assert "predicted good" in said(drawn["permutation-by-attention"])
    assert "no instances" in said(drawn["permutation-by-attention"])
    assert "ln 2: no word in common" in said(drawn["adversarial-histogram"])
    assert "output within 0.01" in drawn["adversarial-by-attention"].title
    assert "gradients and leave-one-out" in said(drawn["pair-agreement"])


def test_histograms_hold_every_defined_value(texts: Experiment) -> None:
    data = by_name(texts)["tau-gradients"].data
    # A table of many bins is set upright: a column for each group.
    counts = dict.fromkeys(data.columns[1:], 0)
    for first, *cells in data.rows:
        if " to " in first:
            for name, cell in zip(counts, cells, strict=True):
                counts[name] += int(cell)
    defined = ~texts.gradient.statistic.isnan()
    assert counts["all"] == int(defined.sum()) == len(texts.examples) - 1
    for number, label in enumerate(texts.dataset.labels):
        members = defined & (texts.gradient.predicted == number)
        assert counts[f"predicted {label}"] == int(members.sum())


def test_outlines_have_the_quartiles_of_their_values(texts: Experiment) -> None:
    rows = {name: cells for name, *cells in by_name(texts)["pair-agreement"].data.rows}
    values = texts.loo.statistic[~texts.loo.statistic.isnan()].double().numpy()
    expected = [f"{value:.3f}" for value in np.quantile(values, (0.25, 0.5, 0.75))]
    assert rows["attention and leave-one-out"][2:5] == expected
    assert rows["attention and leave-one-out"][0] == f"{values.mean():.3f}"


def test_published_figures_are_marked(texts: Experiment) -> None:
    data = by_name(texts)["pair-agreement"].data
    place = data.columns.index("published")
    row = next(row for row in data.rows if row[0] == "gradients and leave-one-out")
    figure = texts.published("gradient_loo")
    assert figure is not None and row[place] == f"{figure.mean:.3f}"


def test_many_classes_are_drawn_as_one() -> None:
    experiment = reproduce(stories(), SMALL)
    assert "predicted" not in said(by_name(experiment)["tau-gradients"])
    shown = explorer(experiment)
    assert shown is not None and "where is" in shown.specimens[0].title


def test_hostile_words_are_shown_as_they_are() -> None:
    page = html(document_of(reproduce(hostile(), SMALL)))
    for word in ("$x^$", "\\frac", "&lt;b&gt;", "&amp;", "#_{", "--&gt;", "&quot;"):
        assert f">{word}</span>" in page, word
    assert "<b>" not in page and "\ud800" not in page


def test_telling_instances_are_strong_and_far(texts: Experiment) -> None:
    result = texts.adversarial
    jsd = torch.full_like(result.max_jsd, 0.1)
    strong = torch.full_like(jsd, 0.3)
    jsd[3], strong[3] = math.log(2), 0.9
    jsd[5] = math.nan
    found = torch.ones_like(result.feasible)
    found[4] = False
    changed = replace(result, max_jsd=jsd, max_attention=strong, feasible=found)
    chosen = telling_instances(replace(texts, adversarial=changed), 5)
    assert chosen[0] == 3
    assert not {4, 5} & set(chosen)
    assert len(chosen) == 5


def test_texts_show_what_was_measured(texts: Experiment) -> None:
    shown = explorer(texts)
    assert shown is not None
    row = telling_instances(texts)[0]
    first, mask = shown.specimens[0], texts.gradient.mask[row]
    assert first.tokens == tuple(texts.examples[row].tokens)
    tracks = {track.name: track for track in first.tracks}
    own, other = tracks["the model's attention"], tracks["other attention, same output"]
    assert own.values == tuple(texts.adversarial.original[row][mask].double().tolist())
    assert other.values == tuple(texts.adversarial.strongest[row][mask].double().tolist())
    assert own.strongest == other.strongest == max(own.values + other.values)
    importance = texts.gradient.importance[row][mask].double()
    assert tracks["gradients"].values == tuple(importance.tolist())


def test_no_adversary_at_all(texts: Experiment) -> None:
    result = texts.adversarial
    none = replace(
        result,
        feasible=torch.zeros_like(result.feasible),
        max_jsd=torch.zeros_like(result.max_jsd),
    )
    assert "No instance has other attention" in html(document_of(replace(texts, adversarial=none)))


def test_nothing_defined_at_all(texts: Experiment) -> None:
    """Every text of one word."""
    data = texts.dataset
    short = tuple(replace(example, tokens=example.tokens[:1]) for example in data.test)
    experiment = reproduce(replace(data, test=short), SMALL)
    assert "no values" in by_name(experiment)["tau-gradients"].title
    assert not re.search(r"\bnan\b", html(document_of(experiment)))


def test_long_texts_are_cut_around_the_attention(texts: Experiment) -> None:
    data = texts.dataset
    long = tuple(replace(example, tokens=example.tokens * 40) for example in data.test[:6])
    shown = explorer(reproduce(replace(data, test=long), SMALL))
    assert shown is not None
    for specimen in shown.specimens:
        assert len(specimen.tokens) <= 60 and "with their neighbours" in specimen.text


def test_figures_are_drawings_of_their_own(tmp_path: Path) -> None:
    reproduce(stories(), SMALL, out=tmp_path)
    for path in (tmp_path / "figures").iterdir():
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg") and "var(" not in path.read_text(encoding="utf-8")
