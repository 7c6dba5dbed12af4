"""A position taken out of the text, and of all that goes with it."""

from __future__ import annotations

from collections import UserDict, namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from faithattn import AdapterError
from faithattn.adapters.inputs.deletion import delete_positions

Pair = namedtuple("Pair", "ids lengths")
IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
REAL = IDS != 0
COUNTS = REAL.sum(1)
AT = torch.tensor([1, 1, 2])
KEPT = torch.tensor([[0, 2, 3], [0, 2, 3], [0, 1, 3]])  # what AT leaves; every column is needed
SHORTER = [[5, 7, 8], [4, 0, 0], [10, 11, 0]]


def slow_delete(ids: Tensor, positions: list[int]) -> list[list[int]]:
    rows = [row[:at] + row[at + 1 :] for row, at in zip(ids.tolist(), positions, strict=True)]
    while rows[0] and not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return rows


def slow_columns(value: Tensor, axes: tuple[int, ...] = (0,)) -> Tensor:
    """Each row's kept columns, along axes of the row."""
    result = []
    for row, kept in zip(value, KEPT, strict=True):
        for axis in axes:
            row = torch.stack([row.select(axis, int(at)) for at in kept], axis)
        result.append(row)
    return torch.stack(result)


def other_text() -> Tensor:
    return torch.tensor([[9, 8, 7, 6], [5, 4, 3, 2], [7, 7, 0, 0]])


@pytest.mark.parametrize("positions", [[0, 0, 0], [3, 1, 2], [1, 0, 1], [2, 1, 0]])
def test_deletion_agrees_with_a_slow_loop(positions: list[int]) -> None:
    shorter = delete_positions(IDS, torch.tensor(positions), REAL)
    assert shorter.tolist() == slow_delete(IDS, positions)
    alone = delete_positions(IDS[1:2], torch.tensor(positions[1:2]), REAL[1:2])
    assert alone.tolist() == slow_delete(IDS[1:2], positions[1:2])


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.booleans(), st.data())
def test_any_lengths_and_either_side(lengths: list[int], left: bool, data: st.DataObject) -> None:
    """Ids, mask, segments and places, against lists without padding that lose one entry."""
    width = max(lengths)
    texts = [[10 * row + at + 1 for at in range(n)] for row, n in enumerate(lengths)]
    segments = [[at % 2 for at in range(n)] for n in lengths]
    drawn = [data.draw(st.integers(0, n - 1)) for n in lengths]

    def padded(rows: list[list[int]], fill: int) -> Tensor:
        return torch.tensor(
            [[fill] * (width - len(r)) + r if left else r + [fill] * (width - len(r)) for r in rows]
        )

    mask = padded([[1] * n for n in lengths], 0)
    inputs = {
        "input_ids": padded(texts, 0),
        "attention_mask": mask,
        "token_type_ids": padded(segments, 0),
        "position_ids": padded([list(range(n)) for n in lengths], 1),
    }
    first = torch.tensor([width - n if left else 0 for n in lengths])
    shorter = delete_positions(inputs, first + torch.tensor(drawn), mask.bool())
    for row, (n, at) in enumerate(zip(lengths, drawn, strict=True)):
        real = shorter["attention_mask"][row].bool()
        assert int(real.sum()) == n - 1
        assert shorter["input_ids"][row][real].tolist() == texts[row][:at] + texts[row][at + 1 :]
        expected = segments[row][:at] + segments[row][at + 1 :]
        assert shorter["token_type_ids"][row][real].tolist() == expected
        assert shorter["position_ids"][row][real].tolist() == list(range(n - 1))
        assert (shorter["input_ids"][row][~real] == 0).all()


def test_deletion_edits_ids_and_masks_at_any_depth() -> None:
    inputs = {"ids": IDS, "pair": Pair(REAL, None), "sums": IDS.sum(1), "list": [IDS], "n": 4}
    shorter = delete_positions(inputs, AT, REAL)
    assert shorter["ids"].tolist() == SHORTER
    assert torch.equal(shorter["pair"].ids, shorter["ids"] != 0)
    assert torch.equal(shorter["list"][0], shorter["ids"])  # the same tensor is the same text
    assert torch.equal(shorter["sums"], IDS.sum(1)) and shorter["n"] == 4


