"""Random draws that are a function of (seed, instance, draw, position).

No stream, no generator state: a counter is hashed (SplitMix64), so that a
draw does not depend on batch size, padding, chunks, processes or device.
"""

from __future__ import annotations

import secrets

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faithattn._checks import require_count, require_device, require_floating, require_mask
from faithattn._memory import chunk_size
from faithattn.measures.divergence import check_rows

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit number
POSITION_BITS = 22  # low bits of a sort key, left free for the column
_MASKED_BIT = 1 << 62  # above every key: masked columns sort last, in order
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # odd, from SplitMix64
_KEY_BITS = (_MASKED_BIT - 1) >> POSITION_BITS << POSITION_BITS


def permute_attention(
    attention: Tensor,
    *,
    mask: Tensor,
    n_permutations: int,
    seed: int | None,
    instances: Tensor | None = None,
) -> Tensor:
    """Shuffles attention rows over their real positions.

    Every permutation of the positions where ``mask`` is True is equally
    likely; weights elsewhere stay where they are. The draws are a function of
    (seed, instance, draw, position): the same instance gets the same shuffles
    in any batch, with any padding, on any device.

    Args:
        attention: Attention rows, shape ``(B, L)``, floating point.
        mask: True at the positions to shuffle, shape ``(B, L)``, bool.
        n_permutations: Number P of shuffles of each row, at least 1.
        seed: Any whole number; None draws a fresh one.
        instances: Ids of the rows, shape ``(B,)``, int64; default ``arange(B)``.

    Returns:
        Shuffled rows, shape ``(B, P, L)``, dtype of ``attention``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes or devices differ, or a row is no distribution.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.1;
        Steele et al. (2014), "Fast splittable pseudorandom number generators".

    Examples:
        >>> import torch
        >>> row = torch.tensor([[0.7, 0.2, 0.1, 0.0]])
        >>> real = torch.tensor([[True, True, True, False]])
        >>> permute_attention(row, mask=real, n_permutations=3, seed=0)
        tensor([[[0.1000, 0.7000, 0.2000, 0.0000],
                 [0.7000, 0.1000, 0.2000, 0.0000],
                 [0.1000, 0.2000, 0.7000, 0.0000]]])
    """
    rows = _check_attention(attention)
    valid = require_mask(mask, "attention", rows)
    count = require_count("n_permutations", n_permutations)
    ids = instance_ids(instances, rows)
    seed = fresh_seed(seed)
    step = chunk_size(rows.numel(), bytes_per_element=40)
    chunks = [
        shuffle_rows(rows[:, None], valid[:, None], sort_keys(seed, ids, first, last, valid))
        for first, last in spans(count, step)
    ]
    return torch.cat(chunks, 1)[:, :, 0]


def spans(count: int, step: int) -> list[tuple[int, int]]:
    """Cuts ``range(count)`` into [first, last) pieces of at most ``step``."""
    return [(first, min(first + step, count)) for first in range(0, count, step)]


def fresh_seed(seed: int | None) -> int:
    """Returns the seed, or a new one from the operating system."""
    if seed is None:
        return secrets.randbits(31)
    return require_count("seed", seed, least=-(2**63))


def instance_ids(instances: Tensor | None, like: Tensor) -> Tensor:
    """Returns int64 ids (B,) of the rows of ``like``."""
    size = like.shape[0]
    if instances is None:
        return torch.arange(size, device=like.device)
    if not isinstance(instances, Tensor) or instances.dtype != torch.int64:
        got = getattr(instances, "dtype", type(instances).__name__)
        raise TypeError(f"instances must be an int64 tensor; got {got}. Use torch.arange.")
    if instances.shape != (size,):
        raise ValueError(
            f"instances must have one id per row, shape ({size},); got {tuple(instances.shape)}. "
            "Pass the running numbers of the rows."
        )
    require_device("instances", instances, "attention", like)
    return instances


def sort_keys(seed: int, ids: Tensor, first: int, last: int, valid: Tensor) -> Tensor:
    """Sort keys (B, last - first, L) of draws first..last.

    A position is counted among the valid ones, so padding on either side
    leaves its key alone.
    """
    rank = (valid.long().cumsum(-1) - 1).clamp_min(0)
    draws = torch.arange(first, last, device=ids.device)
    return _hash(seed, ids, draws, rank).bitwise_and_(_KEY_BITS)


def shuffle_rows(rows: Tensor, valid: Tensor, keys: Tensor) -> Tensor:
    """Reorders rows (B, R, L) by keys (B, P, L) within valid (B, R, L): (B, P, R, L).

    The low bits of a key take its column, which makes ties impossible; sorting
    such keys, values alone, is several times faster than an argsort.
    """
    columns = torch.arange(rows.shape[-1], device=rows.device)
    low = torch.where(valid, columns, columns | _MASKED_BIT)
    order = sort_last(keys[:, :, None] | low[:, None]).bitwise_and_((1 << POSITION_BITS) - 1)
    shuffled = rows[:, None].expand(order.shape).gather(-1, order)
    slots = valid.logical_not().byte().argsort(dim=-1, stable=True)
    if torch.equal(slots, columns.expand_as(slots)):
        return shuffled
    return torch.empty_like(shuffled).scatter_(-1, slots[:, None].expand(order.shape), shuffled)


