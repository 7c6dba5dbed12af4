"""Examples, data sets, and batches of token ids made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.paper.data.ids import PADDING
from faithattn.paper.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Example:
    """One text with its label, or one story with its question and answer.

    Attributes:
        tokens: Tokens of the text or story, without special tokens.
        label: Class index.
        question: Tokens of the question; empty for text classification.
        candidates: Class indices that may be the answer; empty for text
            classification.
        evidence: Positions in ``tokens``, from 0, of the sentences that
            support the answer; empty where they are not known.
    """

    tokens: tuple[str, ...]
    label: int
    question: tuple[str, ...] = ()
    candidates: tuple[int, ...] = ()
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Examples in three splits.

    Attributes:
        name: What the data set is called.
        train: Examples to learn from.
        dev: Examples to choose the best epoch with.
        test: Examples to measure on.
        labels: Name of each class, by class index.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]


def collate_texts(examples: Sequence[Example], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Makes a batch for the text classification model.

    Args:
        examples: B examples with at least one token each.
        vocabulary: Turns tokens into ids.

    Returns:
        The ids, shape ``(B, L)``, int64, each row start, words, end, then
        padding; L is the longest text plus 2. And the labels, ``(B,)``, int64.

    Raises:
        ValueError: If there is no example or one has no token.

    Examples:
        >>> vocabulary = Vocabulary.build([["a", "good", "film"]])
        >>> examples = [Example(("a", "film"), 0), Example(("good",), 1)]
        >>> ids, labels = collate_texts(examples, vocabulary)
        >>> ids
        tensor([[2, 4, 5, 3],
                [2, 6, 3, 0]])
        >>> labels
        tensor([0, 1])
    """
    _check_examples(examples)
    ids = _padded([vocabulary.encode(example.tokens) for example in examples])
    return ids, _labels(examples)


def collate_questions(
    examples: Sequence[Example], vocabulary: Vocabulary, n_classes: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Makes a batch for the question answering model.

    Args:
        examples: B examples with tokens, a question, and candidates that
            include the label.
        vocabulary: Turns tokens into ids.
        n_classes: C, the number of classes.

    Returns:
        The inputs, ``passage`` ``(B, L)`` and ``question`` ``(B, Lq)`` int64
        ids as in :func:`collate_texts`, ``candidates`` ``(B, C)`` bool. And the
        labels, ``(B,)``, int64.

    Raises:
        ValueError: If there is no example, one has no token or question, or
            its candidates leave the classes or lack the label.

    Examples:
        >>> story, question = ("mary", "left", "."), ("where", "?")
        >>> vocabulary = Vocabulary.build([story, question])
        >>> example = Example(story, 1, question, candidates=(1, 2))
        >>> inputs, labels = collate_questions([example], vocabulary, 3)
        >>> inputs["candidates"], labels
        (tensor([[False,  True,  True]]), tensor([1]))
    """
    _check_examples(examples)
    require_count("n_classes", n_classes)
    candidates = torch.zeros(len(examples), n_classes, dtype=torch.bool)
    for row, example in enumerate(examples):
        _check_question(row, example, n_classes)
        candidates[row, list(example.candidates)] = True
    inputs = {
        "passage": _padded([vocabulary.encode(example.tokens) for example in examples]),
        "question": _padded([vocabulary.encode(example.question) for example in examples]),
        "candidates": candidates,
    }
    return inputs, _labels(examples)


def evidence_mask(examples: Sequence[Example], length: int) -> Tensor:
    """Marks the supporting sentences in the positions of a collated batch.

    Args:
        examples: B examples.
        length: L, the padded length of the batch.

    Returns:
        True on the evidence, shape ``(B, L)``, bool; the start token is
        position 0. A row of an example without evidence is False.

    Raises:
        ValueError: If there is no example, one has no token, or the evidence
            leaves the tokens or the length.

    Examples:
        >>> example = Example(("mary", "left", ".", "john", "came", "."), 0, evidence=(3, 4, 5))
        >>> evidence_mask([example], 8).int()
        tensor([[0, 0, 0, 0, 1, 1, 1, 0]], dtype=torch.int32)
    """
    _check_examples(examples)
    require_count("length", length)
    mask = torch.zeros(len(examples), length, dtype=torch.bool)
    for row, example in enumerate(examples):
        last = min(len(example.tokens), length - 1) - 1
        outside = [position for position in example.evidence if not 0 <= position <= last]
        if outside:
            raise ValueError(
                f"evidence must lie in 0..{last}; got {outside[0]} in example {row}. "
                "Pass the length of the collated batch."
            )
        mask[row, [position + 1 for position in example.evidence]] = True
    return mask


def _padded(rows: list[list[int]]) -> Tensor:
    """Returns rows of ids as one tensor, padded at the end."""
    ids = torch.full((len(rows), max(map(len, rows))), PADDING, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return ids


def _labels(examples: Sequence[Example]) -> Tensor:
    """Returns the class indices."""
    return torch.tensor([example.label for example in examples], dtype=torch.int64)


def _check_examples(examples: Sequence[Example]) -> None:
    """Raises if there is no example or one has no token."""
    if not examples:
        raise ValueError("examples must hold at least one example; got none. Skip empty batches.")
    for row, example in enumerate(examples):
        if not example.tokens:
            raise ValueError(
                f"examples must hold texts of at least one token; got none in example {row}. "
                "Correct or remove the text."
            )
        if example.label < 0:
            raise ValueError(
                f"examples must hold labels of 0 or more; got {example.label} in example {row}. "
                "Number the classes from 0."
            )


def _check_question(row: int, example: Example, n_classes: int) -> None:
    """Raises unless the example has a question and possible candidates."""
    if not example.question:
        raise ValueError(
            f"examples must hold a question; got none in example {row}. "
            "Use collate_texts for texts alone."
        )
    outside = [c for c in example.candidates if not 0 <= c < n_classes]
    if outside:
        raise ValueError(
            f"candidates must lie in 0..{n_classes - 1}; got {outside[0]} in example {row}. "
            "Number the classes from 0."
        )
    if example.label not in example.candidates:
        raise ValueError(
            f"candidates must include the label; got {example.candidates} and label "
            f"{example.label} in example {row}. Add the answer to the candidates."
        )
