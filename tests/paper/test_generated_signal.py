"""What small models find in generated data, and what they cannot find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from question_folders import write_questions
from torch import Tensor

from faithattn.paper.data.batches import collate_questions, collate_texts, evidence_mask
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.generated import generate
from faithattn.paper.data.questions import read_questions
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import QuestionAnswerer, TextClassifier
from faithattn.paper.training import build, evaluate, train_classifier

Words = Callable[[Example], Sequence[str]]


def targets(data: Dataset, examples: Sequence[Example]) -> Tensor:
    """One column a class or label, 1 where it holds."""
    held = torch.zeros(len(examples), len(data.labels))
    for row, example in enumerate(examples):
        held[row, list((example.label,) if example.labels is None else example.labels)] = 1
    return held


def bag_of_words(data: Dataset, words: Words = lambda example: example.tokens) -> Tensor:
    """Logits for the test split of a regression on which words there are, fitted to train."""
    vocabulary = Vocabulary.build(map(words, data.train))

    def presence(examples: Sequence[Example]) -> Tensor:
        found = torch.zeros(len(examples), len(vocabulary))
        for row, example in enumerate(examples):
            found[row, vocabulary.encode(words(example))] = 1
        return found

    inputs, held = presence(data.train), targets(data, data.train)
    weights = torch.zeros(len(vocabulary), len(data.labels), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(inputs @ weights, held)
        loss = loss + 1e-3 * weights.square().sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return (presence(data.test) @ weights).detach()


def right(data: Dataset, logits: Tensor) -> float:
    """Share of the test split whose class has the highest logit."""
    return float(np.mean(logits.argmax(1).numpy() == [example.label for example in data.test]))


def majority(data: Dataset) -> float:
    """Share of the most frequent class in the test split."""
    counts = Counter(example.label for example in data.test)
    return counts.most_common(1)[0][1] / len(data.test)


def test_neither_text_of_a_pair_tells_alone() -> None:
    data = generate("pairs", seed=1, n_train=4000, n_dev=1, n_test=1500)
    answers = np.array([example.label for example in data.test])
    # What is best for each hypothesis in training is what any model of it could learn.
    best: dict[tuple[str, ...], Counter[int]] = {}
    for example in data.train:
        best.setdefault(tuple(example.question), Counter())[example.label] += 1
    assert len(best) == 48
    guess = [best[tuple(example.question)].most_common(1)[0][0] for example in data.test]
    # Four standard deviations of chance.
    assert abs(np.mean(guess == answers) - 1 / 3) < 4 * np.sqrt(2 / 9 / 1500)
    for part in ("tokens", "question"):
        share = right(data, bag_of_words(data, attrgetter(part)))
        assert abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / 1500)


def test_words_tell_the_class_of_texts() -> None:
    for kind, n, words in (("texts", 1000, None), ("topics", 600, None)):
        data = generate(kind, n_train=n, n_dev=1, n_test=300, words=words)
        assert majority(data) < 0.6
        assert right(data, bag_of_words(data)) > 0.9


def test_words_tell_the_labels_of_notes() -> None:
    data = generate("labels", n_train=1200, n_dev=1, n_test=300)
    logits, held = bag_of_words(data), targets(data, data.test) > 0
    # The last two hold in few notes, of which little can be learned.
    for scores, holds, least in zip(logits.T, held.T, (0.9, 0.9, 0.9, 0.75, 0.75), strict=True):
        # How often a note with the label scores above one without; 1/2 for any constant.
        above = (scores[holds][:, None] > scores[~holds]).float().mean()
        assert holds.sum() > 5 and above > least


def test_attention_finds_the_planted_words_of_texts_and_documents() -> None:
    for kind, n, batch_size, epochs in (("texts", 600, 32, 3), ("documents", 100, 4, 5)):
        words = (1500, 1600) if kind == "documents" else None
        data = generate(kind, n_train=n, n_dev=20, n_test=40, words=words)
        vocabulary = Vocabulary.build([example.tokens for example in data.train])
        collate = partial(collate_texts, vocabulary=vocabulary)
        model = build(
            partial(
                TextClassifier, len(vocabulary),
                encoder="average", embedding_size=30, hidden_size=16,
            ),
            seed=0,
        )  # fmt: skip
        train_classifier(
            model, data.train, data.dev, collate=collate, epochs=epochs,
            batch_size=batch_size, learning_rate=0.01, progress=False,
        )  # fmt: skip
        assert majority(data) < 0.65
        assert evaluate(model, data.test, collate=collate).accuracy > 0.8
        ids, _ = collate(data.test)
        attention = model.run(ids).attention["attention"]
        on_evidence = (attention * evidence_mask(data.test, ids.shape[1])).sum(1).mean()
        share = np.mean([len(e.evidence) / len(e.tokens) for e in data.test])
        assert on_evidence > 3 * share


def answered(data: Dataset, epochs: int, size: int, rate: float) -> float:
    """Test accuracy of a small model that asks the first text with the second."""
    texts = [text for example in data.train for text in (example.tokens, example.question)]
    vocabulary = Vocabulary.build(texts)
    collate = partial(collate_questions, vocabulary=vocabulary, n_classes=len(data.labels))
    model = build(
        lambda: QuestionAnswerer(
            len(vocabulary), len(data.labels),
            encoder="average", embedding_size=size, hidden_size=size // 2,
        ),
        seed=0,
    )  # fmt: skip
    train_classifier(
        model, data.train, data.dev, collate=collate, epochs=epochs, learning_rate=rate,
        progress=False,
    )  # fmt: skip
    return evaluate(model, data.test, collate=collate).accuracy


def test_both_texts_of_a_pair_tell() -> None:
    data = generate("pairs", n_train=4000, n_dev=100, n_test=400)
    train, dev, test = (
        tuple(replace(example, candidates=(0, 1, 2)) for example in part) for part in data.splits
    )
    assert majority(data) < 0.4
    assert answered(replace(data, train=train, dev=dev, test=test), 6, 64, 0.003) > 0.5


def test_passages_tell_whom_is_asked_for() -> None:
    data = generate("questions", n_train=2000, n_dev=50, n_test=200, words=(100, 200))
    assert majority(data) < 0.15
    # One in the twelve or so that a passage names, at random.
    assert np.mean([1 / len(example.candidates) for example in data.test]) < 0.11
    assert answered(data, 3, 100, 0.003) > 0.25


def test_questions_are_read_back_from_files(tmp_path: Path) -> None:
    data = generate("questions", n_train=40, n_dev=8, n_test=8)
    read = read_questions(write_questions(data, tmp_path / data.name))
    assert set(read.labels) == set(data.labels)  # every entity occurs in so many passages
    for part, wanted in zip(read.splits, data.splits, strict=True):
        assert part == tuple(replace(example, evidence=()) for example in wanted)
    assert (read.name, read.labels, read.left_out) == (data.name, data.labels, {})