def normal_noise(seed: int, ids: Tensor, draws: int, valid: Tensor) -> Tensor:
    """Standard normal numbers (draws, B, L) in float64."""
    return noise_of(seed, ids, torch.arange(draws, device=ids.device), valid)


def noise_of(seed: int, ids: Tensor, draws: Tensor, valid: Tensor) -> Tensor:
    """The same of some draws, by their numbers."""
    noise: Tensor = torch.special.ndtri(_uniform(seed ^ 0x6E6F726D616C, ids, draws, valid))
    return noise


def element_shares(seed: int, ids: Tensor, draws: Tensor, valid: Tensor, width: int) -> Tensor:
    """Uniform numbers in (0, 1) of each element, ``(n, L, width)`` in float64.

    A function of (seed, instance, draw, position, element).

    Args:
        seed: Any whole number.
        ids: Id ``(n,)`` of each row.
        draws: Number ``(n,)`` of its draw.
        valid: ``(n, L)`` bool; positions count among these.
        width: Elements of a position.
    """
    rank = (valid.long().cumsum(-1) - 1).clamp_min(0)
    base = _mix(torch.full_like(ids, _signed((seed ^ 0x656C656D) * _GOLDEN)))
    base = _mix(base + ids * _GOLDEN)
    base = _mix(base + (draws + 1) * _GOLDEN)
    base = _mix(base[:, None] + (rank + 1) * _GOLDEN)
    elements = torch.arange(1, width + 1, device=ids.device) * _GOLDEN
    bits = _mix(base[..., None] + elements)
    return _fractions(bits)


def uniform_noise(seed: int, ids: Tensor, draws: int, valid: Tensor) -> Tensor:
    """Uniform numbers between 0 and 1, both left out, (draws, B, L) in float64."""
    numbers = torch.arange(draws, device=ids.device)
    return _uniform(seed ^ 0x756E69666F726D, ids, numbers, valid)


def _uniform(seed: int, ids: Tensor, draws: Tensor, valid: Tensor) -> Tensor:
    """Uniform numbers (draws, B, L) of some draws, by their numbers."""
    rank = (valid.long().cumsum(-1) - 1).clamp_min(0)
    bits = _hash(seed, ids, draws, rank)
    return _fractions(bits).transpose(0, 1)


def _fractions(bits: Tensor) -> Tensor:
    """Hashed bits as numbers between 0 and 1, both left out."""
    return ((bits >> 12) & ((1 << 52) - 1)).double().add_(0.5).mul_(2.0**-52)


def _hash(seed: int, ids: Tensor, draws: Tensor, rank: Tensor) -> Tensor:
    """Hashes (seed, instance, draw, position) to 64 bits, shape (B, draws, L)."""
    base = _mix(torch.full_like(ids, _signed(seed * _GOLDEN)))
    base = _mix(base + ids * _GOLDEN)
    base = _mix(base[:, None] + (draws + 1) * _GOLDEN)
    return _mix(base[:, :, None] + (rank[:, None] + 1) * _GOLDEN)


def _mix(bits: Tensor) -> Tensor:
    """The SplitMix64 finaliser, in place; where shifts are arithmetic, masks make them logical."""
    if bits.is_cpu:
        _mix_array(bits.numpy().view(np.uint64))
        return bits
    bits = bits.bitwise_xor_((bits >> 30).bitwise_and_((1 << 34) - 1)).mul_(_FIRST)
    bits = bits.bitwise_xor_((bits >> 27).bitwise_and_((1 << 37) - 1)).mul_(_SECOND)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_((1 << 33) - 1))


def _mix_array(bits: NDArray[np.uint64]) -> None:
    """The same of unsigned numbers, which only NumPy shifts: a third less time on a CPU."""
    shifted = np.empty_like(bits)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1)):
        np.right_shift(bits, np.uint64(shift), out=shifted)
        np.bitwise_xor(bits, shifted, out=bits)
        if factor != 1:
            np.multiply(bits, np.uint64(factor % 2**64), out=bits)


def _signed(value: int) -> int:
    """Wraps a Python integer to a signed 64-bit number."""
    return (value + 2**63) % 2**64 - 2**63


def sort_last(values: Tensor) -> Tensor:
    """Sorts the last dimension, in place on a CPU, where NumPy's sort is the fastest."""
    if values.is_cpu:
        array = values.numpy()
        array.sort(axis=-1)
        return values
    return values.sort(dim=-1).values


def _check_attention(attention: object) -> Tensor:
    """Requires attention rows (B, L) that are distributions."""
    rows = require_floating("attention", attention)
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(
            "attention must have shape (batch, positions), neither empty; got "
            f"{tuple(rows.shape)}. Add or choose dimensions."
        )
    if rows.shape[1] > 1 << POSITION_BITS:
        raise ValueError(
            f"attention must have at most {1 << POSITION_BITS} positions; got {rows.shape[1]}. "
            "Split the document."
        )
    check_rows("attention", rows.detach(), rows.dtype)
    return rows
