"""Every kind of task from generated data to a report: what is planted must be found."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faithattn import audit, gradient_correlation, loo_correlation
from faithattn.paper.data.examples import Dataset
from faithattn.paper.data.generated import generate
from faithattn.paper.experiment import Experiment, Settings, prepare, run
from faithattn.paper.report import instance_records, text_table, write_report

SMALL = Settings(
    encoder="average", embedding_size=64, hidden_size=32, batch_size=8, permutations=20,
    adversaries=2, n_steps=20, instances=24,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A task small enough to learn in seconds, and how much of its signal must be found.

    ``found`` is the least ratio of the share of scores on the planted words to their share of
    the text.
    """

    kind: str
    settings: Settings
    n_train: int
    found: float
    words: tuple[int, int] | None = None

    def data(self) -> Dataset:
        return generate(self.kind, n_train=self.n_train, n_dev=80, n_test=80, words=self.words)


CASES = (
    Case("texts", replace(SMALL, epochs=6), 400, 4),
    Case("topics", replace(SMALL, epochs=8), 400, 4),
    Case("labels", replace(SMALL, epochs=10), 600, 10),
    Case("documents", replace(SMALL, epochs=8), 160, 5, (300, 500)),
    Case("pairs", replace(SMALL, embedding_size=256, hidden_size=64, epochs=8), 2500, 2.5),
    Case("questions", replace(SMALL, encoder="cnn", embedding_size=128, hidden_size=64,
                              batch_size=16, epochs=3), 3000, 1.5, (20, 24)),
)  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.kind)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def trained(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    folder = tmp_path_factory.mktemp(case.kind)
    return run(prepare(case.data(), case.settings), checkpoint=folder / "model.npz"), folder


@pytest.fixture(scope="module")
def experiment(trained: tuple[Experiment, Path]) -> Experiment:
    return trained[0]


def test_the_model_learns_more_than_the_commonest_answer(experiment: Experiment) -> None:
    test, labels = experiment.dataset.test, experiment.dataset.labels
    if experiment.dataset.kind == "labels":
        held = np.array([[n in (each.labels or ()) for n in range(len(labels))] for each in test])
        commonest = np.maximum(held.mean(0), 1 - held.mean(0)).mean()
        assert experiment.test.macro_f1 > 0.8
    else:
        commonest = np.bincount([example.label for example in test]).max() / len(test)
    assert experiment.test.accuracy > commonest + 0.4 * (1 - commonest)


def test_the_tests_find_what_is_planted(case: Case, experiment: Experiment) -> None:
    """Attention, gradients and leave-one-out lie on the planted words."""
    shares = experiment.evidence
    assert shares is not None
    blind = float(shares.positions.nanmean())
    for found in (shares.attention, shares.gradient, shares.leave_one_out):
        assert float(found.nanmean()) > case.found * blind


def test_attention_that_is_needed_is_seen_to_be(experiment: Experiment) -> None:
    """These encoders have no context, or little: shuffled attention must change the output."""
    assert float(experiment.permutation.median_tvd.nanmean()) > 0.1
    assert experiment.gradient.summary().overall.low > 0.1
    assert experiment.loo.summary().overall.low > 0.1


def test_shares_are_nan_where_nothing_is_planted(experiment: Experiment) -> None:
    assert experiment.evidence is not None
    known = torch.tensor([bool(example.evidence) for example in experiment.examples])
    for shares in experiment.evidence:
        assert torch.equal(~shares.isnan(), known)


def test_findings_by_log_odds_are_of_single_texts(experiment: Experiment) -> None:
    kind, found = experiment.dataset.kind, experiment.log_odds
    assert (found is None) == (kind in ("pairs", "questions"))
    assert len(experiment.top_k) == 9
    if found is None:
        return
    assert found.accuracy > 0.85
    assert found.substitution.tvd.shape == (24,)
    assert (found.replacement is None) == (kind == "labels")
    if found.replacement is not None and experiment.gradient.mask.sum(1).max() < 100:
        # Words that decide are found by what leaving them out does, not at random. One word of
        # hundreds decides nothing.
        change = found.replacement.change
        above = change["leave_one_out"][:, 0] - change["random"][:, 0]
        assert float(above.nanmean()) > 0.05


def test_the_folder_says_it_all(experiment: Experiment, tmp_path: Path) -> None:
    written = write_report(experiment, tmp_path)
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert data["data"]["kind"] == experiment.dataset.kind
    assert data["accuracy"]["test"] == experiment.test.accuracy
    assert len(data["top_k"]) == 9
    assert len(instance_records(experiment)) == 24
    assert all(path.stat().st_size for path in written)
    table = text_table(experiment)
    assert max(map(len, table.splitlines())) <= 100
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in page.replace("nanos", "").lower().split("<body")[1].split("<script")[0]


def test_the_checkpoint_is_tested_alike(case: Case, trained: tuple[Experiment, Path]) -> None:
    experiment, folder = trained
    settings = replace(case.settings, embedding_size=5, hidden_size=5)  # the file knows better
    prepared = prepare(case.data(), settings, checkpoint=folder / "model.npz")
    assert prepared.dataset == experiment.dataset
    again = run(replace(prepared, instances=experiment.instances[:5]))
    assert again.settings.epsilon == experiment.settings.epsilon
    torch.testing.assert_close(again.gradient.statistic, experiment.gradient.statistic[:5])
    torch.testing.assert_close(
        again.permutation.median_tvd, experiment.permutation.median_tvd[:5], atol=1e-5, rtol=1e-4
    )
    if experiment.log_odds is not None and again.log_odds is not None:
        torch.testing.assert_close(
            again.log_odds.substitution.tvd, experiment.log_odds.substitution.tvd[:5],
            atol=1e-5, rtol=1e-4,
        )  # fmt: skip


def test_an_audit_takes_the_model_and_its_batches(experiment: Experiment) -> None:
    """It says of them what the functions say, batch by batch."""
    prepared = experiment.prepared
    batches = [prepared.collate(experiment.examples[start : start + 6])[0] for start in (0, 6)]
    report = audit(prepared.model, batches, seed=0)
    for name, function in (
        ("gradient_correlation", gradient_correlation),
        ("loo_correlation", loo_correlation),
    ):
        found = next(each for each in report.evidence if each.metric == name)
        alone = torch.cat([function(prepared.model, batch).statistic for batch in batches])
        assert found.overall.n == int((~alone.isnan()).sum())
        assert found.overall.mean == pytest.approx(float(alone.double().nanmean()), abs=1e-6)
    assert len(report.verdicts) == 4
