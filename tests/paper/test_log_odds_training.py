"""Attention that is fixed by log-odds, or tied to them in training, through a whole experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiments import LEARNING, write_texts
from torch import Tensor

from faithattn.paper.experiment import Experiment, prepare
from faithattn.paper.report.facts import facts
from faithattn.paper.reproduction import reproduce

SETTINGS = replace(LEARNING, encoder="average", instances=12, epochs=6)


def divergence(experiment: Experiment) -> float:
    """How far the model's attention is from that by log-odds."""
    assert experiment.log_odds is not None
    return float(experiment.log_odds.substitution.jsd.nanmean())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "planted.csv")


@pytest.fixture(scope="module")
def free(path: Path) -> Experiment:
    return reproduce(path, SETTINGS)


def test_a_tie_pulls_the_attention_to_that_of_log_odds(
    path: Path, free: Experiment, tmp_path: Path
) -> None:
    tied = reproduce(path, replace(SETTINGS, tie_attention=5.0), out=tmp_path)
    assert divergence(tied) < 0.2 * divergence(free)
    said = " ".join(facts(tied))
    assert "log-odds: 5 times its divergence (KL, nats) was added to the loss." in said
    assert "log-odds" not in " ".join(facts(free))
    again = prepare(path, SETTINGS, checkpoint=tmp_path / "model.npz")
    assert again.settings.tie_attention == 5.0


def test_fixed_attention_is_that_of_the_regression(
    path: Path, free: Experiment, tmp_path: Path
) -> None:
    fixed = reproduce(path, replace(SETTINGS, attention="log_odds"), out=tmp_path)
    again = prepare(path, SETTINGS, checkpoint=tmp_path / "model.npz")
    for prepared in (fixed.prepared, again):
        ids, _ = prepared.collate(prepared.examples)
        assert isinstance(ids, Tensor) and prepared.log_odds is not None
        own = prepared.model.run(ids).attention["attention"]
        torch.testing.assert_close(own, prepared.log_odds.attention(ids))
        assert float(own.amax(1).max()) > 1.5 * float(
            1 / prepared.log_odds.attention(ids).gt(0).sum(1).max()
        )
    assert divergence(fixed) == pytest.approx(0, abs=1e-6) and divergence(free) > 1e-3
    assert again.settings.attention == "log_odds"
