"""On how many words attention lies, as near as one number can tell."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_words(attention: Tensor) -> Tensor:
    """How many words an even attention of the same entropy would be on.

    The exponential of the entropy: 1 where all weight is on one word, T where
    it is even over T words.

    Args:
        attention: Weights of 0 or more, shape ``(N, L)``, floating point; rows
            need not sum to 1.

    Returns:
        Numbers in 1..L, shape ``(N,)``, float64 where the device has it; nan
        for a row without weight.

    References:
        Hill (1973), "Diversity and evenness: a unifying notation and its
        consequences".

    Examples:
        >>> effective_words(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 3.0, 0.0, 0.0]]))
        tensor([4., 1.], dtype=torch.float64)
    """
    wide = attention if attention.device.type == "mps" else attention.double()
    total = wide.sum(-1)
    # ln sum(w) - sum(w ln w) / sum(w): no row is copied to normalise it.
    entropy = total.log() - torch.xlogy(wide, wide).sum(-1) / total
    return entropy.exp().masked_fill(total <= 0, torch.nan)