LENGTH_TYPES = [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("kind", LENGTH_TYPES)
def test_lengths_become_one_less(kind: torch.dtype) -> None:
    lengths = COUNTS.to(kind)
    for inputs in ((IDS, lengths), (IDS, lengths[:, None])):
        _, fewer = delete_positions(inputs, AT, REAL)
        assert fewer.dtype == kind and fewer.shape == inputs[1].shape
        assert fewer.flatten().tolist() == [3, 1, 2]


def test_lists_of_lengths() -> None:
    for inputs in ((IDS, [4, 2, 3]), [IDS, [4, 2, 3]]):
        shorter = delete_positions(inputs, AT, REAL)
        assert shorter[1] == [3, 1, 2] and shorter[0].tolist() == SHORTER
    kept = {"ids": IDS, "lengths": [4, 2, 3], "labels": [1, 1, 2], "n": [0, 1, 9], "size": [2, 2]}
    shorter = delete_positions(kept, AT, REAL)
    assert shorter == {**kept, "ids": shorter["ids"], "lengths": [3, 1, 2]}
    with pytest.raises(AdapterError, match=r"lengths that deletion cannot adjust; got n: int64 "):
        delete_positions({"ids": IDS, "n": [1, 1, 2]}, AT, REAL)


@pytest.mark.parametrize("lengths", [[3, 2, 3], [1, 1, 1], [4, 4, 4]])
def test_lengths_that_cannot_be_adjusted(lengths: list[int]) -> None:
    message = r"hold lengths that deletion cannot adjust; got n: int64 \(3,\)\. Write an adapter wi"
    with pytest.raises(AdapterError, match=message) as known:
        delete_positions({"ids": IDS, "n": torch.tensor(lengths)}, AT, REAL)
    assert "padding id" not in str(known.value)


@pytest.mark.parametrize("values", [[0, 1, 2], [5, 1, 2], [-1, 1, 1]])
def test_numbers_that_are_no_lengths_stay(values: list[int]) -> None:
    kept = torch.tensor(values)
    assert torch.equal(delete_positions((IDS, kept), AT, REAL)[1], kept)
    labels = {"ids": IDS, "labels": torch.ones(3, dtype=torch.int64)}
    assert delete_positions(labels, AT, REAL)["labels"] is labels["labels"]


def test_floats_that_are_no_lengths_stay() -> None:
    kept = {
        "labels": COUNTS.float(),
        "x": COUNTS + 0.5,
        "y": torch.tensor([[3.0], [2.0], [3.0]]),
        "z": torch.tensor([torch.nan, 2.0, 3.0]),
    }
    shorter = delete_positions({"ids": IDS, **kept}, AT, REAL)
    assert all(shorter[name] is each for name, each in kept.items())
    one = (IDS[:, :1], REAL[:, :1].float())  # marks of one position, not lengths
    assert delete_positions(one, AT * 0, REAL[:, :1])[1].shape == (3, 0)
    full, other = torch.tensor([4.0, 4, 4]), other_text().masked_fill(other_text() == 0, 1)
    with pytest.raises(AdapterError, match="lengths that deletion cannot adjust"):
        delete_positions((IDS, other, full, full.clone()), AT, torch.ones_like(REAL), ids=IDS)


OTHERS: dict[str, Tensor] = {
    "(B, L) float": torch.rand(3, 4),
    "(B, L, E) float": torch.rand(3, 4, 2),
    "(B, L, L) bool": torch.ones(3, 4, 4).bool(),
    "(B, L) ids": other_text(),
    "(B, L) marks of something else": torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]),
    "(B, L) bool": torch.tensor([[True, False, True, True]]).expand(3, 4),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_tensors_as_long_as_the_text_are_refused(other: Tensor) -> None:
    for inputs in ({"ids": IDS, "other": other}, (IDS, other), {"input_ids": IDS, "other": other}):
        with pytest.raises(AdapterError, match=r"must not hold other tensors as long as the text"):
            delete_positions(inputs, AT, REAL)
    wider = torch.cat([other, other], 1)
    assert delete_positions((IDS, wider), AT, REAL)[1] is wider


def test_refusals_name_the_tensor_and_the_way_out() -> None:
    way = r"Write an adapter with remove\(\), or use removal='zero_embedding'\."
    with pytest.raises(AdapterError, match=rf"got tags: float32 \(3, 4\)\. {way}"):
        delete_positions({"ids": IDS, "tags": torch.rand(3, 4)}, AT, REAL)
    with pytest.raises(AdapterError, match=r"any of which may be the text; got inputs\[0\]: int64"):
        delete_positions((IDS, other_text()), AT, REAL)
    with pytest.raises(AdapterError, match=r"got text\['tags'\]: float32"):
        delete_positions({"text": {"input_ids": IDS, "tags": torch.rand(3, 4)}}, AT, REAL)


