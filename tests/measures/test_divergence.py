"""TVD, KL and JSD against plain loops; range, symmetry, padding, gradients, half precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import oracles
import pytest
import torch
from torch import Tensor

from faithattn import jensen_shannon_divergence, kl_divergence, total_variation_distance

Divergence = Callable[[Tensor, Tensor], Tensor]
ALL = {
    "tvd": (total_variation_distance, oracles.tvd, 1.0),
    "kl": (kl_divergence, oracles.kl, math.inf),
    "jsd": (jensen_shannon_divergence, oracles.jsd, math.log(2)),
}
TABLE = pytest.mark.parametrize(("divergence", "oracle", "highest"), ALL.values(), ids=ALL)
SYMMETRIC = pytest.mark.parametrize(
    "divergence", [total_variation_distance, jensen_shannon_divergence]
)
HALVES = [torch.float16, torch.bfloat16]


def draw(*shape: int, seed: int = 0, zeros: bool = True) -> Tensor:
    """Random distributions, some weights exactly zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) ** 4
    if zeros:
        weights = weights * (torch.rand(shape, generator=generator) < 0.7)
    weights[..., 0] += 0.01
    return weights / weights.sum(-1, keepdim=True)


@TABLE
@pytest.mark.parametrize("length", [1, 2, 3, 17, 400])
def test_agrees_with_a_loop(
    divergence: Divergence, oracle: Callable[..., float], highest: float, length: int
) -> None:
    p, q = draw(3, 4, length), draw(3, 4, length, seed=1)
    expected = [
        oracle(a, b)
        for a, b in zip(p.flatten(0, 1).tolist(), q.flatten(0, 1).tolist(), strict=True)
    ]
    actual = divergence(p, q)
    assert actual.shape == (3, 4) and actual.dtype == torch.float64
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.flatten(), wanted, rtol=1e-12, atol=1e-14)
    assert (actual >= 0).all() and (actual <= highest + 1e-12).all()


@TABLE
def test_single_row_of_one_dimension(
    divergence: Divergence, oracle: Callable[..., float], highest: float
) -> None:
    p, q = draw(6), draw(6, seed=1, zeros=False)
    assert divergence(p, q).shape == ()
    assert float(divergence(p, q)) == pytest.approx(oracle(p.tolist(), q.tolist()), abs=1e-14)


@TABLE
def test_identity_is_zero(divergence: Divergence, oracle: object, highest: float) -> None:
    p = draw(50, 30)
    assert (divergence(p, p) == 0).all()
    close = (p + 1e-9 * draw(50, 30, zeros=False)) / (1 + 1e-9)
    assert (divergence(p, close) >= 0).all()


@SYMMETRIC
def test_symmetry(divergence: Divergence) -> None:
    p, q = draw(9, 12), draw(9, 12, seed=1)
    torch.testing.assert_close(divergence(p, q), divergence(q, p), rtol=1e-13, atol=0)


