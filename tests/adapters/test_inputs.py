"""Inputs: rows of them, masks of them, and positions taken out of them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adapter_models import IDS, Adapter, Selects
from torch import Tensor

from faithattn import AdapterError
from faithattn.adapters.inputs.deletion import delete_positions
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


def slow_delete(ids: Tensor, positions: list[int]) -> list[list[int]]:
    rows = [row[:at] + row[at + 1 :] for row, at in zip(ids.tolist(), positions, strict=True)]
    while rows[0] and not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return rows


@pytest.mark.parametrize("positions", [[0, 0, 0], [3, 1, 2], [1, 0, 1], [2, 1, 0]])
def test_deletion_agrees_with_a_slow_loop(positions: list[int]) -> None:
    shorter = delete_positions(IDS, torch.tensor(positions), REAL)
    assert shorter.tolist() == slow_delete(IDS, positions)
    alone = delete_positions(IDS[1:2], torch.tensor(positions[1:2]), REAL[1:2])
    assert alone.tolist() == slow_delete(IDS[1:2], positions[1:2])


def test_deletion_edits_ids_and_masks_at_any_depth() -> None:
    inputs = {"ids": IDS, "pair": Pair(REAL, None), "sums": IDS.sum(1), "list": [IDS], "n": 4}
    shorter = delete_positions(inputs, torch.tensor([1, 1, 2]), REAL)
    assert shorter["ids"].tolist() == [[5, 7, 8], [4, 0, 0], [10, 11, 0]]
    assert torch.equal(shorter["pair"].ids, shorter["ids"] != 0)
    assert torch.equal(shorter["list"][0], shorter["ids"])
    assert torch.equal(shorter["sums"], IDS.sum(1)) and shorter["n"] == 4


COUNTS = REAL.sum(1)
AT = torch.tensor([1, 1, 2])


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_lengths_become_one_less(kind: torch.dtype) -> None:
    lengths = COUNTS.to(kind)
    for inputs in ((IDS, lengths), (IDS, lengths[:, None])):
        _, fewer = delete_positions(inputs, AT, REAL)
        assert fewer.dtype == kind and fewer.shape == inputs[1].shape
        assert fewer.flatten().tolist() == [3, 1, 2]
    _, fewer = delete_positions((IDS, lengths), torch.tensor([1, 3, 2]), REAL)
    assert fewer.tolist() == [3, 2, 2]  # nothing real was deleted from the second row


@pytest.mark.parametrize("lengths", [[3, 2, 3], [1, 1, 1], [4, 4, 4]])
def test_lengths_that_cannot_be_adjusted(lengths: list[int]) -> None:
    message = r"hold lengths that deletion cannot adjust; got n: int64 \(3,\)\. Write an adapter wi"
    with pytest.raises(AdapterError, match=message):
        delete_positions({"ids": IDS, "n": torch.tensor(lengths)}, AT, REAL)


@pytest.mark.parametrize("values", [[0, 1, 2], [5, 1, 2], [-1, 1, 1]])
def test_numbers_that_are_no_lengths_stay(values: list[int]) -> None:
    kept = torch.tensor(values)
    assert torch.equal(delete_positions((IDS, kept), AT, REAL)[1], kept)
    labels = {"ids": IDS, "labels": torch.ones(3, dtype=torch.int64), "x": COUNTS.float()}
    shorter = delete_positions(labels, AT, REAL)
    assert shorter["labels"] is labels["labels"] and shorter["x"] is labels["x"]


OTHERS: dict[str, Tensor] = {
    "(B, L) float": torch.rand(3, 4),
    "(B, L, E) float": torch.rand(3, 4, 2),
    "(B, L, L) bool": torch.ones(3, 4, 4).bool(),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_tensors_as_long_as_the_text_are_refused(other: Tensor) -> None:
    for inputs in ({"ids": IDS, "other": other}, (IDS, other), {"input_ids": IDS, "other": other}):
        with pytest.raises(AdapterError, match=r"must not hold other tensors as long as the text"):
            delete_positions(inputs, AT, REAL)
    wider = torch.cat([other, other], 1)
    assert delete_positions((IDS, wider), AT, REAL)[1] is wider


def test_continuous_inputs_are_shortened() -> None:
    deep, flat = torch.rand(3, 4, 2), torch.rand(3, 4)
    expected = torch.stack(
        [torch.cat([row[:at], row[at + 1 :]]) for row, at in zip(deep, AT, strict=True)]
    )
    everywhere = torch.ones_like(REAL)
    assert torch.equal(delete_positions(deep, AT, everywhere), expected)
    x, real, count = delete_positions((deep, REAL, COUNTS), AT, REAL)
    assert torch.equal(x, expected) and real.shape == (3, 3) and count.tolist() == [3, 1, 2]
    named = {"inputs_embeds": deep, "attention_mask": REAL.float()}
    shorter = delete_positions(named, AT, REAL)
    assert torch.equal(shorter["inputs_embeds"], expected)
    assert torch.equal(shorter["attention_mask"], real.float())
    assert torch.equal(delete_positions(deep[..., 0], AT, everywhere), expected[..., 0])
    for several in ((deep, deep), (deep, flat), (flat, flat)):
        with pytest.raises(AdapterError, match="other tensors as long as the text"):
            delete_positions(several, AT, REAL)


def test_position_ids_lose_the_last_column() -> None:
    places = torch.arange(4)
    for given in (places.expand(3, 4), places[None]):
        inputs = {"input_ids": IDS, "position_ids": given, "attention_mask": REAL.long()}
        shorter = delete_positions(inputs, AT, REAL)
        assert torch.equal(shorter["position_ids"], given[:, :3])
    short = {"input_ids": IDS, "position_ids": places[None, :2]}
    assert delete_positions(short, AT, REAL)["position_ids"].shape == (1, 2)


def test_lengths_say_what_is_real_where_nothing_else_does() -> None:
    assert torch.equal(real_positions(by_hand, (IDS, COUNTS), None, REAL), REAL)
    everywhere = torch.ones_like(REAL)
    assert torch.equal(real_positions(by_hand, (IDS, COUNTS - 1), None, REAL), everywhere)
    inner = torch.tensor([[False, True, True, False]])  # counts words, says not where they are
    given = (IDS[:1], torch.tensor([2]))
    assert real_positions(by_hand, given, None, inner).all()


def test_deleting_the_only_position() -> None:
    shorter = delete_positions(IDS[:, :1], torch.tensor([0, 0, 0]), REAL[:, :1])
    assert shorter.shape == (3, 0)


@pytest.mark.parametrize("positions", [[0, 1], [0, 1, 4], [-1, 0, 0]])
def test_positions_that_are_not_there(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="positions must name one of 4 positions for each of 3"):
        delete_positions(IDS, torch.tensor(positions), REAL)


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
