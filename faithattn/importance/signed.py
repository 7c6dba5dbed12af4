"""Which way the probability of a class goes when a position goes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from faithattn.adapters.reading import Reading, resolve_target
from faithattn.importance.removal.naming import InputRemoval
from faithattn.importance.removal.operators import REMOVALS, of_inputs
from faithattn.importance.removal.pairs import Change
from faithattn.measures.outputs import class_probability


@dataclass(frozen=True)
class Fall(Change):
    """How far the watched probability falls: positive where what was taken away supported it."""

    def of(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Falls ``(..., n)`` from the reading's probability to that of outputs ``(..., n, C)``."""
        classes, original = self.classes, self.reading.outputs
        if classes is None:
            raise ValueError("classes must say whose probability falls; got None. Resolve them.")
        if rows is not None:
            classes, original = classes[rows], original[rows]
        output = self.reading.output
        before = class_probability(original, classes, output)
        return before - class_probability(outputs, classes, output)


def signed_leave_one_out(
    reading: Reading, removal: str | InputRemoval, target: int | Tensor | None
) -> Tensor:
    """Signed leave-one-out importance ``(B, L)``: p(x) - p(x without the position).

    Positive where the position supports the class, negative where it speaks
    against it; 0 outside the mask, nan as in leave-one-out importance.
    """
    change = Fall(reading, signed_target(target, reading))
    if isinstance(removal, str):
        importance = REMOVALS[removal](reading, change)
    else:
        importance = of_inputs(reading, change, removal)
    return importance.masked_fill(~reading.rows.mask, 0)


def signed_target(target: int | Tensor | None, reading: Reading) -> Tensor:
    """The classes ``(B,)`` to watch: of one regression output, that output."""
    if target is not None:
        return resolve_target(target, reading)
    if reading.outputs.shape[-1] == 1 and reading.output == "identity":
        return reading.predicted.new_zeros(reading.predicted.shape)
    if (reading.predicted < 0).any():
        raise ValueError(
            f"target must name an output where none is the prediction; got None for "
            f"{reading.outputs.shape[-1]} outputs of kind {reading.output!r}. Pass its number."
        )
    return reading.predicted