@TABLE
def test_order_of_positions_does_not_matter(
    divergence: Divergence, oracle: object, highest: float
) -> None:
    p, q = draw(9, 12), draw(9, 12, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(divergence(p[:, order], q[:, order]), divergence(p, q))


@TABLE
def test_padding_changes_neither_value_nor_gradient(
    divergence: Divergence, oracle: object, highest: float
) -> None:
    def value_and_slopes(p: Tensor, q: Tensor) -> list[Tensor]:
        p, q = p.clone().requires_grad_(), q.clone().requires_grad_()
        value = divergence(p, q)
        return [value.detach(), *torch.autograd.grad(value.sum(), (p, q))]

    p, q = draw(5, 8, zeros=False), draw(5, 8, seed=1, zeros=False)
    value, *slopes = value_and_slopes(p, q)
    padding = torch.zeros(5, 3, dtype=torch.float64)
    padded, *padded_slopes = value_and_slopes(
        torch.cat([p, padding], -1), torch.cat([q, padding], -1)
    )
    torch.testing.assert_close(padded, value)
    for slope, wide in zip(slopes, padded_slopes, strict=True):
        torch.testing.assert_close(wide[:, :8], slope)
        assert (wide[:, 8:] == 0).all()


@TABLE
def test_rows_of_padding_only_are_zero_with_zero_gradient(
    divergence: Divergence, oracle: object, highest: float
) -> None:
    p = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    q = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    value = divergence(p, q)
    assert (value == 0).all()
    for slope in torch.autograd.grad(value.sum(), (p, q)):
        assert (slope == 0).all()


@TABLE
def test_gradients_agree_with_finite_differences(
    divergence: Divergence, oracle: object, highest: float
) -> None:
    padding = torch.zeros(3, 2, dtype=torch.float64)

    def of_logits(x: Tensor, y: Tensor) -> Tensor:
        rows = [torch.cat([value.softmax(-1), padding], -1) for value in (x, y)]
        return divergence(rows[0], rows[1])

    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(of_logits, (x, y))


@TABLE
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
def test_lower_precision_is_computed_safely(
    divergence: Divergence, oracle: Callable[..., float], highest: float, dtype: torch.dtype
) -> None:
    # Half of each row is uniform: half precision would otherwise round small weights to zero.
    p, q = ((draw(20, 50, seed=seed) / 2 + 0.01).to(dtype) for seed in (0, 1))
    actual = divergence(p, q)
    assert actual.dtype == dtype and actual.isfinite().all()
    expected = divergence(*((v.double() / v.double().sum(-1, keepdim=True)) for v in (p, q)))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
    assert (divergence(p, p) == 0).all()


@pytest.mark.parametrize(
    ("dtype", "smallest"),
    [
        (torch.float16, 2.0**-24),
        (torch.bfloat16, 2.0**-133),
        (torch.float32, 2.0**-149),
        (torch.float64, 5e-324),
    ],
    ids=str,
)
def test_the_smallest_number_of_a_type_is_harmless(dtype: torch.dtype, smallest: float) -> None:
    # Half of it rounds to zero, so the average of p and q may vanish where p does not.
    p = torch.tensor([1.0, smallest, 0.0], dtype=torch.float64).to(dtype).requires_grad_()
    q = torch.tensor([1.0, 0.0, 0.0], dtype=dtype)
    assert p[1] > 0
    value = jensen_shannon_divergence(p, q)
    assert value.isfinite() and 0 <= value <= 1e-6
    (slope,) = torch.autograd.grad(value, p)
    assert not slope.isnan().any()


def test_kl_is_finite_where_mass_is_tiny() -> None:
    for dtype, tiny in ((torch.float32, 1e-40), (torch.float64, 1e-310)):
        p, q = torch.tensor([1.0, 0.0], dtype=dtype), torch.tensor([tiny, 1.0], dtype=torch.float64)
        value = kl_divergence(p, q.to(dtype))
        assert float(value) == pytest.approx(-math.log(tiny), rel=1e-4)


def test_kl_is_infinite_where_mass_is_missing() -> None:
    p, q = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    value = kl_divergence(p, q)
    assert value[0] == math.inf
    assert float(value[1]) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, 0.215762), (3, 0.318257), (5, 0.422810), (10, 0.525597), (20, 0.592639)],
)
def test_one_hot_against_uniform(length: int, expected: float) -> None:
    uniform = torch.full((length, length), 1 / length, dtype=torch.float64)
    onehot = torch.eye(length, dtype=torch.float64)
    value = jensen_shannon_divergence(onehot, uniform)
    torch.testing.assert_close(value, torch.full_like(value, expected), atol=5e-7, rtol=0)


def test_disjoint_rows_are_ln_2_apart() -> None:
    p, q = torch.tensor([[0.3, 0.7, 0, 0]]), torch.tensor([[0, 0, 0.6, 0.4]])
    assert float(jensen_shannon_divergence(p, q)) == pytest.approx(math.log(2), abs=1e-7)
    assert float(total_variation_distance(p, q)) == pytest.approx(1)


def test_inputs_are_left_alone() -> None:
    p, q = draw(4, 6), draw(4, 6, seed=1)
    copies = p.clone(), q.clone()
    for divergence, *_ in ALL.values():
        divergence(p, q)
    assert torch.equal(p, copies[0]) and torch.equal(q, copies[1])


@TABLE
def test_empty_batches_give_empty_results(
    divergence: Divergence, oracle: object, highest: float
) -> None:
    assert divergence(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
