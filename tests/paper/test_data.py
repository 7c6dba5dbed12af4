from __future__ import annotations

import pytest
import torch

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.batches import collate_questions, collate_texts, evidence_mask
from faithattn.paper.data.examples import Example
from faithattn.paper.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build([["a", "b", "c", "where", "?"]])  # ids: ? 4, a 5, b 6, c 7, where 8
STORY = Example(("a", "b", "c"), 2, ("where", "?"), (0, 2), (0, 2))


def test_collate_texts_pads_at_the_end() -> None:
    ids, labels = collate_texts([Example(("a", "x", "c"), 1), Example(("b",), 0)], VOCABULARY)
    assert ids.tolist() == [[2, 5, 1, 7, 3], [2, 6, 3, 0, 0]]
    assert ids.dtype == labels.dtype == torch.int64
    assert labels.tolist() == [1, 0]


def test_a_text_of_only_unknown_words_is_kept() -> None:
    ids, _ = collate_texts([Example(("x", "y"), 0)], VOCABULARY)
    assert ids.tolist() == [[2, 1, 1, 3]]


def test_collate_questions() -> None:
    other = Example(("b",), 0, ("where", "a", "?"), (0, 1))
    inputs, labels = collate_questions([STORY, other], VOCABULARY, 3)
    assert sorted(inputs) == ["candidates", "passage", "question"]
    assert inputs["passage"].tolist() == [[2, 5, 6, 7, 3], [2, 6, 3, 0, 0]]
    assert inputs["question"].tolist() == [[2, 8, 4, 3, 0], [2, 8, 5, 4, 3]]
    assert inputs["candidates"].tolist() == [[True, False, True], [True, True, False]]
    assert inputs["candidates"].dtype == torch.bool
    assert labels.dtype == torch.int64
    assert labels.tolist() == [2, 0]


def test_evidence_mask_lines_up_with_the_ids() -> None:
    data = generate_babi(3, n_train=20, n_dev=1, n_test=1)
    vocabulary = Vocabulary.build(example.tokens for example in data.train)
    ids, _ = collate_texts(data.train, vocabulary)
    mask = evidence_mask(data.train, ids.shape[1])
    assert mask.shape == ids.shape
    assert mask.dtype == torch.bool
    for row, example in enumerate(data.train):
        words = vocabulary.decode(ids[row, mask[row]].tolist())
        assert words == [example.tokens[position] for position in example.evidence]


def test_evidence_mask_of_an_example_without_evidence() -> None:
    mask = evidence_mask([STORY, Example(("a",), 0)], 5)
    assert mask.tolist() == [[False, True, False, True, False], [False] * 5]


def test_evidence_must_fit() -> None:
    with pytest.raises(ValueError, match=r"evidence must lie in 0..1; got 2 in example 0"):
        evidence_mask([STORY], 3)
    with pytest.raises(ValueError, match=r"evidence must lie in 0..0; got 1 in example 1"):
        evidence_mask([STORY, Example(("a",), 0, evidence=(1,))], 8)
    with pytest.raises(ValueError, match=r"length must be at least 1"):
        evidence_mask([STORY], 0)


def test_empty_and_wrong_batches() -> None:
    with pytest.raises(ValueError, match=r"at least one example; got none"):
        collate_texts([], VOCABULARY)
    with pytest.raises(ValueError, match=r"at least one example; got none"):
        collate_questions([], VOCABULARY, 3)
    with pytest.raises(ValueError, match=r"at least one example; got none"):
        evidence_mask([], 3)
    with pytest.raises(ValueError, match=r"at least one token; got none in example 1"):
        collate_texts([STORY, Example((), 0)], VOCABULARY)
    with pytest.raises(ValueError, match=r"labels of 0 or more; got -1 in example 0"):
        collate_texts([Example(("a",), -1)], VOCABULARY)


def test_wrong_questions() -> None:
    with pytest.raises(ValueError, match=r"must hold a question; got none in example 0"):
        collate_questions([Example(("a",), 0, candidates=(0,))], VOCABULARY, 2)
    with pytest.raises(ValueError, match=r"candidates must lie in 0..1; got 2 in example 0"):
        collate_questions([STORY], VOCABULARY, 2)
    with pytest.raises(ValueError, match=r"must include the label; got \(0, 1\) and label 2"):
        collate_questions([Example(("a",), 2, ("where",), (0, 1))], VOCABULARY, 3)
    with pytest.raises(ValueError, match=r"n_classes must be at least 1"):
        collate_questions([STORY], VOCABULARY, 0)
