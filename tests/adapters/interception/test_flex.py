"""Flex attention, where this torch runs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from watching import Calling, halved, noise, watched

flex = pytest.importorskip("torch.nn.attention.flex_attention")
B, H, L, E = 2, 4, 5, 8
SLOPES = torch.tensor([0.5, 0.25, 0.1, 0.0], dtype=torch.float64)


def alibi(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return score - SLOPES[h] * (q - k).abs()


def soft_cap(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return 2 * torch.tanh(score / 2)


def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q >= k


LENGTHS = torch.tensor([5, 3])


def padded(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return k < LENGTHS[b]


def nothing_for_row_two(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q != 2


def call(
    score_mod: Callable[..., Tensor] | None, mask_mod: Any, groups: int, **options: Any
) -> Callable[[], Tensor]:
    query, key = noise(B, H, L, E), noise(B, groups, L, E, seed=1)
    value = noise(B, groups, L, E, seed=2)
    block = None if mask_mod is None else flex.create_block_mask(mask_mod, B, H, L, L, device="cpu")
    return lambda: flex.flex_attention(
        query, key, value, score_mod, block, enable_gqa=groups != H, **options
    )


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("mask_mod", [None, causal, padded, nothing_for_row_two])
@pytest.mark.parametrize("score_mod", [None, alibi, soft_cap])
def test_flex_attention(score_mod: Any, mask_mod: Any, groups: int) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = call(score_mod, mask_mod, groups)
        expected = function()
        out, notes = watched(Calling(function))
        changed, _ = watched(Calling(function), halved)
    query, key = noise(B, H, L, E), noise(B, groups, L, E, seed=1).repeat_interleave(H // groups, 1)
    value = noise(B, groups, L, E, seed=2).repeat_interleave(H // groups, 1)
    raised = torch.zeros(B, H, L, L, dtype=torch.float64)
    for place in torch.cartesian_prod(*map(torch.arange, raised.shape)):
        b, h, q, k = place
        score = (query[b, h, q] @ key[b, h, k]) / E**0.5
        score = score if score_mod is None else score_mod(score, b, h, q, k)
        if mask_mod is None or bool(mask_mod(b, h, q, k)):
            raised[b, h, q, k] = score.exp()
    weights = (raised / raised.sum(-1, keepdim=True)).nan_to_num(0)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(notes.found[0], weights, rtol=0, atol=1e-9)
    torch.testing.assert_close(changed, halved(weights) @ value, rtol=0, atol=1e-9)
    assert torch.equal(notes.support(), raised > 0)
    assert [place.kind for place in notes.places] == ["flex"]


def test_flex_attention_with_a_scale_and_its_statistics() -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = call(None, causal, 4, scale=0.3, return_lse=True)
        expected = function()
        out = watched(Calling(function))[0]
    for ours, theirs in zip(out, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
