"""The search in closed form against a slow loop with autograd, one instance at a time."""

from __future__ import annotations

from collections.abc import Callable

import oracles
import planted
import pytest
import torch
from torch import Tensor

from faithattn.measures.adversary.published import (
    OutputChange,
    divergence_slope,
    search_adversaries,
)

LENGTHS = (5, 3, 8, 1)
STEPS, EPSILON = 50, 0.02


def batch(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows (B, 1, L) with padding, what is valid, noise (B, K, 1, L) and weights (B, L, 3)."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    logits = planted.rows(len(LENGTHS), max(LENGTHS)).log().masked_fill(~valid, -torch.inf)
    noise = torch.randn(len(LENGTHS), count, 1, max(LENGTHS), generator=generator).double()
    values = torch.randn(len(LENGTHS), max(LENGTHS), 3, generator=generator).double()
    return logits.softmax(-1)[:, None], valid[:, None], noise, values


def decoder(values: Tensor, output: str) -> Callable[[Tensor], Tensor]:
    """Rows (..., T) to outputs; a tanh inside, so that nothing is linear."""
    width = 1 if output == "sigmoid" else 3

    def decode(rows: Tensor) -> Tensor:
        logits = (2 * (rows[..., None] * values).sum(-2)).tanh()[..., :width] * 3
        return logits.sigmoid() if output == "sigmoid" else logits.softmax(-1)

    return decode


def output_change(original: Tensor, values: Tensor, output: str) -> OutputChange:
    def change(rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = rows.detach().requires_grad_()
            decode = decoder(values[:, None], output)
            before = decode(original.detach())
            difference = (decode(leaf[:, :, 0]) - before).abs()
            tvd = difference.sum(-1) / (2 if output == "softmax" else 1)
            (slope,) = torch.autograd.grad(tvd.sum(), leaf)
        return tvd.detach(), slope

    return change


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_follows_the_slow_loop(count: int, output: str) -> None:
    original, valid, noise, values = batch(count)
    found = search_adversaries(
        original, valid, noise, output_change(original, values, output),
        epsilon=EPSILON, n_steps=STEPS,
    )  # fmt: skip
    assert found.shape == (len(LENGTHS), count, 1, max(LENGTHS))
    assert (found.masked_select(~valid[:, None].expand_as(found)) == 0).all()
    for row, length in enumerate(LENGTHS):
        expected = oracles.search(
            original[row, 0, :length], noise[row, :, 0, :length],
            decoder(values[row, :length], output), output, epsilon=EPSILON, n_steps=STEPS,
        )  # fmt: skip
        torch.testing.assert_close(found[row, :, 0, :length], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_slope_is_the_gradient_of_the_formula(count: int, lanes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    original = torch.rand(2, 1, lanes, 6, generator=generator).double().softmax(-1)
    rows = (2 * torch.randn(2, count, lanes, 6, generator=generator)).double().softmax(-1)
    actual = divergence_slope(rows, rows.log(), original)
    leaf = rows.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        for i in range(count):
            for lane in range(lanes):
                total = (
                    total + oracles.row_divergence(leaf[b, i, lane], original[b, 0, lane]) / lanes
                )
            for j in range(i):
                for lane in range(lanes):
                    pair = oracles.row_divergence(leaf[b, i, lane], leaf[b, j, lane])
                    total = total + pair / lanes / (count * (count - 1))
    (expected,) = torch.autograd.grad(total, leaf)
    # A constant along a row does not get through the softmax.
    actual, expected = (each - each.mean(-1, keepdim=True) for each in (actual, expected))
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-9)


def test_instances_do_not_influence_each_other() -> None:
    original, valid, noise, values = batch(3)
    whole, alone = (
        search_adversaries(
            original[part], valid[part], noise[part],
            output_change(original[part], values[part], "sigmoid"), epsilon=EPSILON, n_steps=30,
        )
        for part in (slice(None), slice(1, 2))
    )  # fmt: skip
    torch.testing.assert_close(whole[1:2], alone)


def test_single_positions_and_zero_weights_stay_finite() -> None:
    original = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    valid = torch.tensor([[[True, False, False]], [[True, True, True]]])
    noise = torch.full((2, 2, 1, 3), 12.0).mul_(torch.tensor([1.0, -1.0, 0.0]))

    def never(rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows.new_zeros(rows.shape[:2]), torch.zeros_like(rows)

    found = search_adversaries(original, valid, noise, never, epsilon=0.01, n_steps=50)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 1))
    assert found[0, :, 0].tolist() == [[1.0, 0.0, 0.0]] * 2


def test_nothing_is_written_into_the_arguments() -> None:
    original, valid, noise, values = batch(2)
    copies = [value.clone() for value in (original, valid, noise)]
    search_adversaries(
        original, valid, noise, output_change(original, values, "sigmoid"),
        epsilon=EPSILON, n_steps=3,
    )  # fmt: skip
    for value, copy in zip((original, valid, noise), copies, strict=True):
        assert torch.equal(value, copy)
