"""Training and evaluation of several labels, and of batches larger than the budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn import memory_budget
from faithattn.adapters.protocol import Run
from faithattn.paper.data.batches import collate_labels, collate_texts
from faithattn.paper.data.examples import Example
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build, evaluate, train_classifier
from faithattn.paper.training.balance import Balance
from faithattn.paper.training.evaluation import Inputs, losses

WORDS = ("fever", "cough", "rash", "well", "today")
VOCABULARY = Vocabulary.build([WORDS])
collate = partial(collate_labels, vocabulary=VOCABULARY, n_labels=3)


def notes(n: int, seed: int = 0) -> list[Example]:
    """Each label holds where its word stands: often, seldom, and very seldom."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for _ in range(n):
        held = (torch.rand(3, generator=generator) < torch.tensor([0.5, 0.2, 0.06])).tolist()
        words = [word for word, flag in zip(WORDS, held, strict=False) if flag]
        words += ["well", "today"] * int(torch.randint(1, 4, (), generator=generator))
        labels = tuple(number for number, flag in enumerate(held) if flag)
        examples.append(Example(tuple(words), -1, labels=labels))
    return examples


def make(**options: object) -> TextClassifier:
    return build(
        lambda: TextClassifier(
            len(VOCABULARY), encoder="average", embedding_size=8, hidden_size=4,
            **({"n_outputs": 3, "output": "sigmoid"} | options),  # type: ignore[arg-type]
        ),
        seed=0,
    )  # fmt: skip


class Given(nn.Module):
    """Logits as they are given, one row a word id."""

    def __init__(self, logits: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits[ids[:, 1] - 4]


def test_every_label_is_learned_the_seldom_ones_too() -> None:
    model = make()
    record = train_classifier(
        model, notes(300), notes(100, 1), collate=collate, epochs=20, learning_rate=0.02,
        batch_size=16, progress=False,
    )  # fmt: skip
    found = evaluate(model, notes(200, 2), collate=collate)
    assert found.accuracy == found.macro_f1 == 1
    assert len(record.dev_f1) == len(record.dev_accuracy)


def test_evaluation_against_a_count_by_hand() -> None:
    logits = [[1.0, -1.0, -1.0], [2.0, 1.0, -3.0], [-1.0, 0.5, -0.1], [-2.0, -2.0, -2.0]]
    held: list[tuple[int, ...]] = [(0,), (1,), (0, 1), ()]
    examples = [
        Example((word,), -1, labels=labels)
        for word, labels in zip(sorted(WORDS), held, strict=False)
    ]
    found = evaluate(Given(logits), examples, collate=collate, batch_size=3)
    # Label 0: hits 1, wrong 1, missed 1; label 1: hits 2; label 2: never held nor given.
    assert found.macro_f1 == pytest.approx((2 / 4 + 1) / 2)
    assert found.accuracy == pytest.approx(10 / 12)
    loss = 0.0
    for row, example in zip(logits, examples, strict=True):
        for number, value in enumerate(row):
            p = 1 / (1 + math.exp(-value))
            loss -= math.log(p if number in (example.labels or ()) else 1 - p) / 3
    assert found.loss == pytest.approx(loss / 4, abs=1e-6)


def test_macro_f1_of_classes_against_a_count_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (60,), generator=generator).tolist()
    logits = torch.randn(5, 5, generator=generator)
    logits[:, 4] = -9  # a class that no example has and none is given
    words = [sorted(WORDS)[place] for place in torch.randint(0, 5, (60,), generator=generator)]
    examples = [Example((word,), label) for word, label in zip(words, truth, strict=True)]
    model = Given(logits.tolist())
    found = evaluate(model, examples, collate=partial(collate_texts, vocabulary=VOCABULARY))
    given = [int(logits[sorted(WORDS).index(word)].argmax()) for word in words]
    scores = []
    for number in range(5):
        hits = sum(g == t == number for g, t in zip(given, truth, strict=True))
        total = given.count(number) + truth.count(number)
        scores += [2 * hits / total] if total else []
    assert found.macro_f1 == pytest.approx(sum(scores) / len(scores))
    assert len(scores) == 4


def test_labels_with_and_without_count_alike() -> None:
    examples = notes(200)
    balance = Balance(examples)
    _, held = collate(examples)
    factors = balance.factors(held)
    for number in range(3):
        column, flags = factors[:, number], held[:, number]
        assert float(column[flags].sum()) == pytest.approx(float(column[~flags].sum()), rel=1e-5)
        assert float(column.mean()) == pytest.approx(1, rel=1e-5)


def test_labels_that_all_have_or_none_are_not_weighted() -> None:
    examples = [Example(("well",), -1, labels=(0,)), Example(("rash",), -1, labels=(0, 1))]
    factors = Balance(examples).factors(collate(examples)[1])
    assert factors.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_batch_in_portions_takes_the_same_step() -> None:
    train = [*notes(40), Example(("well",) * 300, -1, labels=(1,))]
    whole, parts = make().double(), make().double()
    options = {"collate": collate, "epochs": 2, "batch_size": 41, "progress": False}
    one = train_classifier(whole, train, notes(10, 1), **options)  # type: ignore[arg-type]
    sizes: list[int] = []
    forward = parts.forward
    parts.forward = lambda ids: (sizes.append(len(ids)), forward(ids))[1]  # type: ignore[assignment, func-returns-value, return-value]
    with memory_budget(0.2):
        two = train_classifier(parts, train, notes(10, 1), **options)  # type: ignore[arg-type]
    assert max(sizes) < 41
    assert one.train_loss == pytest.approx(two.train_loss, rel=1e-9)
    assert one.dev_loss == pytest.approx(two.dev_loss, rel=1e-9)
    for mine, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)


def test_a_penalty_is_added_to_the_loss_of_one_pass() -> None:
    examples = notes(12)
    model, seen = make().double(), []

    def penalty(run: Run, inputs: Inputs) -> Tensor:
        assert isinstance(inputs, Tensor)
        seen.append(inputs.shape)
        weights = run.attention["attention"]
        return 0.5 * (weights * weights).sum(1)

    expected = copy.deepcopy(model)
    optimizer = torch.optim.Adam(expected.parameters(), 1e-3, weight_decay=1e-5, amsgrad=True)
    inputs, held = collate(examples)
    run = expected.run(inputs)
    each = F.binary_cross_entropy_with_logits(run.logits, held.double(), reduction="none")
    extra = (0.5 * (run.attention["attention"] ** 2).sum(1)).mean()
    ((each * Balance(examples).factors(held)).mean() + extra).backward()
    optimizer.step()
    record = train_classifier(
        model, examples, examples, collate=collate, penalty=penalty, epochs=1, batch_size=12,
        progress=False,
    )  # fmt: skip
    assert len(seen) == 1
    assert record.best_epoch == 0
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)


def test_labels_that_do_not_fit_the_model() -> None:
    with pytest.raises(ValueError, match=r"labels must have a column for each of the model's 2"):
        losses(torch.zeros(4, 2), torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"labels must lie in 0..2"):
        losses(torch.zeros(4, 3), torch.full((4,), -1))
