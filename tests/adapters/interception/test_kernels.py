"""Kernels written out give what torch's own give, and their weights are what they use."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from watching import halved, noise, watched

B, H, ROWS, KEYS, E = 2, 4, 3, 5, 6


def loop(
    query: Tensor, key: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Weights of each row by its definition, one exponential at a time."""
    weights = torch.zeros(*query.shape[:-1], key.shape[-2], dtype=torch.float64)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in weights.shape[:-1]]).tolist():
        *lead, row = place
        terms = []
        for column in range(key.shape[-2]):
            score = scale * sum(
                float(q) * float(k)
                for q, k in zip(query[(*lead, row)], key[(*lead, column)], strict=True)
            )
            score += 0.0 if bias is None else float(bias[(*lead, row, column)])
            is_open = allowed is None or bool(allowed[(*lead, row, column)])
            terms.append(math.exp(score) if is_open else 0.0)
        total = sum(terms)
        weights[(*lead, row)] = torch.tensor(
            [t / total if total else 0.0 for t in terms], dtype=torch.float64
        )
    return weights


def inputs(*, groups: int = H, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return (
        noise(B, H, ROWS, E, seed=1, dtype=dtype),
        noise(B, groups, KEYS, E, seed=2, dtype=dtype),
        noise(B, groups, KEYS, E, seed=3, dtype=dtype),
    )


SHAPES = [(B, 1, 1, KEYS), (1, 1, ROWS, KEYS), (ROWS, KEYS), (B, H, ROWS, KEYS), (H, 1, KEYS)]
SHAPES += [(1, KEYS), (B, 1, ROWS, 1)]


@pytest.mark.parametrize("kind", ["bool", "float", "minimum"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_of_every_shape(shape: tuple[int, ...], kind: str) -> None:
    query, key, value = inputs()
    allowed = noise(*shape, seed=4) > -0.3
    mask = allowed
    if kind != "bool":
        closed = -math.inf if kind == "float" else torch.finfo(torch.float64).min
        mask = noise(*shape, seed=5).masked_fill(~allowed, closed)
    out, notes = watched(lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    torch.testing.assert_close(
        out, F.scaled_dot_product_attention(query, key, value, attn_mask=mask), rtol=0, atol=1e-12
    )
    every = allowed.expand(B, H, ROWS, KEYS)
    bias = None if kind == "bool" else noise(*shape, seed=5).expand(B, H, ROWS, KEYS)
    open_rows = every.any(-1)
    expected = loop(query, key, every, bias, E**-0.5)
    (weights,) = notes.found
    if kind != "minimum":
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights[open_rows], expected[open_rows], rtol=0, atol=1e-12)
    assert torch.equal(notes.support(), every)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("rows", [2, KEYS, 7])
def test_causal_with_other_numbers_of_rows(rows: int, scale: float | None) -> None:
    query, (_, key, value) = noise(B, H, rows, E, seed=1), inputs()
    options: dict[str, Any] = {"is_causal": True, "scale": scale}
    out, notes = watched(lambda: F.scaled_dot_product_attention(query, key, value, **options))
    expected = F.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    allowed = torch.ones(rows, KEYS).tril().bool().expand(B, H, rows, KEYS)
    by_hand = loop(query, key, allowed, None, E**-0.5 if scale is None else scale)
    torch.testing.assert_close(notes.found[0], by_hand, rtol=0, atol=1e-12)
    assert torch.equal(notes.support(), allowed)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_queries(groups: int) -> None:
    query, key, value = inputs(groups=groups)

    def call() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    out, notes = watched(call)
    torch.testing.assert_close(out, call(), rtol=0, atol=1e-12)
    repeated = [each.repeat_interleave(H // groups, 1) for each in (key, value)]
    by_hand = loop(query, repeated[0], None, None, E**-0.5)
    torch.testing.assert_close(notes.found[0], by_hand, rtol=0, atol=1e-12)
    changed, _ = watched(call, halved)
    torch.testing.assert_close(changed, halved(by_hand) @ repeated[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 3, 2)], ids=str)
def test_other_numbers_of_axes(lead: tuple[int, ...]) -> None:
    query, key, value = (noise(*lead, n, E, seed=n) for n in (ROWS, KEYS, KEYS))
    out, notes = watched(lambda: F.scaled_dot_product_attention(query, key, value))
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert notes.found[0].shape == (*lead, ROWS, KEYS)


def test_keys_and_values_that_are_broadcast() -> None:
    query, key, value = noise(B, H, ROWS, E), noise(1, H, KEYS, E), noise(B, 1, KEYS, E)
    try:
        expected = F.scaled_dot_product_attention(query, key, value)
    except RuntimeError:
        pytest.skip("this torch does not broadcast here")
    out, _ = watched(lambda: F.scaled_dot_product_attention(query, key, value))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_keyword_arguments_only() -> None:
    query, key, value = inputs()
    mask = noise(ROWS, KEYS) > 0

    def call() -> Tensor:
        return F.scaled_dot_product_attention(
            scale=0.5, dropout_p=0.0, is_causal=False, attn_mask=mask,
            value=value, key=key, query=query,
        )  # fmt: skip

    torch.testing.assert_close(watched(call)[0], call(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)],
    ids=str,
)
@pytest.mark.parametrize("masked", [False, True])
def test_precisions(dtype: torch.dtype, tolerance: float, masked: bool) -> None:
    query, key, value = inputs(dtype=dtype)
    mask = None
    if masked:
        closed = torch.finfo(dtype).min
        mask = torch.zeros(B, 1, 1, KEYS, dtype=dtype)
        mask[1, ..., 3:] = closed

    def call() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    out, notes = watched(call)
    assert out.dtype == dtype
    torch.testing.assert_close(out, call(), rtol=tolerance, atol=tolerance)
    open_ = None if mask is None else (mask > -1e3).expand(B, H, ROWS, KEYS)
    by_hand = loop(query.double(), key.double(), open_, None, E**-0.5)
    torch.testing.assert_close(notes.found[0].double(), by_hand, rtol=1e-5, atol=1e-5)
    if mask is not None:
        assert torch.equal(notes.support(), open_)


@pytest.mark.parametrize("masked", ["none", "causal", "bool", "closed row", "learned bias"])
def test_gradients(masked: str) -> None:
    leaves = [each.requires_grad_() for each in inputs()]
    options: dict[str, Any] = {}
    if masked == "causal":
        options = {"is_causal": True}
    elif masked in ("bool", "closed row"):
        options = {"attn_mask": noise(ROWS, KEYS, seed=9) > -0.3}
        if masked == "closed row":
            options["attn_mask"][1] = False
    elif masked == "learned bias":
        leaves.append(noise(1, H, ROWS, KEYS, seed=8).requires_grad_())
        options = {"attn_mask": leaves[3]}

    def call() -> Tensor:
        return F.scaled_dot_product_attention(*leaves[:3], **options)

    expected = torch.autograd.grad(call().square().sum(), leaves)
    out, notes = watched(call)
    actual = torch.autograd.grad(out.square().sum(), leaves, retain_graph=True)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad(out.sum(), notes.found)
    by_hand = leaves[2].sum(-1)[:, :, None].expand_as(slope)  # d sum(P V) / dP = sum of V
    torch.testing.assert_close(slope, by_hand, rtol=0, atol=1e-12)


def test_dropout_has_its_mean_and_takes_the_weights_last() -> None:
    query, key, value = inputs()

    def call() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=0.5)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        outs = torch.stack([watched(call)[0] for _ in range(400)])
        out, notes = watched(call)
    undropped = F.scaled_dot_product_attention(query, key, value)
    error = (outs.mean(0) - undropped).abs() / (outs.std(0) / 20)
    assert float(error.max()) < 5
    assert not torch.allclose(out, undropped)  # it is dropped as the model asks for
    by_hand = loop(query, key, None, None, E**-0.5)
    torch.testing.assert_close(notes.found[0], by_hand, rtol=0, atol=1e-12)


def test_an_override_is_used_as_given() -> None:
    query, key, value = inputs()
    new = noise(B, H, ROWS, KEYS, seed=7)  # neither positive nor normalised
    out, _ = watched(lambda: F.scaled_dot_product_attention(query, key, value), lambda _: new)
    torch.testing.assert_close(out, new @ value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", ["both", "dtype"])
def test_what_torch_refuses_is_refused(which: str) -> None:
    query, key, value = inputs()
    mask = torch.ones(ROWS, KEYS, dtype=torch.bool)

    def both() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=True)

    def of_another_dtype() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.float())

    call = both if which == "both" else of_another_dtype
    try:
        expected = call()
    except RuntimeError:
        with pytest.raises(RuntimeError):
            watched(call)
    else:
        torch.testing.assert_close(watched(call)[0], expected, rtol=0, atol=1e-12)


def test_nan_is_not_taken_for_a_mask() -> None:
    query, key, value = inputs()
    query[0, 0, 0] = torch.nan
    allowed = torch.ones(ROWS, KEYS, dtype=torch.bool)
    allowed[2] = False
    for mask in (None, allowed):
        out, notes = watched(lambda m=mask: F.scaled_dot_product_attention(query, key, value, m))
        assert notes.found[0][0, 0, 0].isnan().all()
        assert out[0, 0, 0].isnan().all()
        assert int(out.isnan().sum()) == E


def test_a_scale_of_either_sign() -> None:
    query, key, value = inputs()
    for scale in (0.0, -1.0):
        out, notes = watched(
            lambda s=scale: F.scaled_dot_product_attention(query, key, value, scale=s)
        )
        expected = F.scaled_dot_product_attention(query, key, value, scale=scale)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        by_hand = loop(query, key, None, None, scale)
        torch.testing.assert_close(notes.found[0], by_hand, rtol=0, atol=1e-12)
