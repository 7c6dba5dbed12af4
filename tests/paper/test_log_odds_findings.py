"""Log-odds as attention and as words over a whole experiment, one instance at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from experiments import LEARNING, SMALL, stories, write_texts
from torch import Tensor

from faithattn import attention_substitution
from faithattn.paper.data.batches import collate_labels
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment import (
    Experiment,
    Prepared,
    find_log_odds,
    prepare,
    word_replacement,
)
from faithattn.paper.experiment.measurement import run_tests
from faithattn.paper.experiment.rankings import rankings
from faithattn.paper.log_odds import LogOdds
from faithattn.paper.models import TextClassifier
from faithattn.paper.reproduction import reproduce
from faithattn.paper.training import build
from faithattn.paper.training.evaluation import Collate


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    path = write_texts(tmp_path_factory.mktemp("data") / "planted.csv")
    return reproduce(path, replace(LEARNING, instances=12))


def planted_words(experiment: Experiment) -> LogOdds:
    """What a regression that found the planted words would say."""
    vocabulary = experiment.prepared.vocabulary
    weights = torch.zeros(1, len(vocabulary))
    great, awful = vocabulary.encode(["great", "awful"])[1:3]
    weights[0, great], weights[0, awful] = 3.0, -3.0
    if experiment.dataset.labels[0] == "good":
        weights = -weights
    return LogOdds(weights, torch.zeros(1))


def test_every_instance_gets_what_it_gets_alone(texts: Experiment) -> None:
    prepared, words = texts.prepared, planted_words(texts)
    found = find_log_odds(prepared, words, 0.9, texts.gradient, texts.loo, progress=False)
    assert found.accuracy == 0.9 and found.replacement is not None
    assert found.replacement.counts == (1, 2, 3, 5)
    assert set(found.replacement.change) == {"attention", "gradient", "leave_one_out", "random"}
    ranked = rankings(texts.gradient, texts.loo, torch.arange(len(texts.examples)))
    for row, place in enumerate(texts.instances):
        ids, _ = prepared.collate([texts.dataset.test[place]])
        assert isinstance(ids, Tensor)
        put = attention_substitution(prepared.model, ids, words.attention(ids))
        for name in ("tvd", "jsd", "flipped"):
            one, other = getattr(found.substitution, name)[row], getattr(put, name)[0]
            torch.testing.assert_close(one, other, equal_nan=True, atol=1e-6, rtol=1e-5)
        for words_found, row_alone in (
            (found.words, words.attention(ids)),
            (found.own_words, prepared.model.run(ids).attention["attention"]),
        ):
            shares = row_alone[0][row_alone[0] > 0].tolist()
            spread = math.exp(-sum(share * math.log(share) for share in shares))
            assert float(words_found[row]) == pytest.approx(spread, rel=1e-4)
        alone = word_replacement(
            prepared.model,
            ids,
            {name: each.ranks[row : row + 1, : ids.shape[1]] for name, each in ranked.items()},
            words,
            seed=texts.settings.seed,
            instances=torch.tensor([place]),
        )
        for name, change in found.replacement.change.items():
            torch.testing.assert_close(
                change[row], alone.change[name][0], equal_nan=True, atol=1e-6, rtol=1e-5
            )
            flipped = found.replacement.flipped[name][row]
            assert torch.equal(flipped.nan_to_num(-1), alone.flipped[name][0].nan_to_num(-1))


def test_what_the_model_uses_is_found(texts: Experiment) -> None:
    """The planted word decides: leave-one-out, which ranks it first, turns the prediction."""
    found = find_log_odds(
        texts.prepared, planted_words(texts), 1.0, texts.gradient, texts.loo, progress=False
    ).replacement
    assert found is not None
    first = {name: float(each[:, 0].nanmean()) for name, each in found.flipped.items()}
    assert first["leave_one_out"] > 0.8 > 0.6 > first["random"]
    further = (found.change["leave_one_out"] - found.change["random"])[:, 0]
    assert float(further.min()) > -1e-6 and float(further.mean()) > 0.01


def test_undefined_rows_are_those_of_short_texts(texts: Experiment) -> None:
    found = find_log_odds(
        texts.prepared, planted_words(texts), 1.0, texts.gradient, texts.loo, progress=False
    )
    assert found.replacement is not None
    lengths = torch.tensor([len(example.tokens) for example in texts.examples])
    for each in (*found.replacement.change.values(), *found.replacement.flipped.values()):
        assert torch.equal(each.isnan(), lengths[:, None] < torch.tensor([1, 2, 3, 5]))
    assert torch.equal(found.substitution.tvd.isnan(), lengths < 2)


@dataclass(frozen=True)
class Labelled(Prepared):
    """Texts with several labels."""

    @property
    def collate(self) -> Collate:
        return partial(collate_labels, vocabulary=self.vocabulary, n_labels=2)


def labelled(path: Path) -> Labelled:
    """An untrained model of two labels, one of which is that a text is good."""
    prepared = prepare(path, SMALL)
    parts = [
        tuple(Example(each.tokens, -1, labels=(0,) * each.label) for each in part)
        for part in prepared.dataset.splits
    ]
    model = build(
        lambda: TextClassifier(
            len(prepared.vocabulary), n_outputs=2, output="sigmoid", embedding_size=6, hidden_size=4
        ),
        seed=0,
    )
    values = vars(prepared) | {
        "dataset": Dataset("labels", *parts, ("good", "odd")),
        "model": model,
    }
    return Labelled(**values)


def test_labels_have_no_class_to_exchange(tmp_path: Path) -> None:
    prepared = labelled(write_texts(tmp_path / "texts.csv"))
    measured = run_tests(prepared, progress=False)
    words = LogOdds(torch.randn(2, len(prepared.vocabulary)), torch.zeros(2))
    found = find_log_odds(prepared, words, 0.5, measured.gradient, measured.loo, progress=False)
    assert found.replacement is None and found.substitution.flipped.isnan().all()
    assert float(found.substitution.jsd.nanmean()) > 1e-3
    assert len(found.substitution.tvd) == len(prepared.instances)


def test_questions_have_no_log_odds() -> None:
    prepared = prepare(stories(), SMALL)
    words = LogOdds(torch.zeros(1, len(prepared.vocabulary)), torch.zeros(1))
    measured = run_tests(prepared, progress=False)
    with pytest.raises(ValueError, match="texts with classes or labels; got questions"):
        find_log_odds(prepared, words, 0.5, measured.gradient, measured.loo, progress=False)
