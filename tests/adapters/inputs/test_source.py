"""Where the ids of a feature come from, and what a tokenizer knows besides."""

from __future__ import annotations

from collections import UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn.adapters.inputs.source import (
    SPECIAL,
    Source,
    find_path,
    paths,
    replaced_at,
    same_content,
    tensor_at,
    with_special_tokens,
    without_extras,
    without_special_tokens,
)

Pair = namedtuple("Pair", "ids rest")
IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
REAL = IDS != 0
CHANGED = IDS.clamp_max(8)


def test_the_way_to_every_tensor() -> None:
    inputs = {"a": IDS, "b": (REAL, {"c": [None, IDS + 1]}), "d": 3}
    found = dict(paths(inputs))
    assert list(found) == [("a",), ("b", 0), ("b", 1, "c", 1)]
    for path, value in found.items():
        assert tensor_at(inputs, path) is value
    assert list(paths(IDS)) == [((), IDS)] and tensor_at(IDS, ()) is IDS
    for path in ((), ("z",), ("b",), ("b", 2)):
        assert tensor_at(inputs, path) is None


ONES = torch.ones_like(IDS)
PATHS: dict[str, tuple[Any, Tensor, set[Any], tuple[Any, ...] | None]] = {
    "itself": (IDS, IDS, set(), ()),
    "itself among equals": ((IDS.clone(), IDS), IDS, set(), (1,)),
    "itself though taken": ((IDS, IDS.clone()), IDS, {(0,)}, (0,)),
    "content": ({"x": IDS.flip(0), "y": IDS.clone()}, IDS, set(), ("y",)),
    "content, once taken": ((IDS.clone(), IDS.clone()), IDS, {(0,)}, (1,)),
    "the only ids": ({"x": IDS, "scale": torch.randn(3, 4)}, CHANGED, set(), ("x",)),
    "input_ids": ({"other": IDS + 1, "input_ids": IDS}, CHANGED, set(), ("input_ids",)),
    "ids beside their mask": ({"x": IDS, "attention_mask": ONES}, CHANGED, set(), ("x",)),
    "ids beside places": ({"position_ids": IDS - IDS, "x": IDS}, CHANGED, set(), ("x",)),
    "ids beside flags": ((ONES, IDS), CHANGED, set(), (1,)),
    "ids beside labels": ({"x": IDS, "labels": IDS + 1}, CHANGED, set(), ("x",)),
    "one of two": ((IDS, IDS + 1), CHANGED, set(), None),
    "another shape": ((IDS,), IDS[:, 1:], set(), None),
    "vectors": ((IDS.float(),), CHANGED, set(), None),
    "decoder": (
        {"input_ids": IDS, "decoder_input_ids": IDS + 1},
        CHANGED,
        {("input_ids",)},
        ("decoder_input_ids",),
    ),
    "nested": ({"text": {"ids": IDS}}, IDS.clone(), set(), ("text", "ids")),
}


@pytest.mark.parametrize(("inputs", "ids", "taken", "path"), PATHS.values(), ids=PATHS)
def test_the_way_to_ids(inputs: Any, ids: Tensor, taken: set[Any], path: Any) -> None:
    assert find_path(inputs, ids, taken) == path


def test_ids_under_a_transform_have_no_content() -> None:
    def inside(ids: Tensor) -> Tensor:
        assert find_path((ids, IDS[0]), ids, set()) == (0,)
        assert find_path((ids + 1, ids + 2), ids + 3, set()) is None
        return ids

    torch.func.vmap(inside)(IDS)


def test_another_tensor_in_the_same_place() -> None:
    other = IDS + 1
    assert replaced_at(IDS, (), other) is other
    changed = replaced_at({"a": IDS, "b": Pair(REAL, [IDS])}, ("b", 1, 0), other)
    assert changed["a"] is IDS and isinstance(changed["b"], Pair)
    assert changed["b"].ids is REAL and changed["b"].rest[0] is other
    mapping = UserDict(a=IDS)
    assert isinstance(replaced_at(mapping, ("a",), other), UserDict) and mapping["a"] is IDS


def test_same_content() -> None:
    assert same_content(IDS, IDS.clone())
    for other in (IDS + 1, IDS[:2], IDS.int(), IDS.float()):
        assert not same_content(IDS, other)


def test_whose_positions() -> None:
    assert Source("x", 3, path=("decoder_input_ids",)).of_decoder
    for path in (("input_ids",), (), (0,), None):
        assert not Source("x", 3, path=path).of_decoder


# --- tokenizers ----------------------------------------------------------------------------


class Encoding:
    def __init__(self, ids: list[int], special: list[int]) -> None:
        self.ids, self.special_tokens_mask = ids, special


class Tokenized(UserDict):  # type: ignore[type-arg]
    """As Transformers' BatchEncoding: keys are attributes, encodings lie beside them."""

    def __init__(self, data: dict[str, Any], encodings: list[Encoding] | None = None) -> None:
        super().__init__(data)
        self.encodings = encodings

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


TOLD = [[1, 0, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1]]


def tokenized() -> Tokenized:
    encodings = [Encoding(ids, told) for ids, told in zip(IDS.tolist(), TOLD, strict=True)]
    return Tokenized({"input_ids": IDS, "attention_mask": REAL.long()}, encodings)


def test_special_tokens_come_with_a_tokenizers_output() -> None:
    given = tokenized()
    told = with_special_tokens(given)
    assert told[SPECIAL].tolist() == TOLD
    assert isinstance(told, Tokenized) and told.input_ids is IDS and told.encodings
    assert SPECIAL not in given
    assert with_special_tokens(told) is told
    plain = without_special_tokens(told)
    assert isinstance(plain, Tokenized) and list(plain) == list(given) and SPECIAL in told
    assert without_special_tokens(given) is given
    assert without_special_tokens({SPECIAL: IDS, "x": 1}) == {"x": 1}
    assert without_special_tokens(IDS) is IDS


def test_a_tokenizers_output_that_was_changed_by_hand() -> None:
    for ids in (IDS.flip(1), IDS[:2], IDS[:, :3], IDS + 1):
        given = tokenized()
        given["input_ids"] = ids
        assert with_special_tokens(given) is given
    ragged = Tokenized({"input_ids": IDS}, [Encoding([1], [1]), Encoding([1, 2], [1, 0])])
    for other in (ragged, Tokenized({"x": IDS}, tokenized().encodings), {"input_ids": IDS}, IDS):
        assert with_special_tokens(other) is other


class WithEncodings(dict):  # type: ignore[type-arg]
    encodings = (Encoding([5, 6], [1, 0]),)


def test_special_tokens_of_another_mapping() -> None:
    told = with_special_tokens(WithEncodings(input_ids=torch.tensor([[5, 6]])))
    assert type(told) is dict and told[SPECIAL].tolist() == [[1, 0]]


def test_what_only_a_tokenizers_caller_uses() -> None:
    inputs = {"input_ids": IDS, SPECIAL: IDS, "offset_mapping": IDS, "length": 3, "own": 1}
    assert list(without_extras(inputs, None)) == ["input_ids", "offset_mapping", "length", "own"]
    assert list(without_extras(inputs, frozenset({"input_ids"}))) == ["input_ids", "own"]
    known = frozenset({"length", SPECIAL})
    assert list(without_extras(inputs, known)) == ["input_ids", SPECIAL, "length", "own"]
