"""Sets of positions out of texts, more of some rows than of others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from faithattn import AdapterError
from faithattn.adapters.inputs.deletion import delete_positions, delete_sets
from faithattn.paper.data import ids as paper

PAD = 99


def padded(rows: list[list[int]], width: int, fill: int) -> Tensor:
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), st.data())
def test_lists_that_lose_entries(lengths: list[int], spare: bool, data: st.DataObject) -> None:
    """Ids, mask, segments, places and lengths; with padding in the batch, or none in it."""
    lengths = lengths if spare else [max(lengths)] * len(lengths)
    width = max(lengths) + spare
    texts = [[10 * row + at + 1 for at in range(n)] for row, n in enumerate(lengths)]
    segments = [[1 - at % 2 for at in range(n)] for n in lengths]
    gone = [[data.draw(st.booleans()) for _ in range(n)] for n in lengths]
    left = [[at for at in range(n) if not away[at]] for n, away in zip(lengths, gone, strict=True)]
    inputs = {
        "input_ids": padded(texts, width, PAD),
        "attention_mask": padded([[1] * n for n in lengths], width, 0),
        "token_type_ids": padded(segments, width, 0),
        "position_ids": torch.arange(width).expand(len(lengths), -1),
        "lengths": torch.tensor(lengths),
        "labels": torch.tensor([7] * len(lengths)),
    }
    marks = padded([[int(each) for each in away] for away in gone], width, 0).bool()
    shorter = delete_sets(inputs, marks, inputs["attention_mask"].bool(), padding=PAD)
    assert shorter["lengths"].tolist() == [len(kept) for kept in left]
    assert shorter["labels"] is inputs["labels"]
    widest = shorter["input_ids"].shape[1]
    assert widest >= max(map(len, left))
    for row, kept in enumerate(left):
        n, rest = len(kept), widest - len(kept)
        assert shorter["input_ids"][row].tolist() == [texts[row][at] for at in kept] + rest * [PAD]
        assert shorter["attention_mask"][row].tolist() == [1] * n + [0] * rest
        assert shorter["token_type_ids"][row].tolist() == [
            *(segments[row][at] for at in kept), *(rest * [0]),
        ]  # fmt: skip
        assert shorter["position_ids"][row, :n].tolist() == list(range(n))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_ids_of_the_published_models(lengths: list[int], data: st.DataObject) -> None:
    rows = [[2, *(5 + at for at in range(n)), 3] for n in lengths]
    gone = [[False, *(data.draw(st.booleans()) for _ in range(n)), False] for n in lengths]
    width = max(lengths) + 2
    ids = padded(rows, width, 0)
    marks = padded([[int(each) for each in away] for away in gone], width, 0).bool()
    wanted = [
        [each for each, away in zip(row, flags, strict=True) if not away]
        for row, flags in zip(rows, gone, strict=True)
    ]
    found = paper.delete_sets(ids, marks)
    assert found.tolist() == padded(wanted, max(map(len, wanted)), 0).tolist()
    with pytest.raises(ValueError, match=r"gone must mark words of ids .*; got .* marked"):
        paper.delete_sets(ids, marks | (ids == 2))


IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 11, 12]])
ALL = torch.ones_like(IDS).bool()
UNEVEN = torch.tensor([[True, False, False, False], [True, True, False, False]])


def test_what_padding_is_must_be_known() -> None:
    with pytest.raises(AdapterError, match=r"inputs must tell what padding is, for rows that lose"):
        delete_sets(IDS, UNEVEN, ALL)
    assert delete_sets(IDS, UNEVEN, ALL, padding=0).tolist() == [[6, 7, 8], [11, 12, 0]]
    vectors = torch.rand(2, 4, 3)
    with pytest.raises(AdapterError, match=r"inputs must tell what padding is"):
        delete_sets(vectors, UNEVEN, ALL)
    vectors[0, 3] = 0
    real = ALL.clone()
    real[0, 3] = False
    shorter = delete_sets(vectors, UNEVEN, real)
    assert torch.equal(shorter[0], vectors[0, [1, 2]]) and torch.equal(shorter[1], vectors[1, 2:])
    fewer = delete_sets(vectors, UNEVEN & ALL[0], real)
    assert fewer.shape == (2, 2, 3)


def test_padding_of_different_content_is_not_made_up() -> None:
    ids = torch.tensor([[5, 6, 7, 0, 1], [4, 9, 11, 12, 13]])
    real = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    gone = torch.zeros_like(real)
    gone[0, 0] = True
    with pytest.raises(AdapterError, match=r"inputs must tell what padding is"):
        delete_sets(ids, gone, real)


def test_what_runs_only_with_as_many_of_each_row() -> None:
    left = torch.tensor([[False, True, True, True], [True] * 4])
    with pytest.raises(AdapterError, match=r"padded on the right .* got padding before a token"):
        delete_sets(IDS, UNEVEN & left, left, padding=0)
    pairs = torch.ones(2, 4, 4, dtype=torch.long)
    pairs[0, 0, 1] = 0
    with pytest.raises(AdapterError, match=r"a mask of pairs where rows lose different numbers"):
        delete_sets({"ids": IDS, "attention_mask": pairs}, UNEVEN, ALL, ids=IDS, padding=0)
    with pytest.raises(ValueError, match=r"gone must mark real positions; got padding"):
        delete_sets(IDS, UNEVEN, ~UNEVEN, padding=0)


def test_several_positions_of_each_row() -> None:
    positions = torch.tensor([[0, 2], [3, 1]])
    inputs = {"input_ids": IDS, "lengths": torch.tensor([4, 4])}
    shorter = delete_positions(inputs, positions, ALL)
    assert shorter["input_ids"].tolist() == [[6, 8], [4, 11]]
    assert shorter["lengths"].tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"positions must differ within a row; got \[\[0, 0\]"):
        delete_positions(IDS, torch.tensor([[0, 0], [1, 2]]), ALL)
