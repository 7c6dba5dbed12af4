from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
import pytest
import torch
from experiments import LEARNING, SMALL, hostile, stories, write_texts

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.experiment import Experiment
from faithattn.paper.report.drawing import style
from faithattn.paper.report.figures import CAPTIONS, draw, save_figures
from faithattn.paper.report.heatmap import telling_instances
from faithattn.paper.reproduction import reproduce


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return reproduce(write_texts(tmp_path_factory.mktemp("data") / "sst.csv"), LEARNING)


def svg(folder: Path, name: str) -> str:
    return (folder / f"{name}.svg").read_text(encoding="utf-8")


def test_every_figure_says_what_it_shows(texts: Experiment, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    paths = save_figures(draw(texts), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert len(paths) == 2 * len(CAPTIONS)
    for path in paths:
        assert path.stat().st_size > 5000
        if path.suffix == ".svg":
            ElementTree.parse(path)
    assert "Attention and gradients" in svg(tmp_path, "tau-histograms")
    assert "published mean" in svg(tmp_path, "tau-histograms")
    assert "1 undefined" in svg(tmp_path, "tau-histograms")
    assert "Output change under shuffled attention" in svg(tmp_path, "permutation-violins")
    assert "predicted good" in svg(tmp_path, "permutation-violins")
    assert "no instances" in svg(tmp_path, "permutation-violins")
    assert "ln 2" in svg(tmp_path, "adversarial-histogram")
    assert "output within 0.01" in svg(tmp_path, "adversarial-violins")
    assert "gradients and leave-one-out" in svg(tmp_path, "pair-agreement")
    assert "JSD" in svg(tmp_path, "heatmaps")


def test_histograms_hold_every_defined_value(texts: Experiment) -> None:
    left = draw(texts)["tau-histograms"].axes[0]
    bars = [patch for patch in left.patches if hasattr(patch, "get_height")]
    heights = [patch.get_height() for patch in bars if abs(patch.get_width() - 0.05) < 1e-6]
    defined = int((~texts.gradient.statistic.isnan()).sum())
    assert sum(heights) == defined == len(texts.examples) - 1


def test_many_classes_are_drawn_as_one(tmp_path: Path) -> None:
    figures = draw(reproduce(stories(), SMALL))
    save_figures({name: figures[name] for name in ("tau-histograms", "heatmaps")}, tmp_path)
    assert "predicted" not in svg(tmp_path, "tau-histograms")
    assert "where is" in svg(tmp_path, "heatmaps")


def test_hostile_words_are_drawn_as_they_are(tmp_path: Path) -> None:
    save_figures({"heatmaps": draw(reproduce(hostile(), SMALL))["heatmaps"]}, tmp_path)
    ElementTree.parse(tmp_path / "heatmaps.svg")
    # Matplotlib writes each text as a comment beside its outline.
    comments = re.findall(r"<!-- (.*?) -->", svg(tmp_path, "heatmaps"))
    for word in ("$x^$", "\\frac", "<b>", "&", "#_{"):
        assert escape(word) in comments, word


def test_words_stay_inside_the_page(texts: Experiment) -> None:
    long = generate_babi(3, n_train=8, n_dev=2, n_test=8)
    for experiment in (texts, reproduce(long, SMALL), reproduce(hostile(), SMALL)):
        figure = draw(experiment)["heatmaps"]
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        width, height = figure.canvas.get_width_height()
        with style():
            boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
        for box in boxes:
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y0 >= 0
            assert box.y1 <= height
        # No two texts on one another.
        for index, first in enumerate(boxes):
            for second in boxes[index + 1 :]:
                overlap = np.minimum(first.max, second.max) - np.maximum(first.min, second.min)
                assert (overlap < 2).any()


def test_telling_instances_are_strong_and_far(texts: Experiment) -> None:
    result = texts.adversarial
    jsd = torch.full_like(result.max_jsd, 0.1)
    strong = torch.full_like(jsd, 0.3)
    jsd[3], strong[3] = math.log(2), 0.9
    jsd[5] = math.nan
    found = torch.ones_like(result.feasible)
    found[4] = False
    changed = replace(result, max_jsd=jsd, max_attention=strong, feasible=found)
    chosen = telling_instances(replace(texts, adversarial=changed))
    assert chosen[0] == 3
    assert not {4, 5} & set(chosen)
    assert len(chosen) == 5


def test_no_adversary_at_all(texts: Experiment) -> None:
    result = texts.adversarial
    none = replace(
        result,
        feasible=torch.zeros_like(result.feasible),
        max_jsd=torch.zeros_like(result.max_jsd),
    )
    figure = draw(replace(texts, adversarial=none))["heatmaps"]
    assert any("No instance has" in text.get_text() for text in figure.axes[0].texts)


def test_nothing_defined_at_all(texts: Experiment, tmp_path: Path) -> None:
    """Every text of one word."""
    data = texts.dataset
    short = tuple(replace(example, tokens=example.tokens[:1]) for example in data.test)
    experiment = reproduce(replace(data, test=short), SMALL)
    save_figures(draw(experiment), tmp_path)
    assert "no values" in svg(tmp_path, "tau-histograms")


def test_long_texts_are_cut_around_the_attention(texts: Experiment) -> None:
    data = texts.dataset
    long = tuple(replace(example, tokens=example.tokens * 40) for example in data.test[:6])
    figure = draw(reproduce(replace(data, test=long), SMALL))["heatmaps"]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "…" in words
    assert len(words) < 5 * (2 * 90 + 4) + 2


def test_pyplot_is_not_loaded() -> None:
    code = (
        "import sys, faithattn.paper.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
