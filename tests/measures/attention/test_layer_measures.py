"""Rollout and relevance against slow loops and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faithattn import attention_relevance, attention_rollout, value_norms


def layers(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    return list((2 * draws).softmax(-1))


@pytest.mark.parametrize("n_layers", [1, 2, 5])
@pytest.mark.parametrize("n", [2, 7])
def test_rollout_of_uniform_attention(n_layers: int, n: int) -> None:
    uniform = torch.full((1, n, n), 1 / n, dtype=torch.float64)
    expected = 2.0**-n_layers * torch.eye(n).double() + (1 - 2.0**-n_layers) * uniform
    torch.testing.assert_close(attention_rollout([uniform] * n_layers), expected)


def slow_rollout(attention: list[Tensor]) -> Tensor:
    size, heads, length, _ = attention[0].shape
    found = torch.zeros(size, length, length, dtype=torch.float64)
    for b in range(size):
        product = torch.eye(length, dtype=torch.float64)
        for layer in attention:
            mixed = sum(layer[b, h] for h in range(heads)) / heads + torch.eye(length)
            for i in range(length):
                mixed[i] /= mixed[i].sum()
            product = mixed @ product
        found[b] = product
    return found


def test_rollout_is_the_slow_product() -> None:
    attention = layers(3, 2, 4, 5, 5)
    whole = attention_rollout(attention)
    torch.testing.assert_close(whole, slow_rollout(attention), atol=1e-12, rtol=0)
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, 5).double())
    rows = layers(1, 2, 3, 5)[0]
    torch.testing.assert_close(attention_rollout(attention, rows=rows), rows @ whole)
    alone = [layer.mean(1) for layer in attention]
    torch.testing.assert_close(attention_rollout(alone), whole)


def test_rollout_of_causal_attention_is_causal() -> None:
    allowed = torch.ones(5, 5).tril().bool()
    causal = [layer.masked_fill(~allowed, 0) for layer in layers(3, 2, 5, 5)]
    causal = [layer / layer.sum(-1, keepdim=True) for layer in causal]
    assert (attention_rollout(causal)[:, ~allowed] == 0).all()


def test_a_row_without_weight_passes_on_itself() -> None:
    closed = layers(1, 1, 3, 3)[0]
    closed[0, 2] = 0
    expected = torch.tensor([0, 0, 1]).double()
    torch.testing.assert_close(attention_rollout([closed])[0, 2], expected)


def test_relevance_is_the_slow_accumulation() -> None:
    attention, slopes = layers(3, 2, 4, 5, 5), layers(3, 2, 4, 5, 5, seed=1)
    slopes = [slope - 0.2 for slope in slopes]
    expected = torch.eye(5).double().repeat(2, 1, 1)
    for layer, slope in zip(attention, slopes, strict=True):
        for b in range(2):
            added = torch.zeros(5, 5).double()
            for h in range(4):
                added += torch.relu(layer[b, h] * slope[b, h]) / 4
            expected[b] = expected[b] + added @ expected[b]
    found = attention_relevance(attention, slopes)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    rows = layers(1, 2, 3, 5)[0]
    torch.testing.assert_close(attention_relevance(attention, slopes, rows=rows), rows @ found)


def test_relevance_without_positive_gradients_is_the_identity() -> None:
    attention = layers(3, 2, 4, 5, 5)
    found = attention_relevance(attention, [-layer for layer in attention])
    assert torch.equal(found, torch.eye(5).double().expand(2, 5, 5))


def test_value_norms_are_those_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(2, 3, 4, 5, generator=generator).double()
    values = torch.randn(2, 3, 5, 6, generator=generator).double()
    found = value_norms(attention, values)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)).tolist():
        moved = sum(attention[b, h, i, j] * values[b, h, j] for h in range(3))
        assert found[b, i, j] == pytest.approx(float(moved.norm()), abs=1e-12)
    one = value_norms(attention[:, :1], values[:, :1])
    torch.testing.assert_close(one, attention[:, 0] * values[:, 0].norm(dim=-1)[:, None])


def test_bad_arguments() -> None:
    square = layers(1, 2, 4, 4)[0]
    with pytest.raises(ValueError, match="attention must hold at least one layer; got none"):
        attention_rollout([])
    with pytest.raises(ValueError, match=r"must have shape \(B, L, L\).*in layer 1, \(2, 4, 3\)"):
        attention_rollout([square, square[:, :, :3]])
    with pytest.raises(ValueError, match=r"rows must have shape \(B, Q, L\) with B = 2 and L = 4"):
        attention_rollout([square], rows=square[:1])
    with pytest.raises(TypeError, match=r"attention\[0\] must be floating point"):
        attention_rollout([square.long()])
    with pytest.raises(ValueError, match=r"attention\[1\] must have the dtype of attention\[0\]"):
        attention_rollout([square, square.float()])
    with pytest.raises(ValueError, match=r"rows must have the dtype of attention; got torch.float"):
        attention_relevance([square], [square], rows=square.float())
    with pytest.raises(ValueError, match=r"gradients\[0\] must have the dtype of attention\[0\]"):
        attention_relevance([square], [square.float()])
    with pytest.raises(ValueError, match="gradients must have the shapes of attention"):
        attention_relevance([square], [square[:1]])
    with pytest.raises(ValueError, match=r"values must have shape \(B, H, L, E\)"):
        value_norms(square[:, None], square[:, None, :3])
