"""How many rows one call of the model may have, by measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.importance.attribution.explained import Explained, Forward

# Past this many rows a forward pass gains nothing; see importance/removal/pairs.py.
_MOST_ROWS = 128


def rows_to_run(explained: Explained) -> int:
    """Rows of a forward pass without gradients, by what the reading's run holds of each."""
    run, size = explained.reading.run, len(explained.counts)
    weights = sum(each.numel() for each in run.attention.values())
    elements = (8 * explained.feature.numel() + 2 * weights + 4 * run.logits.numel()) // size
    fitting = chunk_size(elements, bytes_per_element=explained.feature.element_size())
    return min(_MOST_ROWS, fitting)


def rows_to_differentiate(forward: Forward, values: Tensor) -> int:
    """Rows of a forward pass with gradients, by what one row more makes autograd keep."""
    explained = forward.explained
    before = explained.evaluations.clone()
    one = _kept(forward, values[:1], torch.zeros(1, dtype=torch.long, device=values.device))
    two = _kept(forward, values[[0, 0]], torch.zeros(2, dtype=torch.long, device=values.device))
    explained.evaluations.copy_(before)
    return min(_MOST_ROWS, chunk_size(max(two - one, 1), bytes_per_element=1))


def _kept(forward: Forward, values: Tensor, rows: Tensor) -> int:
    """Bytes that autograd keeps for a backward pass, weights included."""
    held: dict[int, int] = {}

    def count(kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return kept

    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept):
        output = forward(values.detach().clone().requires_grad_(), rows)
    kept = sum(held.values())
    del output  # not before: freed storages would be counted as one
    return kept