def test_marks_that_agree_go_along_whatever_their_name() -> None:
    words = REAL & (IDS != 3)
    padding = (~REAL).long()
    for marks in (REAL, REAL.float(), padding, padding.bool(), torch.zeros(3, 4)):
        real = REAL if marks.any() else torch.ones_like(REAL)
        shorter = delete_positions((IDS, marks), AT, real)
        assert torch.equal(shorter[1], slow_columns(marks))
    with pytest.raises(AdapterError, match="other tensors as long as the text"):
        delete_positions((IDS, words), AT, REAL)
    assert torch.equal(delete_positions((IDS, words), AT, REAL, mask=words)[1], slow_columns(words))


def test_continuous_inputs_are_shortened() -> None:
    deep, flat = torch.rand(3, 4, 2), torch.rand(3, 4)
    expected = slow_columns(deep)
    everywhere = torch.ones_like(REAL)
    assert torch.equal(delete_positions(deep, AT, everywhere), expected)
    x, real, count = delete_positions((deep, REAL, COUNTS), AT, REAL)
    assert torch.equal(x, expected) and real.shape == (3, 3) and count.tolist() == [3, 1, 2]
    named = {"inputs_embeds": deep, "attention_mask": REAL.float()}
    shorter = delete_positions(named, AT, REAL)
    assert torch.equal(shorter["inputs_embeds"], expected)
    assert torch.equal(shorter["attention_mask"], real.float())
    assert torch.equal(delete_positions(deep[..., 0], AT, everywhere), expected[..., 0])
    assert torch.equal(delete_positions((deep, deep), AT, everywhere)[1], expected)
    one_hot = torch.nn.functional.one_hot(IDS, 12).float()
    assert torch.equal(delete_positions(one_hot, AT, REAL), slow_columns(one_hot))
    for several in ((deep, deep.clone()), (deep, flat), (flat, flat.clone())):
        with pytest.raises(AdapterError, match="other tensors as long as the text"):
            delete_positions(several, AT, REAL)


def test_position_ids_lose_the_last_column() -> None:
    places = torch.arange(4)
    for numbers in (places.expand(3, 4), places[None], places):
        inputs = {"input_ids": IDS, "position_ids": numbers, "attention_mask": REAL.long()}
        shorter = delete_positions(inputs, AT, REAL)
        assert torch.equal(shorter["position_ids"], numbers[..., :3])
    short = {"input_ids": IDS, "position_ids": places[None, :2]}
    assert delete_positions(short, AT, REAL)["position_ids"].shape == (1, 2)
    for unnamed in (places[None].expand(3, 4), places + 1, places[None]):
        assert torch.equal(delete_positions((IDS, unnamed), AT, REAL)[1], unnamed[..., :3])
    skips = {"input_ids": IDS, "position_ids": torch.tensor([[0, 2, 3, 4]])}
    with pytest.raises(
        AdapterError, match=r"position ids that do not count by one.* got position_"
    ):
        delete_positions(skips, AT, REAL)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_masks_over_pairs_of_positions(heads: int) -> None:
    causal = torch.ones(4, 4).tril().bool()
    pairs = (causal & REAL[:, None])[:, None].expand(3, heads, 4, 4)
    additive = torch.zeros(pairs.shape).masked_fill(~pairs, torch.finfo(torch.float32).min)
    keys = REAL[:, None, None]
    for mask, axes in ((pairs, (1, 2)), (additive, (1, 2)), (pairs[:, 0], (0, 1)), (keys, (2,))):
        inputs = {"input_ids": IDS, "attention_mask": mask}
        shorter = delete_positions(inputs, AT, REAL)["attention_mask"]
        assert torch.equal(shorter, slow_columns(mask, axes))
    for mask, axes in ((pairs[:, :1], (1, 2)), (additive[:, :1], (1, 2)), (keys, (2,))):
        assert torch.equal(delete_positions((IDS, mask), AT, REAL)[1], slow_columns(mask, axes))


