"""Effective attention against SciPy's null space, and what it must keep."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn import effective_attention, memory_budget
from tests.benchmarks.peak import peak_of


def case(*shape: int, width: int, rank: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (..., Q, L) and values (..., L, D) of a rank."""
    generator = torch.Generator().manual_seed(seed)
    length, lead = shape[-1], shape[:-2]
    rows = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(-1)
    left = torch.randn(*lead, length, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(*lead, rank, width, generator=generator, dtype=torch.float64)
    return rows, left @ right


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 9), width=st.integers(1, 12), rank=st.integers(1, 9), seed=st.integers(0)
)
def test_what_it_promises(length: int, width: int, rank: int, seed: int) -> None:
    rank = min(rank, length, width)
    rows, values = case(2, 3, length, width=width, rank=rank, seed=seed % 1000)
    found, null = effective_attention(rows, values)
    torch.testing.assert_close(found @ values, rows @ values, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(null, torch.full((2, 3), length - rank))
    assert (null >= length - width).all()
    for b in range(2):
        basis = torch.from_numpy(scipy.linalg.null_space(values[b].numpy().T, rcond=1e-10))
        expected = rows[b] - rows[b] @ basis @ basis.T
        torch.testing.assert_close(found[b], expected, atol=1e-9, rtol=0)
    again = effective_attention(found, values).attention
    torch.testing.assert_close(again, found, atol=1e-9, rtol=0)


def test_the_rank_is_numpys() -> None:
    rows, values = case(1, 1, 6, width=4, rank=2)
    noisy = values + 1e-9 * torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    for each in (values, noisy, noisy.float()):
        rank = np.linalg.matrix_rank(each[0].numpy())
        found = effective_attention(rows.to(each.dtype), each)
        assert int(found.null_dimension) == 6 - rank
        assert found.attention.dtype == each.dtype


def test_keys_outside_the_mask_take_no_part() -> None:
    rows, values = case(2, 3, 7, width=3, rank=3)
    mask = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(0)) < 0.7
    found, null = effective_attention(rows, values, mask=mask)
    assert (found[~mask] == 0).all()
    for b in range(2):
        for q in range(3):
            kept = mask[b, q]
            alone = effective_attention(rows[b, q : q + 1, kept], values[b, kept])
            torch.testing.assert_close(found[b, q, kept], alone.attention[0])
            assert null[b, q] == alone.null_dimension[0]
    shared = effective_attention(rows, values, mask=mask[:, 0])
    each = effective_attention(rows, values, mask=mask[:, :1].expand(-1, 3, -1))
    torch.testing.assert_close(shared, each)


def test_chunks_do_not_matter() -> None:
    rows, values = case(6, 3, 7, width=3, rank=3)
    whole = effective_attention(rows, values)
    with memory_budget(0.001):
        torch.testing.assert_close(effective_attention(rows, values), whole)


@pytest.mark.parametrize("causal", [False, True])
def test_many_queries_take_little_beyond_themselves(causal: bool) -> None:
    """Rows that see the same keys share a basis, the others are looked at a few at a time."""
    size, length = (8, 400) if not causal else (1, 400)
    rows, values = case(size, length, length, width=48, rank=48)
    mask = torch.ones(size, length, length, dtype=torch.bool).tril() if causal else None

    def project() -> None:
        with memory_budget(4):
            effective_attention(rows, values, mask=mask)

    effective_attention(rows[:, :2], values)
    peak = peak_of(project)
    if peak is None:
        pytest.skip("this system does not tell the peak")
    assert peak <= 4 * rows.nbytes / 2**20 + 40


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [8, 300])
def test_values_rounded_to_half_precision_keep_their_rank(dtype: torch.dtype, width: int) -> None:
    rows, values = case(2, 3, 30, width=width, rank=5)
    exact, null = effective_attention(rows, values)
    found, counted = effective_attention(rows.to(dtype), values.to(dtype))
    assert torch.equal(counted, null) and (null == 25).all()
    torch.testing.assert_close(found.double(), exact, atol=2 * torch.finfo(dtype).eps, rtol=0)
    assert (exact - rows).abs().max() > 0.05


def test_bad_arguments() -> None:
    rows, values = case(2, 3, 7, width=3, rank=3)
    with pytest.raises(ValueError, match=r"values must have shape \(\.\.\., L, D\)"):
        effective_attention(rows, values[:, :6])
    with pytest.raises(TypeError, match="mask must be boolean"):
        effective_attention(rows, values, mask=rows)
    with pytest.raises(ValueError, match="mask must have the shape of attention"):
        effective_attention(rows, values, mask=rows[:, :, :5] > 0)
