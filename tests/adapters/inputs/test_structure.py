"""Inputs as a model takes them: their rows, and what all rows share."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import (
    batch_size,
    described,
    numbers_positions,
    rebuilt,
    remapped,
    select,
    select_rows,
    tensors_of,
)

Pair = namedtuple("Pair", "ids lengths")
IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
REAL = IDS != 0
ROWS = torch.tensor([2, 0, 0])


def test_rows_of_a_tensor_repeat() -> None:
    assert torch.equal(select_rows(IDS, ROWS), IDS[ROWS])


def test_rows_of_everything_inside() -> None:
    inputs = OrderedDict(ids=IDS, pair=(IDS, None), many=[IDS.float()], flag=True, name="x", n=2)
    chosen = select_rows(inputs, ROWS)
    assert list(chosen) == list(inputs)
    assert torch.equal(chosen["ids"], IDS[ROWS])
    assert isinstance(chosen["pair"], tuple) and chosen["pair"][1] is None
    assert isinstance(chosen["many"], list) and torch.equal(chosen["many"][0], IDS[ROWS].float())
    assert (chosen["flag"], chosen["name"], chosen["n"]) == (True, "x", 2)


def test_rows_of_a_named_tuple_and_of_a_scalar() -> None:
    chosen = select_rows(Pair(IDS, torch.tensor(3.0)), ROWS)
    assert isinstance(chosen, Pair)
    assert torch.equal(chosen.ids, IDS[ROWS])
    assert chosen.lengths.item() == 3


def test_rows_of_something_else() -> None:
    with pytest.raises(TypeError, match=r"inputs must be a tensor.*got SimpleNamespace\. Give the"):
        select_rows(SimpleNamespace(ids=IDS), ROWS)


@pytest.mark.parametrize("rows", [[5], [-1], [0, 3]])
def test_rows_that_are_not_there(rows: list[int]) -> None:
    for inputs in (IDS, {"ids": IDS, "lengths": [4, 2, 3]}):
        with pytest.raises(
            ValueError, match=r"rows must be numbers from 0 to 2, .*; got \[.*\]\. N"
        ):
            select_rows(inputs, torch.tensor(rows))


def test_rows_of_another_kind() -> None:
    for rows in ([0, 1], torch.tensor([0.0]), torch.tensor([True, False, True])):
        with pytest.raises(
            TypeError, match=r"rows must be an int64 tensor; got .* Use torch\.tens"
        ):
            select_rows(IDS, rows)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rows must be numbers from 0 to 2, shape \(n,\); got 1"):
        select_rows(IDS, torch.tensor(1))


def test_rows_of_what_has_no_instances() -> None:
    places = torch.arange(6)
    ids = torch.arange(24).view(4, 6)
    for inputs in ({"ids": ids, "places": places}, {"places": places, "ids": ids}):
        chosen = select_rows(inputs, torch.tensor([3, 0]))
        assert chosen["places"] is places
        assert torch.equal(chosen["ids"], ids[[3, 0]])


def test_a_model_selects_by_itself() -> None:
    class Own:
        def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
            return inputs[rows, :2]

    assert torch.equal(select(Own(), IDS, ROWS), IDS[ROWS, :2])
    assert torch.equal(select(object(), IDS, ROWS), IDS[ROWS])


# --- as many instances as positions, and what all instances share -------------------------

SQUARE = torch.tensor([[5, 6, 7], [4, 9, 0], [10, 0, 0]])
PLACES = torch.arange(3)
CAUSAL = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
TWICE = torch.tensor([2, 2, 0, 1])


@pytest.mark.parametrize("shared", [PLACES, CAUSAL, CAUSAL.clamp_min(-1e9)])
def test_rows_of_as_many_texts_as_positions(shared: Tensor) -> None:
    for inputs in ((SQUARE, shared), {"shared": shared, "ids": SQUARE}):
        chosen = select_rows(inputs, TWICE)
        values = list(chosen.values()) if isinstance(chosen, dict) else list(chosen)
        assert any(each is shared for each in values)
        assert any(torch.equal(each, SQUARE[TWICE]) for each in values)


def test_what_looks_shared_and_is_not() -> None:
    lengths, numbers = torch.tensor([3, 2, 1]), torch.tensor([1, 2, 3])
    vectors, flags = torch.randn(3, 3), SQUARE != 0
    chosen = select_rows((SQUARE, lengths, numbers, vectors, flags, torch.zeros(3, 3)), TWICE)
    for given, got in zip((SQUARE, lengths, numbers, vectors, flags), chosen, strict=False):
        assert torch.equal(got, given[TWICE])
    assert chosen[-1].shape == (4, 3)  # all open: rows of it are as good as the whole
    labels = torch.arange(3)  # of three texts of four words: no positions
    assert torch.equal(select_rows((IDS, labels), TWICE)[1], labels[TWICE])


def test_lists_of_values() -> None:
    inputs = {"ids": IDS, "lengths": [4, 2, 3], "names": ["a", "b", "c"], "pair": [1, 2]}
    chosen = select_rows(inputs, ROWS)
    assert chosen["lengths"] == [3, 4, 4]
    assert chosen["names"] == ["c", "a", "a"]
    assert chosen["pair"] == [1, 2]  # as many as nothing: it is left
    assert select_rows((IDS, [None, 2.5, True]), ROWS)[1] == [None, 2.5, True]


def test_a_tokenizers_mapping_stays_one() -> None:
    inputs = UserDict(input_ids=IDS, flag=True)
    chosen = select_rows(inputs, ROWS)
    assert isinstance(chosen, UserDict) and chosen is not inputs
    assert torch.equal(chosen["input_ids"], IDS[ROWS]) and chosen["flag"] is True
    assert torch.equal(inputs["input_ids"], IDS)
    assert type(remapped(OrderedDict(), {"a": 1})) is dict


SIZES: dict[str, tuple[object, int | None]] = {
    "tensor": (IDS, 3),
    "positions first": ({"position_ids": torch.arange(4)[None], "input_ids": IDS}, 3),
    "flat positions first": ((torch.arange(4), IDS), 3),
    "one text": ((torch.tensor([[7, 5, 6, 8]]), torch.arange(4)[None]), 1),
    "one text of a row of numbers": (torch.arange(4)[None], 1),
    "a mask of one text": ({"ids": IDS[:1], "mask": torch.zeros(4, 4)}, 1),
    "labels alone": (torch.tensor([1, 0]), 2),
    "nested": ((None, [IDS], "x"), 3),
    "vectors": (torch.randn(1, 5, 2), 1),
    "a number": (torch.tensor(3.0), None),
    "nothing": ("text", None),
}


@pytest.mark.parametrize(("inputs", "size"), SIZES.values(), ids=SIZES)
def test_the_number_of_instances(inputs: object, size: int | None) -> None:
    assert batch_size(inputs) == size


def test_positions_are_told_from_ids() -> None:
    assert numbers_positions(torch.arange(4).expand(3, 4))
    for other in (torch.arange(1, 5), torch.arange(4.0), torch.zeros(1, 1).long(), IDS):
        assert not numbers_positions(other)
    given = torch.func.vmap(lambda ids: ids + int(numbers_positions(ids)))(torch.arange(4)[None])
    assert given.tolist() == [[0, 1, 2, 3]]  # what torch.func hides is not looked at


def test_descriptions_and_tensors() -> None:
    inputs = {"ids": IDS, "rest": (REAL, [None, 1.5])}
    expected = "{ids: int64 (3, 4), rest: [bool (3, 4), [NoneType, float]]}"
    assert described(inputs) == expected
    assert [tuple(each.shape) for each in tensors_of(inputs)] == [(3, 4), (3, 4)]
    assert tensors_of(SimpleNamespace(ids=IDS)) == []
    assert rebuilt(Pair(1, 2), [3, 4]) == Pair(3, 4) and rebuilt([1], [2]) == [2]
