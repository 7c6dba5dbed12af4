"""Best and worst orders of taking positions away: longest paths in the lattice of subsets.

An order is a chain of subsets, each with one position more. What is summed is
a value of each subset, so the best order is a longest path, found in
2^T T steps where there are T! orders.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 16  # positions; 2^16 subsets


def subset_marks(length: int, device: torch.device | None = None) -> Tensor:
    """Which of ``length`` elements each subset holds, ``(2 ** length, length)`` bool.

    Subset number s holds element i where bit i of s is set.

    Examples:
        >>> subset_marks(2).long().tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    numbers = torch.arange(1 << length, device=device)
    return (numbers[:, None] >> torch.arange(length, device=device)) & 1 == 1


def chain_bounds(values: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest sum of values over a chain of subsets, without its two ends.

    A chain begins with the empty set and adds one element at a time; the sum
    is over the sets of 1 to T - 1 elements. The ends belong to every chain.

    Args:
        values: Values ``(..., 2 ** T)`` of all subsets, numbered as in
            :func:`subset_marks`; those of the ends are not looked at.

    Returns:
        The least and the largest sum, each ``(...)``; 0 where T is 1, nan
        where a value of a set between the ends is.

    Examples:
        >>> chain_bounds(torch.tensor([0.0, 3.0, 5.0, 0.0]))
        (tensor(3.), tensor(5.))
    """
    count = values.shape[-1]
    length = count.bit_length() - 1
    sizes = subset_marks(length, values.device).sum(-1)
    low, high = torch.zeros_like(values), torch.zeros_like(values)
    bits = 1 << torch.arange(length, device=values.device)
    for size in range(1, length + 1):
        numbers = (sizes == size).nonzero()[:, 0]
        holds = (numbers[:, None] & bits) != 0
        # The sets with one element less, `size` of them.
        before = (numbers[:, None] ^ bits)[holds].view(len(numbers), size)
        own = values[..., numbers] if size < length else 0
        low[..., numbers] = low[..., before].amin(-1) + own
        high[..., numbers] = high[..., before].amax(-1) + own
    return low[..., -1], high[..., -1]
