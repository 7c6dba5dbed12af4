"""Inputs: rows of them, and masks of them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapter_models import IDS, Adapter, Selects
from torch import Tensor

from faithattn import AdapterError
from faithattn.adapters.inputs.masks import find_mask, real_positions
from faithattn.adapters.inputs.structure import select, select_rows

Pair = namedtuple("Pair", "ids lengths")
REAL = IDS != 0
ROWS = torch.tensor([2, 0, 0])
WEIGHTS = REAL / REAL.sum(1, keepdim=True)


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


def test_rows_of_what_has_no_instances() -> None:
    places = torch.arange(6)
    ids = torch.arange(24).view(4, 6)
    for inputs in ({"ids": ids, "places": places}, {"places": places, "ids": ids}):
        chosen = select_rows(inputs, torch.tensor([3, 0]))
        assert chosen["places"] is places
        assert torch.equal(chosen["ids"], ids[[3, 0]])


def test_a_model_selects_by_itself() -> None:
    class Own(Selects, Adapter):
        pass

    assert select(Own(), IDS, torch.tensor([1])).shape == (1, 2)  # without dead columns
    assert select(Adapter(), IDS, torch.tensor([1])).shape == (1, 4)


def by_hand(ids: Tensor) -> Tensor:
    return ids > 3


MASKS: dict[str, tuple[Any, Any, int | None, Tensor]] = {
    "function": (by_hand, IDS, 0, IDS > 3),
    "tensor": (IDS > 5, IDS, 0, IDS > 5),
    "id": (9, IDS, 0, IDS != 9),
    "id zero": (0, IDS, None, REAL),
    "id in a mapping": (0, {"x": IDS, "length": IDS.sum(1), "real": REAL}, None, REAL),
    "id in a tuple": (0, (IDS.float(), IDS), None, REAL),
    "id in a list": (0, [IDS], None, REAL),
    "input_ids first": (0, {"input_ids": IDS, "token_type_ids": IDS * 0}, None, REAL),
    "attention_mask": (None, {"input_ids": IDS, "attention_mask": REAL.long()}, 4, REAL),
    "rule before attention_mask": (by_hand, IDS, None, IDS > 3),
    "padding_idx": (None, IDS, 0, REAL),
    "nothing known": (None, IDS, None, torch.ones_like(REAL)),
}


@pytest.mark.parametrize(("rule", "inputs", "padding", "expected"), MASKS.values(), ids=MASKS)
def test_the_mask_is_found(rule: Any, inputs: Any, padding: int | None, expected: Tensor) -> None:
    weights = WEIGHTS if expected is not MASKS["nothing known"][3] else WEIGHTS + 0.1
    assert torch.equal(find_mask(rule, inputs, padding, weights), expected)
    heads = weights[:, None, None].expand(-1, 2, 5, -1)
    assert torch.equal(find_mask(rule, inputs, padding, heads), expected)


SHAPE = r"mask must be boolean of shape \(3, 4\), as the attention; got "
ID_ERROR = r"needs one tensor of ids of shape \(3, 4\) in the inputs, and there are "
MASK_ERRORS: dict[str, tuple[Any, Any, int | None, str]] = {
    "shape": (lambda ids: ids[:, 1:] > 0, IDS, None, SHAPE + r"\(3, 3\) torch.bool"),
    "dtype": (lambda ids: ids, IDS, None, SHAPE + r"\(3, 4\) torch.int64"),
    "kind": (len, IDS, None, SHAPE + "int"),
    "tensor": (REAL[:1], IDS, None, SHAPE + r"\(1, 4\) torch.bool. A mask tensor belongs to one "),
    "attention_mask": (None, {"attention_mask": REAL[:, :2]}, None, SHAPE + r"\(3, 2\)"),
    "no ids": (0, {"x": IDS.float()}, None, "mask must be given as a .* mask " + ID_ERROR + "0"),
    "two ids": (0, (IDS, IDS), None, ID_ERROR + r"2\. Use adapt\(model, mask=lambda"),
    "no ids for padding": (None, (IDS[:, 1:],), 0, "padding_idx " + ID_ERROR + "0"),
    "unknown inputs": (0, SimpleNamespace(), None, ID_ERROR + "0"),
    "hidden padding": (
        None,
        IDS,
        None,
        "given where the model pads: some rows begin or end",
    ),
}


@pytest.mark.parametrize(
    ("rule", "inputs", "padding", "message"), MASK_ERRORS.values(), ids=MASK_ERRORS
)
def test_a_mask_that_cannot_be(rule: Any, inputs: Any, padding: int | None, message: str) -> None:
    for weights in (WEIGHTS, WEIGHTS[:, None, None].expand(-1, 2, 5, -1)):
        with pytest.raises(AdapterError, match=message):
            find_mask(rule, inputs, padding, weights)


def test_padding_at_either_end_is_noticed() -> None:
    for weights in (WEIGHTS, WEIGHTS.flip(1)):
        with pytest.raises(AdapterError, match="some rows begin or end in zero attention"):
            find_mask(None, IDS, None, weights)
    inner = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    assert find_mask(None, IDS, None, inner).all()


COUNTS = REAL.sum(1)


def test_lengths_say_what_is_real_where_nothing_else_does() -> None:
    assert torch.equal(real_positions(by_hand, (IDS, COUNTS), None, REAL), REAL)
    everywhere = torch.ones_like(REAL)
    assert torch.equal(real_positions(by_hand, (IDS, COUNTS - 1), None, REAL), everywhere)
    inner = torch.tensor([[False, True, True, False]])  # counts words, says not where they are
    given = (IDS[:1], torch.tensor([2]))
    assert real_positions(by_hand, given, None, inner).all()


def test_special_tokens_are_real_though_not_explained() -> None:
    mask = REAL & (IDS != 3)
    assert torch.equal(real_positions(by_hand, IDS, 0, mask), REAL)
    assert torch.equal(real_positions(0, IDS, None, mask), REAL)
    given = {"input_ids": IDS, "attention_mask": REAL.long()}
    assert torch.equal(real_positions(by_hand, given, None, mask), REAL)


def test_everything_is_real_where_nothing_says_what_padding_is() -> None:
    everywhere = torch.ones_like(REAL)
    assert torch.equal(real_positions(by_hand, IDS, None, REAL), everywhere)
    assert torch.equal(real_positions(by_hand, IDS.float(), 0, REAL), everywhere)
    other = {"input_ids": IDS[:, 1:]}
    assert torch.equal(real_positions(by_hand, other, 0, REAL), everywhere)
    long = {"attention_mask": torch.ones(3, 9)}
    assert torch.equal(real_positions(by_hand, long, 0, REAL), everywhere)
