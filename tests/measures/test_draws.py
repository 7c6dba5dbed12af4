"""Shuffles: fair, exact copies of the weights, a function of (seed, instance, draw, position)."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import planted
import pytest
import torch
from scipy import stats
from torch import Tensor

from faithattn import memory_budget, permute_attention
from faithattn.measures.draws import normal_noise

REAL = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [False, True, False, True, True, False]])


def shuffled(
    mask: Tensor = REAL, *, count: int = 40, seed: int | None = 0, **options: Tensor
) -> Tensor:
    return permute_attention(weights(mask), mask=mask, n_permutations=count, seed=seed, **options)


def weights(mask: Tensor) -> Tensor:
    row = torch.arange(1, mask.shape[1] + 1, dtype=torch.float64) * mask
    return row / row.sum(-1, keepdim=True).clamp_min(1)


def test_every_shuffle_is_an_exact_rearrangement() -> None:
    original, result = weights(REAL), shuffled()
    assert result.shape == (3, 40, 6) and result.dtype == torch.float64
    for row, mask, draws in zip(original, REAL, result, strict=True):
        expected = row[mask].sort().values.expand(40, -1)
        assert torch.equal(draws[:, mask].sort(-1).values, expected)
        assert torch.equal(draws[:, ~mask], row[~mask].expand(40, -1))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_order_is_equally_likely(length: int) -> None:
    mask = torch.ones(4, length, dtype=torch.bool)
    draws = shuffled(mask, count=3000).flatten(0, 1)
    counts = Counter(tuple(row) for row in draws.argsort(-1).tolist())
    observed = [counts[order] for order in itertools.permutations(range(length))]
    assert sum(observed) == 12_000
    assert stats.chisquare(observed).pvalue > 1e-3


def test_every_position_is_equally_likely_in_long_rows() -> None:
    mask = torch.ones(1, 50, dtype=torch.bool)
    order = shuffled(mask, count=4000)[0].argsort(-1)
    for position in (0, 1, 25, 49):
        observed = torch.bincount(order[:, position], minlength=50)
        assert stats.chisquare(observed.numpy()).pvalue > 1e-3


def test_draws_of_seeds_instances_and_indices_are_independent() -> None:
    mask = torch.ones(200, 8, dtype=torch.bool)
    by_seed = torch.stack([shuffled(mask, count=20, seed=seed) for seed in (0, 1, -1)])
    flat = by_seed.flatten(0, 2).argsort(-1)
    assert len({tuple(row) for row in flat.tolist()}) > 0.8 * 8 * 7 * 6 * 5 * 4 * 3 * 2 * 0.25
    top = flat[:, 0].view(3, 200, 20).double()
    for pair in ((top[0], top[1]), (top[0], top[2]), (top[:, 1:], top[:, :-1])):
        x, y = (value.flatten().numpy() for value in pair)
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / len(x) ** 0.5
    x, y = top[..., 1:].flatten().numpy(), top[..., :-1].flatten().numpy()
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / len(x) ** 0.5


def test_one_seed_gives_one_answer() -> None:
    assert torch.equal(shuffled(seed=7), shuffled(seed=7))
    assert not torch.equal(shuffled(seed=7), shuffled(seed=8))
    assert not torch.equal(shuffled(seed=None), shuffled(seed=None))
    assert torch.equal(shuffled(seed=2**62), shuffled(seed=2**62))


def test_more_permutations_begin_with_the_same() -> None:
    assert torch.equal(shuffled(count=40)[:, :7], shuffled(count=7))


def test_padding_on_either_side_changes_nothing() -> None:
    expected = shuffled()
    for left, right in ((0, 3), (3, 0), (2, 5)):
        mask = torch.nn.functional.pad(REAL, (left, right))
        row = torch.nn.functional.pad(weights(REAL), (left, right))
        wide = permute_attention(row, mask=mask, n_permutations=40, seed=0)
        assert torch.equal(wide[..., left : left + 6], expected)


def test_instances_carry_their_draws_between_batches() -> None:
    everything = shuffled(instances=torch.tensor([10, 20, 30]))
    assert torch.equal(shuffled(REAL[1:], instances=torch.tensor([20, 30])), everything[1:])
    order = torch.tensor([2, 0, 1])
    moved = shuffled(REAL[order], instances=torch.tensor([30, 10, 20]))
    assert torch.equal(moved, everything[order])
    assert torch.equal(shuffled(instances=torch.arange(3)), shuffled())
    assert not torch.equal(everything, shuffled())


def test_chunks_change_nothing() -> None:
    expected = shuffled(count=100)
    with memory_budget(1e-4):
        assert torch.equal(shuffled(count=100), expected)


def test_dtype_decides_the_values_but_not_the_order() -> None:
    row, mask = planted.rows(2, 5), torch.ones(2, 5, dtype=torch.bool)
    wide = permute_attention(row, mask=mask, n_permutations=9, seed=0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        narrow = permute_attention(row.to(dtype), mask=mask, n_permutations=9, seed=0)
        assert narrow.dtype == dtype
        assert torch.equal(narrow, wide.to(dtype))


def test_nothing_global_is_touched() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    shuffled(seed=None)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_noise_is_standard_normal() -> None:
    mask = torch.ones(50, 20, dtype=torch.bool)
    noise = normal_noise(0, torch.arange(50), 30, mask)
    assert noise.shape == (30, 50, 20) and noise.dtype == torch.float64
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert len(noise.unique()) == noise.numel()


def test_noise_of_shuffles_and_adversaries_is_unrelated() -> None:
    mask = torch.ones(400, 9, dtype=torch.bool)
    noise = normal_noise(0, torch.arange(400), 1, mask)[0]
    row = torch.arange(9.0, dtype=torch.float64).expand(400, 9) / 36
    moved = permute_attention(row, mask=mask, n_permutations=1, seed=0)[:, 0]
    correlation = np.corrcoef(noise.flatten().numpy(), moved.flatten().numpy())[0, 1]
    assert abs(correlation) < 4 / 3600**0.5
