from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faithattn.paper.models import QuestionAnswerer, TextClassifier
from faithattn.paper.training import build

Model = TextClassifier | QuestionAnswerer
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


def passage(inputs: Inputs) -> Tensor:
    """The ids that are explained."""
    return inputs if isinstance(inputs, Tensor) else inputs["passage"]


def alone(inputs: Inputs, row: int) -> Inputs:
    """One instance without any padding."""

    def cut(ids: Tensor) -> Tensor:
        return ids[row : row + 1, : int((ids[row] != 0).sum())]

    if isinstance(inputs, Tensor):
        return cut(inputs)
    return {
        "passage": cut(inputs["passage"]),
        "question": cut(inputs["question"]),
        "candidates": inputs["candidates"][row : row + 1],
    }


def make_text(encoder: str = "bilstm", attention: str = "additive") -> TextClassifier:
    """A small text classifier in double precision."""
    return build(
        lambda: TextClassifier(
            VOCABULARY, encoder=encoder, attention=attention, embedding_size=5, hidden_size=4
        ),
        seed=0,
    ).double()


def make_answerer(encoder: str = "bilstm", attention: str = "additive") -> QuestionAnswerer:
    """A small question answerer in double precision."""
    return build(
        lambda: QuestionAnswerer(
            VOCABULARY, CLASSES, encoder=encoder, attention=attention,
            embedding_size=5, hidden_size=4,
        ),
        seed=0,
    ).double()  # fmt: skip


CASES: list[tuple[Callable[[str, str], Model], Callable[..., Inputs], str, str]] = [
    (make, inputs, encoder, attention)
    for make, inputs in ((make_text, texts), (make_answerer, questions))
    for encoder in ("bilstm", "cnn", "average")
    for attention in ("additive", "scaled_dot")
]
