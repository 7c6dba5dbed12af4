from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn.paper.data.batches import collate_questions, collate_texts
from faithattn.paper.data.examples import Example
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import QuestionAnswerer, TextClassifier
from faithattn.paper.training import TrainingRecord, build, evaluate, train_classifier
from faithattn.paper.training.fit import _bucketed

VOCABULARY = Vocabulary.build([["good", "bad", "film", "book", "where", "?"]])


def reviews(n: int, *, positive: int = 2, seed: int = 0) -> list[Example]:
    """Reviews decided by one word; one in ``positive`` is good."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for number in range(n):
        label = int(number % positive == 0)
        before, after = torch.randint(0, 4, (2,), generator=generator).tolist()
        words = ("film",) * before + (("bad", "good")[label],) + ("book",) * after
        examples.append(Example(words, label))
    return examples


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    return collate_texts(examples, VOCABULARY)


def make(encoder: str = "bilstm", seed: int = 0) -> TextClassifier:
    return build(
        lambda: TextClassifier(len(VOCABULARY), encoder=encoder, embedding_size=6, hidden_size=4),
        seed=seed,
    )


def fit(model: nn.Module, train: list[Example], dev: list[Example], **options: Any) -> Any:
    given = {"collate": collate, "learning_rate": 0.02, "progress": False, **options}
    return train_classifier(model, train, dev, **given)


@pytest.mark.parametrize("encoder", ["bilstm", "cnn", "average"])
def test_text_classifier_learns(encoder: str) -> None:
    model = make(encoder)
    assert evaluate(model, reviews(40), collate=collate).accuracy < 0.8
    fit(model, reviews(64), reviews(40, seed=1), batch_size=4)
    assert evaluate(model, reviews(40, seed=2), collate=collate).accuracy == 1


def test_question_answerer_learns() -> None:
    def examples(n: int) -> list[Example]:
        return [Example(("film", w), label, ("where", "?"), (0, 2))
                for label, w in [(0, "good"), (2, "bad")] * n]  # fmt: skip

    def gather(batch: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
        return collate_questions(batch, VOCABULARY, 3)

    model = build(
        lambda: QuestionAnswerer(len(VOCABULARY), 3, embedding_size=6, hidden_size=4), seed=0
    )
    fit(model, examples(20), examples(4), collate=gather)
    scores = evaluate(model, examples(4), collate=gather)
    assert (scores.accuracy, scores.n) == (1, 8)


def test_same_seed_same_model_and_other_seed_another() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        model = make()
        fit(model, reviews(30), reviews(9), epochs=2, batch_size=4, seed=seed)
        return model.state_dict()

    torch.manual_seed(5)
    first = trained(0)
    torch.manual_seed(6)
    before = torch.random.get_rng_state()
    again, other = trained(0), trained(1)
    assert torch.random.get_rng_state().equal(before)
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not first["decoder.weight"].equal(other["decoder.weight"])


def test_one_epoch_is_adam_on_the_weighted_loss() -> None:
    train = reviews(8, positive=4)
    model, slow = make(), make()
    record = fit(model, train, reviews(4), epochs=1, batch_size=8, learning_rate=0.01)
    adam = torch.optim.Adam(slow.parameters(), lr=0.01, weight_decay=1e-5, amsgrad=True)
    total = torch.tensor(0.0)
    for example in train:  # 2 good, 6 bad: weights 8 / (2 * 2) and 8 / (2 * 6)
        inputs, labels = collate([example])
        loss = F.binary_cross_entropy_with_logits(slow(inputs)[0, 0], labels[0].float())
        total = total + loss * (2 if example.label else 2 / 3) / 8
    total.backward()
    adam.step()
    assert record.train_loss[0] == pytest.approx(total.item(), rel=1e-5)
    for name, value in slow.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_class_weights_can_be_left_out() -> None:
    train = reviews(8, positive=4)
    loss = evaluate(make(), train, collate=collate).loss
    record = fit(make(), train, train, epochs=1, batch_size=8, class_weights=False)
    assert record.train_loss[0] == pytest.approx(loss, rel=1e-5)
    weighted = fit(make(), train, train, epochs=1, batch_size=8)
    assert weighted.train_loss[0] != pytest.approx(loss, rel=1e-3)


def test_evaluation_is_a_loop_over_the_examples() -> None:
    model, examples = make(), reviews(21)
    losses, right = [], 0
    for example in examples:
        inputs, labels = collate([example])
        logit = model(inputs)[0, 0]
        losses.append(F.binary_cross_entropy_with_logits(logit, labels[0].float()).item())
        right += int((logit > 0) == bool(example.label))
    for batch_size in (1, 4, 100):
        scores = evaluate(model, examples, collate=collate, batch_size=batch_size)
        assert scores.loss == pytest.approx(sum(losses) / 21, rel=1e-5)
        assert (scores.accuracy, scores.n) == (right / 21, 21)


class Scripted(nn.Module):
    """Predicts the first dev examples right, a given number of them in each epoch."""

    def __init__(self, right: list[int]) -> None:
        super().__init__()
        self.right = right
        self.epoch = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            self.epoch += 1
            return self.weight.expand(len(ids), 1)
        good = self.right[int(self.epoch) - 1]
        return torch.where(torch.arange(len(ids)) < good, 1.0, -1.0).unsqueeze(1)


def script(right: list[int], **options: Any) -> tuple[Scripted, TrainingRecord]:
    """Trains with one step an epoch on dev examples that are all good."""
    model = Scripted(right)
    dev = [Example(("good",), 1)] * 10
    options = {"epochs": len(right), **options}
    return model, fit(model, dev, dev, batch_size=10, **options)


def test_weights_of_the_best_epoch_are_kept() -> None:
    model, record = script([3, 7, 5, 7, 2])
    assert record.dev_accuracy == (0.3, 0.7, 0.5, 0.7, 0.2)
    assert record.best_epoch == 1
    assert model.epoch.item() == 2


def test_patience_stops_training() -> None:
    _, record = script([3, 7, 5, 7, 9, 1], patience=2)
    assert record.dev_accuracy == (0.3, 0.7, 0.5, 0.7)
    _, record = script([3, 7, 5, 8, 9, 1], patience=2)
    assert len(record.dev_accuracy) == 6


def test_a_perfect_dev_score_stops_training() -> None:
    _, record = script([3, 10, 5])
    assert record.dev_accuracy == (0.3, 1.0)
    assert record.best_epoch == 1


def test_modes_are_given_back() -> None:
    model = make()
    model.eval()
    model.encoder.train()
    fit(model, reviews(8), reviews(4), epochs=1)
    assert not model.training
    assert model.encoder.training
    with pytest.raises(ValueError, match="labels must lie in"):
        fit(model, [Example(("good",), 2)], reviews(4), epochs=1)
    assert not model.training


def test_frozen_weights_stay() -> None:
    model = make()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    fit(model, reviews(8), reviews(4), epochs=1)
    assert model.embedding.weight.equal(before)
    assert not model.embedding.weight.requires_grad


def test_every_example_is_in_one_batch_of_like_lengths() -> None:
    examples = [Example(("film",) * (1 + number % 7), number) for number in range(50)]
    batches = _bucketed(examples, 8, torch.Generator().manual_seed(0))
    assert sorted(example.label for batch in batches for example in batch) == list(range(50))
    assert sorted(map(len, batches)) == [2, 8, 8, 8, 8, 8, 8]
    assert max(len({len(e.tokens) for e in batch}) for batch in batches) <= 3
    order = [[e.label for e in batch] for batch in batches]
    generator = torch.Generator().manual_seed(0)
    assert [[e.label for e in b] for b in _bucketed(examples, 8, generator)] == order
    assert [[e.label for e in b] for b in _bucketed(examples, 8, generator)] != order


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    fit(make(), reviews(8), reviews(4), epochs=1)
    assert capsys.readouterr() == ("", "")
    fit(make(), reviews(8), reviews(4), epochs=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    assert "dev_accuracy" in err


def test_a_loss_that_is_not_finite_is_named() -> None:
    model = make()
    with torch.no_grad():
        model.embedding.weight[4:] = torch.nan
    before = model.decoder.weight.clone()
    with pytest.raises(FloatingPointError, match="loss must be finite; got nan in step 1"):
        fit(model, reviews(8), reviews(4))
    assert model.decoder.weight.equal(before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"patience": 0}, ValueError, "patience must be at least 1; got 0"),
        ({"epochs": 2.5}, TypeError, "epochs must be a whole number; got 2.5"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay not negative"),
    ],
)
def test_bad_options_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(make(), reviews(4), reviews(4), **options)


def test_empty_sets_and_unknown_labels_are_named() -> None:
    for train, dev, name in (([], reviews(4), "train"), (reviews(4), [], "dev")):
        with pytest.raises(ValueError, match=f"{name} must hold an example; got none"):
            fit(make(), train, dev)
    with pytest.raises(ValueError, match="examples must hold an example; got none"):
        evaluate(make(), [], collate=collate)
    with pytest.raises(ValueError, match=r"labels must lie in 0..1 for this model; got \[1, 2\]"):
        evaluate(make(), [Example(("good",), 1), Example(("bad",), 2)], collate=collate)


def test_record_is_frozen() -> None:
    _, record = script([3, 4])
    assert record.seconds > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.best_epoch = 0  # type: ignore[misc]
