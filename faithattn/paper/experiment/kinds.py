"""What differs between kinds of task: the model, its batches, how it is trained and tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from faithattn.paper.data.batches import (
    collate_labels,
    collate_pairs,
    collate_questions,
    collate_texts,
)
from faithattn.paper.data.examples import Kind
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import PairClassifier, QuestionAnswerer, TextClassifier
from faithattn.paper.training.evaluation import Collate

Model: TypeAlias = TextClassifier | PairClassifier | QuestionAnswerer


@dataclass(frozen=True)
class Practice:
    """How the study treats one kind of task.

    Attributes:
        does: What its model does, in words.
        make: Makes a model of a vocabulary's size and a number of classes.
        collate: Makes batches with a vocabulary and a number of classes.
        epsilon: Output change allowed to an adversary.
        epochs: Passes over the training examples at most.
        patience: Epochs without a better one after which training stops.
    """

    does: str
    make: Callable[..., Model]
    collate: Callable[[Vocabulary, int], Collate]
    epsilon: float
    epochs: int
    patience: int


def _text_model(vocabulary_size: int, n_classes: int, **options: Any) -> TextClassifier:
    """One logit for two classes, as published; one a class for more."""
    return TextClassifier(vocabulary_size, n_outputs=1 if n_classes == 2 else n_classes, **options)


def _label_model(vocabulary_size: int, n_classes: int, **options: Any) -> TextClassifier:
    return TextClassifier(vocabulary_size, n_outputs=n_classes, output="sigmoid", **options)


# Questions need more epochs: the model sits on a plateau for some before it learns to find the
# sentence that answers.
PRACTICE: Mapping[Kind, Practice] = {
    "texts": Practice(
        does="classifies texts",
        make=_text_model,
        collate=lambda vocabulary, _: partial(collate_texts, vocabulary=vocabulary),
        epsilon=0.01,
        epochs=8,
        patience=3,
    ),
    "labels": Practice(
        does="gives texts several labels",
        make=_label_model,
        collate=lambda vocabulary, n: partial(collate_labels, vocabulary=vocabulary, n_labels=n),
        epsilon=0.01,
        epochs=8,
        patience=3,
    ),
    "pairs": Practice(
        does="classifies pairs of texts",
        make=PairClassifier,
        collate=lambda vocabulary, _: partial(collate_pairs, vocabulary=vocabulary),
        epsilon=0.05,
        epochs=16,
        patience=5,
    ),
    "questions": Practice(
        does="answers questions",
        make=QuestionAnswerer,
        collate=lambda vocabulary, n: partial(
            collate_questions, vocabulary=vocabulary, n_classes=n
        ),
        epsilon=0.05,
        epochs=16,
        patience=5,
    ),
}


def kind_of(model: Model) -> Kind:
    """The kind of task that a model does.

    Args:
        model: One of the published models.
    """
    if isinstance(model, QuestionAnswerer):
        return "questions"
    if isinstance(model, PairClassifier):
        return "pairs"
    several = model.output == "sigmoid" and model.decoder.out_features > 1
    return "labels" if several else "texts"


def n_classes_of(model: Model) -> int:
    """How many classes or labels a model knows; one logit decides between two.

    Args:
        model: One of the published models.
    """
    return (
        model.decoder.out_features
        if kind_of(model) != "texts"
        else max(2, model.decoder.out_features)
    )
