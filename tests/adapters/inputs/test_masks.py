"""What can be explained, what is padding, and what is a special token, by every rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError
from faithattn.adapters.inputs.masks import (
    find_mask,
    is_tokenizer,
    known_real,
    real_positions,
    special_tokens,
)
from faithattn.adapters.inputs.source import SPECIAL, Source

IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
REAL = IDS != 0
EVERYWHERE = torch.ones_like(REAL)
WEIGHTS = REAL / REAL.sum(1, keepdim=True)
OPEN = torch.full((3, 4), 0.25)


def source(padding: int | None = None, path: Any = (), **options: Any) -> Source:
    return Source("words", 4, options.get("ids", IDS), padding, path)


def by_hand(inputs: Any) -> Tensor:
    return IDS > 3


def by_name(*names: str) -> Any:
    return lambda _: dict.fromkeys(names, IDS > 3)


TOKENIZER = SimpleNamespace(
    all_special_ids=[0, 3, 9, 10], pad_token_id=0, unk_token_id=9, mask_token_id=10
)
SLOW = SimpleNamespace(all_special_ids=[3], pad_token_id=None, unk_token_id=None)
WORDS = (IDS != 0) & (IDS != 3)
LATER = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
MARKED = {"input_ids": IDS, "attention_mask": LATER, SPECIAL: 1 - LATER.flip(0)}

MASKS: dict[str, tuple[Any, Any, Source, Tensor]] = {
    "function": (by_hand, IDS, source(0), IDS > 3),
    "masks by site": (by_name("other", "site"), IDS, source(0), IDS > 3),
    "masks by feature": (by_name("other", "words"), IDS, source(0), IDS > 3),
    "tensor": (IDS > 5, IDS, source(0), IDS > 5),
    "id": (9, IDS, source(0), IDS != 9),
    "id zero": (0, IDS, source(), REAL),
    "id in a mapping": (0, {"x": IDS, "length": IDS.sum(1)}, source(path=("x",)), REAL),
    "id of what is not embedded": (0, (IDS.float(), IDS), Source("", 4), REAL),
    "id, input_ids first": (0, {"input_ids": IDS, "more": IDS * 0}, Source("", 4), REAL),
    "attention_mask": (None, MARKED | {SPECIAL: None}, source(4), LATER.bool()),
    "special tokens": (None, MARKED, source(4), (LATER & LATER.flip(0)).bool()),
    "rule before attention_mask": (by_hand, MARKED, source(), IDS > 3),
    "id before attention_mask": (0, MARKED | {SPECIAL: None}, source(), REAL),
    "padding_idx": (None, IDS, source(0), REAL),
    "tokenizer": (TOKENIZER, IDS, source(8), WORDS),
    "tokenizer and attention_mask": (TOKENIZER, MARKED, source(), WORDS & LATER.bool()),
    "tokenizer without padding": (SLOW, IDS, source(), IDS != 3),
    "tokenizer without ids": (TOKENIZER, IDS.float(), Source("", 4), EVERYWHERE),
    "nothing": (None, IDS, source(), EVERYWHERE),
    "marks of another length": (None, {"attention_mask": LATER[:, 1:]}, source(0), REAL),
}


@pytest.mark.parametrize(("rule", "inputs", "where", "expected"), MASKS.values(), ids=MASKS)
def test_the_mask_is_found(rule: Any, inputs: Any, where: Source, expected: Tensor) -> None:
    for weights in (
        OPEN,
        OPEN[:, None].expand(-1, 4, -1),
        OPEN[:, None, None].expand(-1, 2, 5, -1),
    ):
        found = find_mask(rule, inputs, where, weights, "site")
        assert found.dtype == torch.bool and torch.equal(found, expected)


def test_keys_beyond_the_positions_are_not_explained() -> None:
    weights = torch.full((3, 2, 1, 6), 1 / 6)
    for rule, expected in ((by_hand, IDS > 3), (None, EVERYWHERE), (0, REAL), (IDS > 5, IDS > 5)):
        found = find_mask(rule, IDS, source(), weights)
        assert found.shape == (3, 6) and not found[:, 4:].any()
        assert torch.equal(found[:, :4], expected)


SHAPE = r"mask must be boolean of shape \(3, 4\), as the attention; got "
ID_ERROR = r"needs one tensor of ids of shape \(3, 4\) in the inputs, and there are "
AWAY = Source("words", 4)
MASK_ERRORS: dict[str, tuple[Any, Any, Source, str]] = {
    "shape": (lambda ids: ids[:, 1:] > 0, IDS, source(), SHAPE + r"\(3, 3\) torch.bool. Return"),
    "dtype": (lambda ids: ids, IDS, source(), SHAPE + r"\(3, 4\) torch.int64"),
    "kind": (len, IDS, source(), SHAPE + "int"),
    "tensor": (REAL[:1], IDS, source(), SHAPE + r"\(1, 4\) torch.bool. A mask tensor belongs to"),
    "no ids": (
        0,
        {"x": IDS.float()},
        AWAY,
        "mask must be given as a function here: a padding id " + ID_ERROR + "0",
    ),
    "two ids": (0, (IDS, IDS), AWAY, ID_ERROR + r"2\. Use adapt\(model, mask=lambda"),
    "unknown inputs": (0, SimpleNamespace(), AWAY, ID_ERROR + "0"),
    "masks for others": (
        by_name("a", "b"),
        IDS,
        source(),
        r"mask must cover the site 'site' or its feature 'words'; got masks for 'a', 'b'\. Return",
    ),
}


@pytest.mark.parametrize(
    ("rule", "inputs", "where", "message"), MASK_ERRORS.values(), ids=MASK_ERRORS
)
def test_a_mask_that_cannot_be(rule: Any, inputs: Any, where: Source, message: str) -> None:
    for weights in (OPEN, OPEN[:, None, None].expand(-1, 2, 5, -1)):
        with pytest.raises(AdapterError, match=message):
            find_mask(rule, inputs, where, weights, "site")


# --- padding that only the attention tells -------------------------------------------------

PAIRS = REAL[:, None, None] & torch.ones(4, 4, dtype=torch.bool).tril()
WINDOW = torch.ones(4, 4, dtype=torch.bool).tril().triu(-1).expand(3, 2, 4, 4)
SUPPORTS: dict[str, tuple[Tensor, Tensor]] = {
    "one row": (REAL, REAL),
    "causal and padded": (PAIRS.expand(3, 2, 4, 4), REAL),
    "queries of padding use none": (PAIRS & REAL[:, None, :, None], REAL),
    "a window": (WINDOW, EVERYWHERE),
}


@pytest.mark.parametrize(("support", "expected"), SUPPORTS.values(), ids=SUPPORTS)
def test_padding_is_what_no_row_may_use(support: Tensor, expected: Tensor) -> None:
    weights = support / support.sum(-1, keepdim=True).clamp_min(1)
    assert torch.equal(find_mask(None, IDS, source(), weights, "", lambda: support), expected)
    marked = find_mask(0, IDS, source(), weights, "", lambda: EVERYWHERE)
    assert torch.equal(marked, REAL)  # anything else that tells comes first


HIDDEN = (
    r"mask must be given where the model pads: some rows begin or end in zero attention.*Use ad"
)


def test_padding_at_either_end_is_noticed() -> None:
    for weights in (WEIGHTS, WEIGHTS.flip(1)):
        shapes = (weights, weights[:, None, None].expand(-1, 2, 5, -1))
        for each in (*shapes, weights[:, None].expand(-1, 4, -1)):
            for support in (None, lambda each=each: torch.ones_like(each).bool()):
                with pytest.raises(AdapterError, match=HIDDEN):
                    find_mask(None, IDS, source(), each, "", support)
    inner = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    where = Source("words", 3)
    assert find_mask(None, inner, where, inner).all()
    assert find_mask(None, inner, where, inner, "", lambda: torch.ones(2, 3).bool()).all()


def test_a_causal_row_of_zeros_is_no_padding() -> None:
    causal = torch.ones(4, 4).tril()
    causal = (causal / causal.sum(-1, keepdim=True)).expand(3, 4, 4)
    assert find_mask(None, IDS, source(), causal).all()
    for support in (causal > 0, torch.ones_like(causal).bool()):
        assert find_mask(None, IDS, source(), causal, "", lambda s=support: s).all()


def test_hidden_padding_is_not_looked_for_under_a_transform() -> None:
    def inside(weights: Tensor) -> Tensor:
        return find_mask(None, None, Source("", 4), weights[None]).float()

    assert torch.func.vmap(inside)(WEIGHTS).all()


# --- whose attention mask ------------------------------------------------------------------

OTHER = REAL.flip(1)
HOLDERS: dict[str, tuple[Any, Any, Tensor | None]] = {
    "its own": ({"input_ids": IDS, "attention_mask": OTHER}, ("input_ids",), OTHER),
    "of the only text": ({"words": IDS, "attention_mask": OTHER}, ("words",), OTHER),
    "of a text not found": ({"words": IDS, "attention_mask": OTHER}, None, OTHER),
    "another text's": ({"input_ids": IDS, "attention_mask": OTHER}, ("question",), None),
    "by affix": (
        {"input_ids": IDS, "attention_mask": REAL, "question_attention_mask": OTHER},
        ("question",),
        OTHER,
    ),
    "by affix of a known name": (
        {"a_input_ids": IDS, "a_attention_mask": REAL, "b_attention_mask": OTHER},
        ("b_input_ids",),
        OTHER,
    ),
    "by number": ({"attention_mask_2": OTHER, "attention_mask": REAL}, ("input_ids_2",), OTHER),
    "the encoder's": ({"attention_mask": REAL}, ("decoder_input_ids",), None),
    "the decoder's": (
        {"attention_mask": REAL, "decoder_attention_mask": OTHER},
        ("decoder_input_ids",),
        OTHER,
    ),
    "not the decoder's": ({"decoder_attention_mask": OTHER}, ("input_ids",), None),
    "inside": ({"x": {"input_ids": IDS, "attention_mask": OTHER}}, ("x", "input_ids"), OTHER),
    "outside": ({"x": {"input_ids": IDS}, "attention_mask": OTHER}, ("x", "input_ids"), None),
    "in a tuple": (({"ids": IDS, "attention_mask": OTHER}, 1), (0, "ids"), OTHER),
    "positions of a tuple": ((IDS, OTHER), (0,), None),
    "no tensor": ({"input_ids": IDS, "attention_mask": OTHER.tolist()}, ("input_ids",), None),
}


@pytest.mark.parametrize(("inputs", "path", "expected"), HOLDERS.values(), ids=HOLDERS)
def test_whose_attention_mask_it_is(inputs: Any, path: Any, expected: Tensor | None) -> None:
    for kind in (torch.Tensor.bool, torch.Tensor.long):
        given = _converted(inputs, kind)
        found = known_real(None, given, Source("words", 4, IDS, None, path), (3, 4))
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert found.dtype == torch.bool and torch.equal(found, expected)


def _converted(inputs: Any, kind: Any) -> Any:
    """The inputs with their flags as another type."""
    if isinstance(inputs, Tensor):
        return kind(inputs) if inputs.dtype == torch.bool else inputs
    if isinstance(inputs, dict):
        return {key: _converted(each, kind) for key, each in inputs.items()}
    return tuple(_converted(each, kind) for each in inputs) if isinstance(inputs, tuple) else inputs


# --- special tokens ------------------------------------------------------------------------


def test_special_tokens_by_every_way() -> None:
    expected = (IDS == 0) | (IDS == 3)  # unknown words and masks are words
    found = special_tokens(TOKENIZER, IDS, source())
    assert found is not None and torch.equal(found, expected)
    assert special_tokens(TOKENIZER, IDS.float(), Source("", 4)) is None
    told = special_tokens(None, MARKED, source(path=("input_ids",)))
    assert told is not None and torch.equal(told, MARKED[SPECIAL].bool())
    for path in (("decoder_input_ids",), ("question",)):
        assert special_tokens(None, MARKED, source(path=path)) is None
    assert special_tokens(None, MARKED, Source("words", 5)) is None
    for rule, inputs in ((None, IDS), (by_hand, IDS), (0, {"x": IDS})):
        assert special_tokens(rule, inputs, source()) is None
    assert is_tokenizer(TOKENIZER) and not is_tokenizer(by_hand) and not is_tokenizer(3)


# --- what is real --------------------------------------------------------------------------

COUNTS = REAL.sum(1)


def test_lengths_say_what_is_real_where_nothing_else_does() -> None:
    for lengths in (COUNTS, COUNTS[:, None], COUNTS.tolist()):
        assert torch.equal(real_positions(by_hand, (IDS, lengths), source(), REAL, (3, 4)), REAL)
    assert real_positions(by_hand, (IDS, COUNTS - 1), source(), REAL, (3, 4)).all()
    inner = torch.tensor([[False, True, True, False]])  # counts words, says not where they are
    given = (IDS[:1], torch.tensor([2]))
    assert real_positions(by_hand, given, source(), inner, (1, 4)).all()


def test_special_tokens_are_real_though_not_explained() -> None:
    mask = REAL & (IDS != 3)
    given = {"input_ids": IDS, "attention_mask": REAL.long()}
    for rule, inputs, where in (
        (by_hand, IDS, source(0)),
        (0, IDS, source()),
        (TOKENIZER, IDS, source()),
        (by_hand, given, source()),
    ):
        assert torch.equal(real_positions(rule, inputs, where, mask, (3, 4)), REAL)
        if rule is not by_hand:
            assert torch.equal(real_positions(rule, inputs, where, None, (3, 4)), REAL)


def test_everything_is_real_where_nothing_says_what_padding_is() -> None:
    long = {"attention_mask": torch.ones(3, 9)}
    for inputs, where in (
        (IDS, source()),
        (IDS.float(), Source("words", 4, None, 0)),
        ({"input_ids": IDS[:, 1:]}, Source("words", 4, IDS[:, 1:], 0)),
        (long, source()),
    ):
        assert real_positions(by_hand, inputs, where, REAL, (3, 4)).all()
        assert real_positions(by_hand, inputs, where, None, (3, 4)).all()


def test_a_mask_of_another_shape_says_nothing_of_what_is_real() -> None:
    assert torch.equal(real_positions(by_hand, IDS, source(0), REAL[:, 1:], (3, 4)), REAL)