def test_masks_that_all_rows_share() -> None:
    causal = torch.ones(4, 4).tril().bool()
    square = {"src": IDS, "src_mask": causal, "src_key_padding_mask": ~REAL}
    shorter = delete_positions(square, AT, REAL)
    assert torch.equal(shorter["src_mask"], causal[:3, :3])
    assert torch.equal(shorter["src_key_padding_mask"], slow_columns(~REAL))
    assert torch.equal(delete_positions((IDS, causal), AT, REAL)[1], causal[:3, :3])
    four = {"input_ids": IDS, "attention_mask": causal[None, None]}
    assert delete_positions(four, AT, REAL)["attention_mask"].shape == (1, 1, 3, 3)
    uneven = causal.clone()
    uneven[3, 1] = False
    spread = {"input_ids": IDS, "attention_mask": uneven[None, None]}
    expected = slow_columns(uneven[None, None].expand(3, 1, 4, 4), (1, 2))
    assert torch.equal(delete_positions(spread, AT, REAL)["attention_mask"], expected)
    with pytest.raises(AdapterError, match="other tensors as long as the text"):
        delete_positions({"src": IDS, "src_mask": uneven}, AT, REAL)
    quadratic, at = IDS[:, :3], torch.tensor([1, 1, 2])  # as many rows as positions
    real = quadratic != 0
    both = {"input_ids": quadratic, "attention_mask": real, "attn_mask": causal[:3, :3]}
    shorter = delete_positions(both, at, real)
    assert torch.equal(shorter["attn_mask"], causal[:2, :2])
    assert shorter["attention_mask"].tolist() == [[1, 1], [1, 0], [1, 1]]


def test_graphs_by_name() -> None:
    nodes, edges = torch.rand(3, 4, 2), torch.rand(3, 4, 4) > 0.5
    shorter = delete_positions({"x": nodes, "adjacency": edges}, AT, REAL)
    assert torch.equal(shorter["x"], slow_columns(nodes))
    assert torch.equal(shorter["adjacency"], slow_columns(edges, (0, 1)))
    with pytest.raises(AdapterError, match=r"got inputs\[1\]: bool \(3, 4, 4\)"):
        delete_positions((nodes, edges), AT, REAL)


def test_only_the_text_that_is_meant() -> None:
    other = other_text()
    for told in ({"ids": IDS}, {"ids": IDS, "others": [other]}, {"others": [other]}):
        first, second = delete_positions((IDS, other), AT, REAL, **told)
        assert first.tolist() == SHORTER and second is other
    real = other != 0
    first, second = delete_positions((IDS, other), torch.ones_like(AT), real, ids=other)
    assert first is IDS and second.tolist() == [[9, 7, 6], [5, 3, 2], [7, 0, 0]]
    named = {"input_ids_a": IDS, "mask_a": REAL, "input_ids_b": other, "mask_b": torch.ones(3, 4)}
    shorter = delete_positions(named, AT, REAL, ids=IDS)
    assert shorter["mask_a"].shape == (3, 3) and shorter["mask_b"] is named["mask_b"]
    with pytest.raises(AdapterError, match="any of which may be the text"):
        delete_positions(named, AT, REAL)


def test_marks_and_lengths_that_may_be_either_texts() -> None:
    everywhere, other = torch.ones(3, 4).bool(), other_text()
    full = torch.tensor([4, 4, 4])
    inputs = (IDS, other, everywhere, everywhere.clone())
    with pytest.raises(AdapterError, match=r"other tensors as long .* got inputs\[2\]: bool"):
        delete_positions(inputs, AT, everywhere, ids=IDS)
    with pytest.raises(AdapterError, match="lengths that deletion cannot adjust"):
        delete_positions((IDS, other, full, full.clone()), AT, everywhere, ids=IDS)
    with pytest.raises(AdapterError, match="lengths that deletion cannot adjust"):
        delete_positions((IDS, other, [4, 4, 4], [4, 4, 4]), AT, everywhere, ids=IDS)
    named = {
        "premise": IDS,
        "hypothesis": other,
        "premise_lengths": full,
        "hypothesis_lengths": full,
    }
    shorter = delete_positions(named, AT, everywhere, ids=IDS)
    assert shorter["premise_lengths"].tolist() == [3, 3, 3]
    assert shorter["hypothesis_lengths"].tolist() == [4, 4, 4]
    lengths = torch.tensor([4, 4, 2])
    kept = delete_positions((IDS, other, COUNTS, lengths), AT, REAL, ids=IDS)
    assert kept[2].tolist() == [3, 1, 2] and kept[3] is lengths


