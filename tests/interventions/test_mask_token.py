"""Mask tokens: which tensor they go into, and that nothing else changes."""

from __future__ import annotations

import pickle
from collections import UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError
from faithattn.interventions.tokens import mask_token

Pair = namedtuple("Pair", "ids mask")
IDS = torch.tensor([[5, 6, 7], [8, 9, 0]])
OTHER = torch.tensor([[3, 2, 4], [7, 7, 7]])
MASK = IDS != 0
AT = torch.tensor([1, 0])
MASKED = [[5, 103, 7], [103, 9, 0]]

INPUTS: dict[str, tuple[Any, Any]] = {
    "tensor": (IDS, ()),
    "tuple": ((IDS, MASK.long(), torch.tensor([3, 2])), (0,)),
    "named tuple": (Pair(IDS, MASK), ("ids",)),
    "after floats": ((torch.rand(2, 3), IDS), (1,)),
    "mapping": ({"x": IDS, "n": 3, "lengths": torch.tensor([3, 2])}, ("x",)),
    "beside position ids": ({"x": IDS, "position_ids": OTHER}, ("x",)),
    "beside places": ((torch.arange(3).expand(2, 3), IDS), (1,)),
    "input_ids": ({"other": OTHER, "input_ids": IDS, "token_type_ids": OTHER}, ("input_ids",)),
    "tokenizer": (UserDict(input_ids=IDS, attention_mask=MASK.long()), ("input_ids",)),
    "nested": ({"text": {"input_ids": IDS}}, ("text", "input_ids")),
}


def at(inputs: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        inputs = getattr(inputs, step) if step == "ids" else inputs[step]
    return inputs


@pytest.mark.parametrize(("inputs", "path"), INPUTS.values(), ids=INPUTS)
def test_the_ids_are_found_and_nothing_else_changes(inputs: Any, path: Any) -> None:
    before = IDS.clone()
    changed = mask_token(103)(inputs, AT)
    assert at(changed, path).tolist() == MASKED
    assert torch.equal(IDS, before) and at(inputs, path) is IDS
    if isinstance(inputs, dict | UserDict):
        assert list(changed) == list(inputs)
        assert all(changed[key] is inputs[key] for key in inputs if key != path[0])
    elif isinstance(inputs, tuple):
        assert type(changed) is type(inputs)


def test_a_key_chooses_among_several_texts() -> None:
    both = {"input_ids": IDS, "decoder_input_ids": OTHER}
    changed = mask_token(103, key="input_ids")(both, AT)
    assert changed["input_ids"].tolist() == MASKED and changed["decoder_input_ids"] is OTHER
    assert mask_token(1, key=1)((OTHER, IDS), AT)[1].tolist() == [[5, 1, 7], [1, 9, 0]]
    assert str(mask_token(1, key=1)) == "mask_token(1, key=1)"


AMBIGUOUS: dict[str, Any] = {
    "tuple": (IDS, OTHER),
    "mapping": {"premise": IDS, "hypothesis": OTHER},
    "decoder": {"input_ids": IDS, "decoder_input_ids": OTHER},
}


@pytest.mark.parametrize("inputs", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_several_texts_are_ambiguous(inputs: Any) -> None:
    message = r"one tensor of ids \(B, L\) to put mask tokens in; got 2 of them among .*key=\.\.\."
    with pytest.raises(AdapterError, match=message):
        mask_token(103)(inputs, AT)


def test_no_ids() -> None:
    for inputs in (torch.rand(2, 3), {"pixel_values": torch.rand(2, 3, 4, 4)}, {}):
        with pytest.raises(AdapterError, match=r"put mask tokens in; got 0 of them"):
            mask_token(103)(inputs, AT)
    with pytest.raises(AdapterError, match=r"ids \(B, L\) at 'text' to put"):
        mask_token(103, key="text")({"input_ids": IDS}, AT)


@pytest.mark.parametrize("token", [True, 1.5, None, "[MASK]"])
def test_tokens_that_are_no_ids(token: Any) -> None:
    with pytest.raises(TypeError, match="token_id must be a whole number"):
        mask_token(token)
    with pytest.raises(ValueError, match="token_id must be at least 0; got -1"):
        mask_token(-1)


def test_it_travels_to_other_processes() -> None:
    removal = pickle.loads(pickle.dumps(mask_token(103)))
    changed: Tensor = removal(IDS, AT)
    assert changed.tolist() == MASKED and str(removal) == "mask_token(103)"
