"""Runs over many (row, position) pairs, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.protocol import Run
from faithattn.adapters.reading import Reading, resolve_target
from faithattn.adapters.validate import require_logits
from faithattn.errors import AdapterError
from faithattn.measures.draws import spans
from faithattn.measures.outputs import class_probability, output_distance, probabilities

# Rows per forward pass over changed inputs: past this a recurrent encoder
# gains nothing, and its working set leaves the cache (measured: 64 to 512).
_MOST_ROWS = 128


@dataclass(frozen=True)
class Change:
    """How far outputs are from those of the reading.

    Attributes:
        reading: The reading whose outputs are the original ones.
        classes: Class ``(B,)`` whose probability is watched; None compares outputs.
    """

    reading: Reading
    classes: Tensor | None

    def of(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Distances of outputs ``(..., n, C)`` from those of the given rows (all if None)."""
        reading = self.reading
        original = reading.outputs if rows is None else reading.outputs[rows]
        if self.classes is None:
            return output_distance(outputs, original, reading.output)
        wanted = self.classes if rows is None else self.classes[rows]
        before = class_probability(original, wanted, reading.output)
        return (class_probability(outputs, wanted, reading.output) - before).abs()

    def of_run(self, run: Run, rows: Tensor) -> Tensor:
        """Distances ``(n,)`` of a run on the given rows, changed."""
        require_logits(run.logits)
        expected = (len(rows), self.reading.outputs.shape[-1])
        if run.logits.shape != expected:
            raise AdapterError(
                f"logits after a removal must have shape {expected}, one row for each; "
                f"got {tuple(run.logits.shape)}. Keep the instances apart."
            )
        return self.of(probabilities(run.logits, self.reading.output), rows)


def change_from(reading: Reading, target: int | Tensor | None) -> Change:
    """Distances from a reading, for one class or for the outputs as a whole."""
    return Change(reading, None if target is None else resolve_target(target, reading))


def over_pairs(
    reading: Reading, change: Callable[[Tensor, Tensor], Tensor], wanted: Tensor
) -> Tensor:
    """Fills ``(B, L)`` from changes by rows and positions, all ``(n,)``; shortest rows first."""
    mask = reading.rows.mask
    result = reading.outputs.new_full(mask.shape, torch.nan)
    rows, positions = wanted.nonzero(as_tuple=True)
    order = mask.sum(-1)[rows].argsort(stable=True)
    rows, positions = rows[order], positions[order]
    step = min(_MOST_ROWS, _rows_that_fit(reading))
    for first, last in spans(len(rows), step):
        part, at = rows[first:last], positions[first:last]
        result[part, at] = change(part, at).to(result.dtype)
    return result


def _rows_that_fit(reading: Reading) -> int:
    """Rows of one pass within the budget, by what the reading's own run holds of each."""
    run, size = reading.run, len(reading.outputs)
    features = sum(each.numel() for each in run.features.values()) or reading.rows.mask.numel() * 64
    weights = sum(each.numel() for each in run.attention.values())
    elements = (8 * features + 2 * weights + 4 * run.logits.numel()) // size
    return chunk_size(elements, bytes_per_element=run.logits.element_size())