def test_encoder_and_decoder() -> None:
    other = other_text()
    inputs = {
        "input_ids": IDS,
        "attention_mask": REAL.long(),
        "decoder_input_ids": other,
        "decoder_attention_mask": torch.ones(3, 4).long(),
        "encoder_hidden_states": torch.rand(3, 4, 2),
    }
    for told in ({}, {"ids": IDS}):
        shorter = delete_positions(inputs, AT, REAL, **told)
        assert shorter["input_ids"].tolist() == SHORTER
        assert shorter["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
        for name in ("decoder_input_ids", "decoder_attention_mask", "encoder_hidden_states"):
            assert shorter[name] is inputs[name]
    shorter = delete_positions(inputs, AT, torch.ones_like(REAL), ids=other)
    assert shorter["decoder_input_ids"].shape == shorter["decoder_attention_mask"].shape == (3, 3)
    for name in ("input_ids", "attention_mask", "encoder_hidden_states"):
        assert shorter[name] is inputs[name]
    labels = {**inputs, "labels": other.clone()}
    with pytest.raises(AdapterError, match=r"labels as long as the text.*Leave them out"):
        delete_positions(labels, AT, REAL)


def test_texts_in_mappings_of_their_own() -> None:
    first = {"input_ids": IDS, "attention_mask": REAL}
    second = {"input_ids": other_text(), "attention_mask": torch.ones(3, 4).bool()}
    shorter = delete_positions((first, second), AT, REAL, ids=IDS)
    assert shorter[0]["attention_mask"].shape == (3, 3)
    assert all(shorter[1][name] is value for name, value in second.items())
    with pytest.raises(AdapterError, match="any of which may be the text"):
        delete_positions((first, second), AT, REAL)


def test_a_tokenizers_output_stays_one() -> None:
    inputs = UserDict(input_ids=IDS, token_type_ids=IDS * 0, special_tokens_mask=(IDS == 5).long())
    shorter = delete_positions(inputs, AT, REAL)
    assert type(shorter) is UserDict
    assert torch.equal(shorter["special_tokens_mask"], slow_columns((IDS == 5).long()))
    assert inputs["input_ids"] is IDS


def test_inputs_that_hold_no_such_positions() -> None:
    message = r"hold a tensor that the positions are positions of, \(3, 4\).*got pixel_values: "
    images, short = torch.rand(3, 4, 8, 8), IDS[:, :2]
    with pytest.raises(
        AdapterError, match=message + r".*use removal=mask_patch\(size\), 'zero_emb"
    ):
        delete_positions({"pixel_values": images}, AT, REAL)
    with pytest.raises(AdapterError, match="positions are positions of"):
        delete_positions({"pixel_values": images, "attention_mask": REAL}, AT, REAL)
    with pytest.raises(AdapterError, match="positions are positions of"):
        delete_positions((images, REAL), AT, REAL)
    with pytest.raises(AdapterError, match=r"Write an adapter with remove\(\)"):
        delete_positions({"input_features": torch.rand(3, 4, 9)}, AT, REAL)
    with pytest.raises(AdapterError, match=r"positions must be those of one of the inputs, \(3, 4"):
        delete_positions({"input_ids": short}, AT, REAL, ids=short)
    with pytest.raises(ValueError, match="ids must be one of the tensors in the inputs"):
        delete_positions(IDS, AT, REAL, ids=IDS.clone())


def test_ids_of_a_vocabulary_of_two_and_ids_in_order() -> None:
    two = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1]])
    everywhere = torch.ones_like(REAL)
    assert torch.equal(delete_positions(two, AT, everywhere), slow_columns(two))
    shorter = delete_positions((two, everywhere), AT, everywhere)
    assert torch.equal(shorter[0], slow_columns(two)) and shorter[1].shape == (3, 3)
    in_order = torch.arange(4).expand(3, 4)
    assert torch.equal(delete_positions(in_order, AT, everywhere), slow_columns(in_order))


def test_deleting_the_only_position() -> None:
    shorter = delete_positions(IDS[:, :1], torch.tensor([0, 0, 0]), REAL[:, :1])
    assert shorter.shape == (3, 0)


@pytest.mark.parametrize("positions", [[0, 1], [0, 1, 4], [-1, 0, 0]])
def test_positions_that_are_not_there(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="positions must name one of 4 positions for each of 3"):
        delete_positions(IDS, torch.tensor(positions), REAL)


def test_padding_is_not_deleted() -> None:
    message = "positions must be real ones; got 3, which is padding in row 1. Choose positions wh"
    with pytest.raises(ValueError, match=message):
        delete_positions(IDS, torch.tensor([3, 3, 2]), REAL)


@pytest.mark.parametrize("positions", [[0, 1, 2], None, torch.ones(3), REAL[:, 0]])
def test_positions_of_another_kind(positions: object) -> None:
    with pytest.raises(TypeError, match=r"positions must be an int64 tensor; got .* Use torch.ten"):
        delete_positions(IDS, positions, REAL)  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", [torch.tensor(1), torch.tensor([[[0]], [[1]], [[2]]])])
def test_positions_of_another_shape(positions: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"positions must have shape \(B,\), one for each row; got"
    ):
        delete_positions(IDS, positions, REAL)
