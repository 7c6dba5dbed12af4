"""Several labels, pairs, and F1: training and evaluation against slow loops."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithattn.paper.data.batches import collate_labels, collate_pairs, collate_texts
from faithattn.paper.data.examples import Example
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.training import TrainingRecord, build, evaluate, train_classifier
from faithattn.paper.training.loss import ClassWeights, losses
from faithattn.paper.training.tally import Tally

SIGNS = ("fever", "cough", "rash")
FILLERS = ("the", "patient", "has", "no")
VOCABULARY = Vocabulary.build([SIGNS + FILLERS])


class Bag(nn.Module):
    """Logits that are sums over words: one text, or the product of two."""

    def __init__(self, n_outputs: int, output: str = "sigmoid") -> None:
        super().__init__()
        self.output = output
        self.table = nn.EmbeddingBag(len(VOCABULARY), 8, mode="sum", padding_idx=0)
        self.decoder = nn.Linear(8, n_outputs)

    def forward(self, inputs: Any) -> Tensor:
        if isinstance(inputs, Tensor):
            return self.decoder(self.table(inputs))
        return self.decoder(self.table(inputs["premise"]) * self.table(inputs["hypothesis"]))


def notes(n: int, *, seed: int = 0) -> list[Example]:
    """Notes whose three labels of unequal frequency are what signs they name."""
    rng = random.Random(seed)
    examples = []
    for _ in range(n):
        labels = tuple(c for c, share in enumerate((0.1, 0.4, 0.8)) if rng.random() < share)
        words = [*rng.choices(FILLERS, k=rng.randrange(1, 6)), *(SIGNS[c] for c in labels)]
        rng.shuffle(words)
        examples.append(Example(words, -1, labels=labels))
    return examples


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    return collate_labels(examples, VOCABULARY, 3)


def make(n_outputs: int = 3, output: str = "sigmoid", seed: int = 0) -> Bag:
    return build(lambda: Bag(n_outputs, output), seed=seed)


def fit(model: nn.Module, train: list[Example], dev: list[Example], **options: Any) -> Any:
    given = {"collate": collate, "learning_rate": 0.05, "progress": False, **options}
    return train_classifier(model, train, dev, **given)


def cross_entropy(logit: float, held: bool) -> float:
    return math.log1p(math.exp(-logit if held else logit))


def slow_f1(truth: list[set[int]], predicted: list[set[int]], n: int) -> float:
    """Macro F1 by counting, one class and one example at a time."""
    scores = []
    for c in range(n):
        hits = misses = false = 0
        for true, found in zip(truth, predicted, strict=True):
            hits += c in true and c in found
            misses += c in true and c not in found
            false += c not in true and c in found
        if hits + misses + false:
            precision = hits / (hits + false) if hits + false else 0.0
            recall = hits / (hits + misses) if hits + misses else 0.0
            both = precision + recall
            scores.append(2 * precision * recall / both if both else 0.0)
    return sum(scores) / len(scores) if scores else 1.0


def test_loss_of_labels_is_a_weighted_mean_of_binary_ones() -> None:
    # Of ten: label 0 holds in 2, label 1 in none, label 2 in all.
    examples = [Example(("a",), -1, labels=(0, 2) if row < 2 else (2,)) for row in range(10)]
    logits = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    held = collate(examples)[1]
    plain = losses(logits, held)
    weighted = losses(logits, held, ClassWeights(examples))
    for row in range(10):
        each = [cross_entropy(logits[row, c].item(), c in (examples[row].labels or ())) for c in
                range(3)]  # fmt: skip
        assert plain[row].item() == pytest.approx(sum(each) / 3, rel=1e-12)
        each[0] *= 10 / 4 if row < 2 else 10 / 16
        assert weighted[row].item() == pytest.approx(sum(each) / 3, rel=1e-12)


def test_with_and_without_a_label_count_alike() -> None:
    examples = notes(200)
    held = collate(examples)[1]
    factors = ClassWeights(examples).of(held, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(factors.mean(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((factors * held).sum(0), (factors * ~held).sum(0))


def test_one_epoch_is_adam_on_the_weighted_loss() -> None:
    train = notes(12)
    model, slow = make(), make()
    record = fit(model, train, notes(4), epochs=1, batch_size=12, learning_rate=0.01)
    adam = torch.optim.Adam(slow.parameters(), lr=0.01, weight_decay=1e-5, amsgrad=True)
    counts = [sum(c in (e.labels or ()) for e in train) for c in range(3)]
    total = torch.tensor(0.0)
    for example in train:
        logits = slow(collate([example])[0])[0]
        for c in range(3):
            held = c in (example.labels or ())
            among = counts[c] if held else 12 - counts[c]
            factor = 12 / (2 * among) if 0 < counts[c] < 12 else 1
            total = total + factor * nn.functional.softplus(-logits[c] if held else logits[c]) / 36
    total.backward()
    adam.step()
    assert record.train_loss[0] == pytest.approx(total.item(), rel=1e-5)
    for name, value in slow.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_labels_are_learned() -> None:
    model = make()
    assert evaluate(model, notes(80, seed=2), collate=collate).macro_f1 < 0.7
    record = fit(model, notes(200), notes(60, seed=1), epochs=20, batch_size=8)
    scores = evaluate(model, notes(80, seed=2), collate=collate)
    assert (scores.accuracy, scores.macro_f1) == (1, 1)
    assert record.dev_accuracy[-1] == record.dev_f1[-1] == 1
    assert 1 < len(record.dev_f1) < 20  # all right ends training


def test_evaluation_of_labels_is_a_loop() -> None:
    model, examples = make(seed=3), notes(37)
    truth, predicted, total, right = [], [], 0.0, 0
    for example in examples:
        logits = model(collate([example])[0])[0].tolist()
        truth.append(set(example.labels or ()))
        predicted.append({c for c in range(3) if logits[c] > 0})
        total += sum(cross_entropy(logits[c], c in truth[-1]) for c in range(3)) / 3
        right += 3 - len(truth[-1] ^ predicted[-1])
    assert 0 < right < 111
    for batch_size in (1, 5, 100):
        scores = evaluate(model, examples, collate=collate, batch_size=batch_size)
        assert scores.accuracy == pytest.approx(right / 111, rel=1e-12)
        assert scores.loss == pytest.approx(total / 37, rel=1e-5)
        assert scores.macro_f1 == pytest.approx(slow_f1(truth, predicted, 3), rel=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_f1_of_classes_is_a_loop(n_outputs: int) -> None:
    n_classes = max(2, n_outputs)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(11, n_outputs, generator=generator)
        labels = torch.randint(0, n_classes, (11,), generator=generator)
        if n_outputs == 5:  # one class is never predicted, one neither occurs nor is
            labels[labels == 4] = 3
            logits[:, 3:] = -9
        found = logits.argmax(1) if n_outputs > 1 else (logits[:, 0] > 0).long()
        tally = Tally()
        tally.add(logits[:4], labels[:4])
        tally.add(logits[4:], labels[4:])
        truth, predicted = ([{c} for c in each.tolist()] for each in (labels, found))
        assert tally.macro_f1() == pytest.approx(slow_f1(truth, predicted, n_classes), rel=1e-12)
        assert tally.accuracy() == (found == labels).double().mean().item()


def test_f1_of_nothing_is_one_and_of_false_alarms_none() -> None:
    logits = torch.full((4, 2), -1.0)
    for alarm, expected in ((False, 1.0), (True, 0.0)):
        tally = Tally()
        logits[0, 0] = 1.0 if alarm else -1.0
        tally.add(logits, torch.zeros(4, 2, dtype=torch.bool))
        assert tally.macro_f1() == expected


class Scripted(nn.Module):
    """Says of the first dev notes that they have label 0, a given number in each epoch."""

    def __init__(self, said: list[int]) -> None:
        super().__init__()
        self.said = said
        self.epoch = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            self.epoch += 1
            return self.weight.expand(len(ids), 3)
        logits = torch.full((len(ids), 3), -1.0)
        logits[: self.said[int(self.epoch) - 1], 0] = 1.0
        return logits


def test_the_best_epoch_of_labels_has_the_highest_f1() -> None:
    # Two of ten notes have label 0. To say so of none is right for 28 of 30, of six for 26; but F1
    # is 0 and 1/2.
    dev = [Example(("fever",), -1, labels=(0,) if row < 2 else ()) for row in range(10)]
    model = Scripted([0, 6, 0])
    record = fit(model, dev, dev, epochs=3, batch_size=10)
    assert record.dev_accuracy == pytest.approx((28 / 30, 26 / 30, 28 / 30))
    assert record.dev_f1 == (0, 0.5, 0)
    assert record.best_epoch == 1
    assert model.epoch.item() == 2


def test_pairs_are_learned() -> None:
    # The same sign twice is class 1, and neither text tells it alone.
    def pairs(n: int, seed: int) -> list[Example]:
        rng = random.Random(seed)
        drawn = [(rng.choice(SIGNS[:2]), rng.choice(SIGNS[:2])) for _ in range(n)]
        return [Example(("has", a), int(a == b), question=("the", b)) for a, b in drawn]

    def gather(batch: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
        return collate_pairs(batch, VOCABULARY)

    model = make(2, "softmax")
    fit(model, pairs(100, 0), pairs(40, 1), collate=gather, epochs=30, batch_size=8)
    scores = evaluate(model, pairs(50, 2), collate=gather)
    assert (scores.accuracy, scores.macro_f1, scores.n) == (1, 1, 50)


def test_progress_tells_the_f1_of_labels(capsys: pytest.CaptureFixture[str]) -> None:
    fit(make(), notes(8), notes(4), epochs=1, progress=True)
    assert "dev_f1" in capsys.readouterr().err


def test_records_of_earlier_versions_are_read() -> None:
    record = fit(make(), notes(8), notes(4), epochs=2)
    entries = dataclasses.asdict(record)
    assert len(entries.pop("dev_f1")) == len(record.dev_accuracy)
    assert TrainingRecord(**entries).dev_f1 == ()


def test_labels_that_do_not_fit_the_model_are_named() -> None:
    def classes(batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        return collate_texts(batch, VOCABULARY)

    one = [Example(("fever",), 1)] * 3
    with pytest.raises(ValueError, match=r"labels must have the shape of the logits, \(4, 2\)"):
        fit(make(2), notes(4), notes(4))
    with pytest.raises(ValueError, match="model must have the output 'sigmoid' for several labels"):
        fit(make(3, "softmax"), notes(4), notes(4))
    with pytest.raises(ValueError, match="model must have the output 'softmax' for several class"):
        fit(make(3), one, one, collate=classes)
    with pytest.raises(ValueError, match="examples must hold labels of 0 or more; got -1"):
        fit(make(1), notes(4), notes(4), collate=classes)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1 for this model; got \[-1\]"):
        losses(torch.zeros(1, 1), torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\); got \(2, 3\)"):
        losses(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"labels must be int64 classes, or bool where several"):
        losses(torch.zeros(2, 3), torch.zeros(2, 3))
