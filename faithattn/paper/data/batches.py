"""Batches of token ids made from examples, and the positions their evidence gets there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import PADDING
from faithattn.paper.data.vocabulary import Vocabulary


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


def collate_labels(
    examples: Sequence[Example], vocabulary: Vocabulary, n_labels: int
) -> tuple[Tensor, Tensor]:
    """Makes a batch of texts with several independent labels each.

    Args:
        examples: B examples with tokens and ``labels``, of which none may hold.
        vocabulary: Turns tokens into ids.
        n_labels: C, the number of labels.

    Returns:
        The ids ``(B, L)`` as in :func:`collate_texts`. And the labels,
        ``(B, C)``, bool, True where a label holds.

    Raises:
        ValueError: If there is no example, one has no token or no ``labels``,
            or a label is out of range.

    Examples:
        >>> vocabulary = Vocabulary.build([["fever", "cough"]])
        >>> ill = Example(("fever", "cough"), -1, labels=(0, 2))
        >>> well = Example(("cough",), -1, labels=())
        >>> collate_labels([ill, well], vocabulary, 3)[1]
        tensor([[ True, False,  True],
                [False, False, False]])
    """
    _check_tokens(examples)
    require_count("n_labels", n_labels)
    held = torch.zeros(len(examples), n_labels, dtype=torch.bool)
    for row, example in enumerate(examples):
        held[row, list(_checked_labels(row, example, n_labels))] = True
    return _padded([vocabulary.encode(example.tokens) for example in examples]), held


def collate_pairs(
    examples: Sequence[Example], vocabulary: Vocabulary
) -> tuple[dict[str, Tensor], Tensor]:
    """Makes a batch of premises and hypotheses.

    Args:
        examples: B examples whose ``tokens`` are the premise and whose
            ``question`` is the hypothesis.
        vocabulary: Turns tokens into ids.

    Returns:
        The inputs, ``premise`` ``(B, L)`` and ``hypothesis`` ``(B, Lh)`` int64
        ids as in :func:`collate_texts`. And the labels, ``(B,)``, int64.

    Raises:
        ValueError: If there is no example, or one lacks a token or a second text.

    Examples:
        >>> pair = Example(("a", "man", "sleeps"), 1, question=("he", "runs"))
        >>> vocabulary = Vocabulary.build([pair.tokens, pair.question])
        >>> inputs, labels = collate_pairs([pair], vocabulary)
        >>> inputs["premise"], inputs["hypothesis"]
        (tensor([[2, 4, 6, 8, 3]]), tensor([[2, 5, 7, 3]]))
    """
    _check_examples(examples)
    for row, example in enumerate(examples):
        if not example.question:
            raise ValueError(
                f"examples must hold a second text; got none in example {row}. "
                "Use collate_texts for texts alone."
            )
    inputs = {
        "premise": _padded([vocabulary.encode(example.tokens) for example in examples]),
        "hypothesis": _padded([vocabulary.encode(example.question) for example in examples]),
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
    _check_tokens(examples)
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


def _check_tokens(examples: Sequence[Example]) -> None:
    """Raises if there is no example or one has no token."""
    if not examples:
        raise ValueError("examples must hold at least one example; got none. Skip empty batches.")
    for row, example in enumerate(examples):
        if not example.tokens:
            raise ValueError(
                f"examples must hold texts of at least one token; got none in example {row}. "
                "Correct or remove the text."
            )


def _check_examples(examples: Sequence[Example]) -> None:
    """Raises unless there are examples with tokens and a class each."""
    _check_tokens(examples)
    for row, example in enumerate(examples):
        if example.label < 0:
            raise ValueError(
                f"examples must hold labels of 0 or more; got {example.label} in example {row}. "
                "Number the classes from 0."
            )


def _checked_labels(row: int, example: Example, n_labels: int) -> tuple[int, ...]:
    """Returns the labels that hold, which must be known."""
    if example.labels is None:
        raise ValueError(
            f"examples must hold labels; got one class in example {row}. "
            "Use collate_texts for texts of one class each."
        )
    outside = [number for number in example.labels if not 0 <= number < n_labels]
    if outside:
        raise ValueError(
            f"labels must lie in 0..{n_labels - 1}; got {outside[0]} in example {row}. "
            "Number the labels from 0."
        )
    return example.labels


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
