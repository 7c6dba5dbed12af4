"""Examples and data sets: what the published models are trained and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["texts", "labels", "pairs", "questions"]


@dataclass(frozen=True)
class Example:
    """One text with its label or labels, a pair of texts, or a story with its question.

    Attributes:
        tokens: Tokens of the text, premise or passage, without special tokens.
        label: Class index; -1 where there are several labels.
        question: Tokens of the question or hypothesis; empty where there is one
            text only.
        candidates: Class indices that may be the answer to a question; empty
            otherwise.
        evidence: Positions in ``tokens``, from 0, of what the answer rests on;
            empty where it is not known.
        labels: Indices of the labels that hold, ascending, of several that are
            independent; None for one class.
    """

    tokens: Sequence[str]
    label: int
    question: Sequence[str] = ()
    candidates: tuple[int, ...] = ()
    evidence: tuple[int, ...] = ()
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """Examples in three splits.

    Attributes:
        name: What the data set is called.
        train: Examples to learn from.
        dev: Examples to choose the best epoch with.
        test: Examples to measure on.
        labels: Name of each class or label, by index.
        left_out: How many rows of the files were left out, by reason.
        cut: How many of the texts were cut to a maximum length.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0

    @property
    def kind(self) -> Kind:
        """What is asked: a class of texts or of pairs, several labels, an answer to a question.

        Examples:
            >>> pair = Example(("a", "man", "sleeps"), 0, question=("a", "man", "runs"))
            >>> Dataset("pairs", (pair,), (pair,), (pair,), ("contradiction", "neutral")).kind
            'pairs'
        """
        first = next((example for part in self.splits for example in part), None)
        if first is None:
            return "texts"
        if first.labels is not None:
            return "labels"
        if first.question:
            return "questions" if first.candidates else "pairs"
        return "texts"

    @property
    def splits(self) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
        """The training, development and test split."""
        return self.train, self.dev, self.test
