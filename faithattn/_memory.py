"""The chunk budget: how much memory one step of any computation may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MEGABYTES: ContextVar[float] = ContextVar("faithattn_memory_budget", default=256.0)


@contextmanager
def memory_budget(megabytes: float) -> Iterator[None]:
    """Bounds the working memory of every faithattn function called inside.

    Work over many alternatives (permutations, adversaries, shortened
    sequences) is cut into chunks whose temporary tensors stay near the budget,
    whatever the batch, the length and the number of alternatives. Values do
    not depend on it beyond float tolerance. The default is 256 MB; results
    themselves, and what the model needs for one forward pass, come on top. The
    setting belongs to the current thread or task.

    Args:
        megabytes: Working memory in units of 2**20 bytes, positive.

    Raises:
        ValueError: If ``megabytes`` is not positive.

    Examples:
        >>> import torch
        >>> from faithattn import permute_attention
        >>> row = torch.full((1, 3), 1 / 3)
        >>> with memory_budget(16):
        ...     permute_attention(row, mask=row > 0, n_permutations=2, seed=0).shape
        torch.Size([1, 2, 3])
    """
    if not isinstance(megabytes, int | float):
        raise TypeError(f"megabytes must be a number; got {megabytes!r}. Pass a float.")
    if not megabytes > 0:
        raise ValueError(
            f"megabytes must be positive; got {megabytes}. Leave the context out for the default."
        )
    token = _MEGABYTES.set(float(megabytes))
    try:
        yield
    finally:
        _MEGABYTES.reset(token)


def chunk_size(elements_per_item: int, *, bytes_per_element: int = 4) -> int:
    """Returns how many items of ``elements_per_item`` fit the budget, at least one."""
    size = max(1, elements_per_item) * bytes_per_element
    budget = min(_MEGABYTES.get() * 2**20, 2.0**60)  # an infinite budget is one, too
    return max(1, int(budget) // size)
