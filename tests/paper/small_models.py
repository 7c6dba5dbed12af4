from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from faithattn.paper.models import (
    PairClassifier,
    PublishedModel,
    QuestionAnswerer,
    TextClassifier,
)
from faithattn.paper.training import build

Model = PublishedModel
Inputs = Tensor | dict[str, Tensor]

VOCABULARY = 12
CLASSES = 4


def texts(lengths: list[int], *, width: int | None = None, seed: int = 0) -> Tensor:
    """Random texts of so many words, start and end added, padded at the end."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), (width or max(lengths)) + 2, dtype=torch.int64)
    for row, length in enumerate(lengths):
        words = torch.randint(4, VOCABULARY, (length,), generator=generator)
        ids[row, : length + 2] = torch.cat([torch.tensor([2]), words, torch.tensor([3])])
    return ids


def questions(lengths: list[int], *, width: int | None = None) -> dict[str, Tensor]:
    """Random passages of so many words, with questions of different lengths."""
    candidates = torch.ones(len(lengths), CLASSES, dtype=torch.bool)
    candidates[:, 1] = False
    return {
        "passage": texts(lengths, width=width),
        "question": texts([1 + row % 3 for row in range(len(lengths))], seed=1),
        "candidates": candidates,
    }


def pairs(lengths: list[int], *, width: int | None = None) -> dict[str, Tensor]:
    """Random premises of so many words, with hypotheses of different lengths."""
    return {
        "premise": texts(lengths, width=width),
        "hypothesis": texts([1 + row % 3 for row in range(len(lengths))], seed=1),
    }


def explained(inputs: dict[str, Tensor]) -> str:
    """The key of the text that is explained."""
    return "passage" if "passage" in inputs else "premise"


def passage(inputs: Inputs) -> Tensor:
    """The ids that are explained."""
    return inputs if isinstance(inputs, Tensor) else inputs[explained(inputs)]


def with_passage(inputs: Inputs, ids: Tensor) -> Inputs:
    """The same with other ids to explain."""
    return ids if isinstance(inputs, Tensor) else {**inputs, explained(inputs): ids}


def alone(inputs: Inputs, row: int) -> Inputs:
    """One instance without any padding."""

    def cut(ids: Tensor) -> Tensor:
        return ids[row : row + 1, : int((ids[row] != 0).sum())]

    if isinstance(inputs, Tensor):
        return cut(inputs)
    return {
        key: value[row : row + 1] if key == "candidates" else cut(value)
        for key, value in inputs.items()
    }


def make_text(encoder: str = "bilstm", attention: str = "additive") -> TextClassifier:
    """A small text classifier in double precision."""
    return make_classifier(encoder, attention)


def make_labels(encoder: str = "bilstm", attention: str = "additive") -> TextClassifier:
    """The same with three labels, each of which holds or not."""
    return make_classifier(encoder, attention, n_outputs=3, output="sigmoid")


def make_classes(encoder: str = "bilstm", attention: str = "additive") -> TextClassifier:
    """The same with three classes, one of which is right."""
    return make_classifier(encoder, attention, n_outputs=3)


def make_classifier(encoder: str, attention: str, **options: Any) -> TextClassifier:
    """A small text classifier in double precision; fixed attention is far from uniform."""
    strength = torch.linspace(0, 3, VOCABULARY).sin() if attention == "log_odds" else None
    return build(
        lambda: TextClassifier(
            VOCABULARY, encoder=encoder, attention=attention, embedding_size=5, hidden_size=4,
            strength=strength, **options,
        ),
        seed=0,
    ).double()  # fmt: skip


def make_answerer(encoder: str = "bilstm", attention: str = "additive") -> QuestionAnswerer:
    """A small question answerer in double precision."""
    return build(
        lambda: QuestionAnswerer(
            VOCABULARY, CLASSES, encoder=encoder, attention=attention,
            embedding_size=5, hidden_size=4,
        ),
        seed=0,
    ).double()  # fmt: skip


def make_pairs(encoder: str = "bilstm", attention: str = "additive") -> PairClassifier:
    """A small classifier of pairs in double precision."""
    return build(
        lambda: PairClassifier(
            VOCABULARY, 3, encoder=encoder, attention=attention, embedding_size=5, hidden_size=4
        ),
        seed=0,
    ).double()


_BOTH = ("additive", "scaled_dot")
CASES: list[tuple[Callable[[str, str], Model], Callable[..., Inputs], str, str]] = [
    (make, inputs, encoder, attention)
    for make, inputs, attentions in (
        (make_text, texts, (*_BOTH, "log_odds")),
        (make_labels, texts, ("additive",)),
        (make_classes, texts, ("scaled_dot",)),
        (make_answerer, questions, _BOTH),
        (make_pairs, pairs, _BOTH),
    )
    for encoder in ("bilstm", "cnn", "average")
    for attention in attentions
]
