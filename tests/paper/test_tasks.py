"""Every kind of task from generated data to a report: what is planted must be found."""

from __future__ import annotations

import numpy as np
import pytest

from faithattn.paper.data.examples import Dataset
from faithattn.paper.data.generated import generate
from faithattn.paper.experiment import Experiment, Settings, prepare, run

KINDS = ("texts", "topics", "labels", "pairs", "questions", "documents")
SETTINGS = Settings(
    encoder="average", embedding_size=32, hidden_size=16, permutations=20, adversaries=2,
    n_steps=20, instances=24, epochs=6,
)  # fmt: skip
SIZES = {"n_train": 600, "n_dev": 100, "n_test": 100}


def made(kind: str) -> Dataset:
    if kind == "documents":
        return generate(kind, n_train=160, n_dev=40, n_test=40, words=(300, 500))
    return generate(kind, **SIZES)


@pytest.fixture(scope="module", params=KINDS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return run(prepare(made(request.param), SETTINGS))


def test_the_model_learns_more_than_the_commonest_answer(experiment: Experiment) -> None:
    test = experiment.dataset.test
    if experiment.dataset.kind == "labels":
        held = np.array([[n in each.labels for n in range(len(experiment.dataset.labels))]
                         for each in test])  # fmt: skip
        commonest = np.maximum(held.mean(0), 1 - held.mean(0)).mean()
    else:
        commonest = np.bincount([example.label for example in test]).max() / len(test)
    assert experiment.test.accuracy > commonest + 0.5 * (1 - commonest)
