"""Models with padded batches for the tests, and ways to change a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from planted import Bag
from torch import Tensor

from faithattn.paper.models import QuestionAnswerer, TextClassifier
from faithattn.paper.training import build

VOCABULARY, CLASSES = 14, 4
LENGTHS = (7, 4, 6, 2, 5)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, a padded batch for it, and how to pad that batch further."""

    name: str
    model: Any
    inputs: Any
    pad: Callable[[Any, int, bool], Any]
    sides: tuple[str, ...] = ("right",)

    @property
    def size(self) -> int:
        return len(LENGTHS)

    @property
    def width(self) -> int:
        """Positions of the padded batch."""
        if isinstance(self.inputs, Tensor):
            return self.inputs.shape[1]
        return self.inputs["passage" if "passage" in self.inputs else "mask"].shape[1]

    def take(self, rows: list[int]) -> Any:
        """Some instances of the batch, padding kept."""
        index = torch.tensor(rows)
        if isinstance(self.inputs, Tensor):
            return self.inputs[index]
        return {key: value[index] for key, value in self.inputs.items()}


def texts(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> Tensor:
    """Texts of so many words with some unknown, start and end added, padded at the end."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths) + 2, dtype=torch.int64)
    for row, length in enumerate(lengths):
        words = torch.randperm(VOCABULARY - 4, generator=generator)[:length] + 4
        words[words == 4] = 1
        ids[row, : length + 2] = torch.cat([torch.tensor([2]), words, torch.tensor([3])])
    return ids


def questions(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    """Passages with questions of different lengths and one entity that is not on offer."""
    candidates = torch.ones(len(lengths), CLASSES, dtype=torch.bool)
    candidates[:, 1] = False
    asked = texts(tuple(1 + row % 3 for row in range(len(lengths))), seed=1)
    return {"passage": texts(lengths), "question": asked, "candidates": candidates}


def make_text(encoder: str, attention: str = "additive", *, spread: float = 6.0) -> TextClassifier:
    """A small text classifier in double precision, decisive enough to be measured."""
    model = build(
        lambda: TextClassifier(
            VOCABULARY, encoder=encoder, attention=attention, embedding_size=5, hidden_size=4
        ),
        seed=0,
    ).double()
    return _louder(model, spread)


def make_answerer(encoder: str, attention: str = "additive") -> QuestionAnswerer:
    """A small question answerer in double precision."""
    model = build(
        lambda: QuestionAnswerer(
            VOCABULARY,
            CLASSES,
            encoder=encoder,
            attention=attention,
            embedding_size=5,
            hidden_size=4,
        ),
        seed=0,
    ).double()
    return _louder(model, 2.0)


def _louder(model: Any, spread: float) -> Any:
    """Larger embeddings and decoders: outputs that attention can move."""
    with torch.no_grad():
        model.embedding.weight.mul_(spread)
        model.decoder.weight.mul_(4)
        model.attention.score and model.attention.score.weight.mul_(4)
    return model


def bags(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(len(lengths), max(lengths), 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"x": x, "mask": mask}


def _pad_ids(ids: Tensor, more: int, left: bool) -> Tensor:
    return torch.nn.functional.pad(ids, (0, more))


def _pad_questions(inputs: dict[str, Tensor], more: int, left: bool) -> dict[str, Tensor]:
    return {**inputs, "passage": _pad_ids(inputs["passage"], more, left)}


def _pad_bags(inputs: dict[str, Tensor], more: int, left: bool) -> dict[str, Tensor]:
    width = (more, 0) if left else (0, more)
    return {
        "x": torch.nn.functional.pad(inputs["x"], (0, 0, *width), value=9.0),
        "mask": torch.nn.functional.pad(inputs["mask"], width),
    }


def make_case(name: str) -> Case:
    """A fresh case by name."""
    if name == "bag":
        return Case(name, Bag(), bags(), _pad_bags, ("right", "left"))
    kind, encoder, attention = name.split("-")
    if kind == "text":
        return Case(name, make_text(encoder, attention), texts(), _pad_ids)
    return Case(name, make_answerer(encoder, attention), questions(), _pad_questions)


CASES = (
    "bag",
    "text-bilstm-additive",
    "text-cnn-scaled_dot",
    "question-bilstm-scaled_dot",
    "question-average-additive",
)
PAPER_CASES = tuple(
    f"{kind}-{encoder}-{attention}"
    for kind in ("text", "question")
    for encoder in ("bilstm", "cnn", "average")
    for attention in ("additive", "scaled_dot")
)
