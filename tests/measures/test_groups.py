"""Scores of groups against a slow loop; groups of words and of patches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import aggregate_scores, patch_groups, word_groups

SCORES = torch.tensor([[0.5, -2.0, 3.0, 0.25, 1.0], [7.0, 0.0, -1.0, 2.0, -4.0]]).double()
GROUPS = torch.tensor([[-1, 0, 0, 2, 2], [1, 1, 0, -1, 1]])
MASK = torch.tensor([[True, True, True, False, True], [True, False, False, True, True]])
REDUCE = {"sum": sum, "mean": lambda x: sum(x) / len(x), "max": max}


def slow(scores: Tensor, groups: Tensor, mask: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    size, count = len(scores), int(groups.max()) + 1
    values, flags = torch.zeros(size, count).double(), torch.zeros(size, count).bool()
    for b in range(size):
        for g in range(count):
            members = [
                float(scores[b, t])
                for t in range(scores.shape[1])
                if groups[b, t] == g and mask[b, t]
            ]
            if members:
                flags[b, g] = True
                nan = any(math.isnan(member) for member in members)
                values[b, g] = math.nan if nan else REDUCE[reduction](members)
    return values, flags


@pytest.mark.parametrize("reduction", REDUCE)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_agrees_with_a_slow_loop(reduction: str, masked: bool, dtype: torch.dtype) -> None:
    mask = MASK if masked else None
    actual = aggregate_scores(SCORES, GROUPS.to(dtype), mask=mask, reduction=reduction)
    every = torch.ones_like(MASK) if mask is None else mask
    expected = slow(SCORES, GROUPS, every, reduction)
    torch.testing.assert_close(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("reduction", REDUCE)
def test_random_groups(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 30, generator=generator, dtype=torch.float64)
    groups = torch.randint(-1, 9, (5, 30), generator=generator)
    mask = torch.rand(5, 30, generator=generator) < 0.7
    actual = aggregate_scores(scores, groups, mask=mask, reduction=reduction)
    expected = slow(scores, groups, mask, reduction)
    torch.testing.assert_close(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    same = aggregate_scores(scores, groups[0], reduction=reduction)
    spread = groups[:1].expand(5, -1)
    torch.testing.assert_close(same[0], slow(scores, spread, scores == scores, reduction)[0])


@pytest.mark.parametrize("reduction", REDUCE)
def test_undefined_stays_undefined_where_it_counts(reduction: str) -> None:
    scores = SCORES.clone()
    scores[0, 2] = scores[1, 2] = scores[0, 0] = math.nan
    values, _ = aggregate_scores(scores, GROUPS, mask=MASK, reduction=reduction)
    expected = slow(scores, GROUPS, MASK, reduction)[0]
    torch.testing.assert_close(values, expected, equal_nan=True)
    assert values.isnan().tolist() == [[True, False, False], [False, False, False]]


@pytest.mark.parametrize("reduction", REDUCE)
def test_gradients(reduction: str) -> None:
    scores = SCORES.clone().requires_grad_()

    def total(x: Tensor) -> Tensor:
        return aggregate_scores(x, GROUPS, mask=MASK, reduction=reduction)[0]

    assert torch.autograd.gradcheck(total, (scores,))
    hidden = SCORES.clone()
    hidden[~MASK] = math.nan  # what does not count has no gradient, not even nan
    hidden.requires_grad_()
    total(hidden).sum().backward()
    assert hidden.grad is not None and (hidden.grad[~MASK] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", REDUCE)
def test_dtype_is_kept(dtype: torch.dtype, reduction: str) -> None:
    values, flags = aggregate_scores(SCORES.to(dtype), GROUPS, reduction=reduction)
    assert values.dtype == dtype and flags.dtype == torch.bool
    expected = slow(SCORES, GROUPS, torch.ones_like(MASK), reduction)[0]
    torch.testing.assert_close(values.double(), expected, atol=0.05, rtol=0)


def test_many_positions_of_a_group_in_half_precision() -> None:
    scores = torch.full((1, 5000), 0.5, dtype=torch.float16)
    groups = torch.zeros(5000, dtype=torch.int64)
    for reduction, expected in (("sum", 2500.0), ("mean", 0.5), ("max", 0.5)):
        values, _ = aggregate_scores(scores, groups, reduction=reduction)
        assert float(values) == expected


def test_no_group_at_all() -> None:
    values, mask = aggregate_scores(SCORES, torch.full((5,), -1))
    assert values.shape == mask.shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": SCORES[0]}, ValueError, r"scores must have shape \(batch, positions\); got \("),
        ({"scores": GROUPS}, TypeError, "scores must be floating point; got torch.int64"),
        ({"scores": [1.0]}, TypeError, "scores must be a torch.Tensor; got list"),
        ({"groups": GROUPS.double()}, TypeError, "groups must be integers, .*got torch.float64"),
        ({"groups": MASK}, TypeError, "groups must be integers, .*; got torch.bool"),
        ({"groups": [0]}, TypeError, "groups must be a torch.Tensor; got list"),
        (
            {"groups": GROUPS[:, :4]}, ValueError,
            r"groups must have shape \(2, 5\) or \(5,\), as the scores; got \(2, 4\)\. Give one",
        ),
        ({"groups": GROUPS - 1}, ValueError, "groups must be numbered from 0, .*; got -2. Renum"),
        ({"groups": GROUPS.to("meta")}, ValueError, "groups must be on the device of scores"),
        ({"mask": MASK[:1]}, ValueError, "mask must have the shape of scores"),
        ({"mask": MASK.long()}, TypeError, "mask must be boolean"),
        ({"reduction": "median"}, ValueError, "reduction must be one of sum, mean, max; got 'medi"),
        ({"reduction": max}, ValueError, "reduction must be one of sum, mean, max"),
    ],
)  # fmt: skip
def test_what_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"scores": SCORES, "groups": GROUPS, **change}
    with pytest.raises(error, match=message):
        aggregate_scores(given.pop("scores"), given.pop("groups"), **given)


class Encoding(dict[str, Any]):
    """Words and texts of tokens, as a fast tokenizer shows them."""

    def __init__(self, words: list[list[Any]], texts: list[list[Any]], ids: Any) -> None:
        super().__init__(input_ids=ids)
        self.words, self.texts = words, texts

    def word_ids(self, batch_index: int = 0) -> list[Any]:
        return self.words[batch_index]

    def sequence_ids(self, batch_index: int = 0) -> list[Any]:
        return self.texts[batch_index]


PAIR = [None, 0, 0, 1, None, 0, 1, 1, None], [None, 0, 0, 0, None, 1, 1, 1, None]


def test_words_of_two_texts_do_not_collide() -> None:
    short = [None, 0, None, 0, 2, None, None, None, None], [None, 0, None, 1, 1, *[None] * 4]
    encoding = Encoding([PAIR[0], short[0]], [PAIR[1], short[1]], torch.zeros(2, 9))
    expected = [[-1, 0, 0, 1, -1, 2, 3, 3, -1], [-1, 0, -1, 1, 3, -1, -1, -1, -1]]
    assert word_groups(encoding).tolist() == expected
    assert word_groups(encoding).dtype == torch.int64


def test_words_of_one_text_and_of_texts_that_are_not_padded() -> None:
    one = Encoding([PAIR[0][:5]], [PAIR[1][:5]], [1, 2, 3, 4, 5])
    assert word_groups(one).tolist() == [[-1, 0, 0, 1, -1]]
    ragged = Encoding([[None, 0, 0], [0]], [[None, 0, 0], [0]], [[1, 2, 3], [4]])
    assert word_groups(ragged).tolist() == [[-1, 0, 0], [0, -1, -1]]


def test_words_of_real_tokenizers() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##fold", "##s", "it", "the", "map", "."]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]")
    batch = tokenizer(
        ["it unfolds .", "the"], ["the map", "unfolds"], padding=True, return_tensors="pt"
    )
    assert word_groups(batch).tolist() == [
        [-1, 0, 1, 1, 1, 2, -1, 3, 4, -1],
        [-1, 0, -1, 1, 1, 1, -1, -1, -1, -1],
    ]
    assert word_groups(tokenizer("it unfolds")).tolist() == [[-1, 0, 1, 1, 1, -1]]


def test_what_knows_no_words() -> None:
    class Slow(dict[str, Any]):
        def word_ids(self, batch_index: int = 0) -> list[Any]:
            raise ValueError("word_ids() is not available when using Python-based tokenizers")

    for encoding in (torch.zeros(2, 3), {"input_ids": [[1]]}, Slow(input_ids=[[1]]), None):
        message = f"encoding must know the words of its tokens; got {type(encoding).__name__}"
        with pytest.raises(TypeError, match=message):
            word_groups(encoding)


@pytest.mark.parametrize(
    ("height", "width", "size", "prefix"), [(4, 6, 2, 1), (5, 3, 2, 0), (2, 2, 7, 5)]
)
def test_patches_of_a_region_share_their_number(
    height: int, width: int, size: int, prefix: int
) -> None:
    groups = patch_groups(height, width, size=size, prefix=prefix)
    assert groups.dtype == torch.int64 and groups[:prefix].tolist() == [-1] * prefix
    across = math.ceil(width / size)
    expected = [(y // size) * across + x // size for y in range(height) for x in range(width)]
    assert groups[prefix:].tolist() == expected
    assert sorted(set(expected)) == list(range(max(expected) + 1))
    scores = torch.rand(2, len(groups))
    assert aggregate_scores(scores, groups)[0].shape == (2, max(expected) + 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"height": 0}, ValueError, "height must be at least 1; got 0"),
        ({"width": 2.0}, TypeError, "width must be a whole number; got 2.0"),
        ({"size": 0}, ValueError, "size must be at least 1; got 0"),
        ({"prefix": -1}, ValueError, "prefix must be at least 0; got -1"),
    ],
)
def test_patches_that_cannot_be(options: Any, error: type[Exception], message: str) -> None:
    given = {"height": 2, "width": 2, "size": 1, **options}
    with pytest.raises(error, match=message):
        patch_groups(given.pop("height"), given.pop("width"), **given)
