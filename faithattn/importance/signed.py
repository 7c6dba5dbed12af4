"""Which way the probability of a class goes when positions go."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from faithattn.adapters.reading import Reading, resolve_target
from faithattn.measures.outputs import class_probability


@dataclass(frozen=True)
class Fall:
    """How far a probability falls: positive where what was taken away supported the class.

    Attributes:
        reading: The reading whose outputs are the original ones.
        classes: Class ``(B,)`` whose probability is watched.
    """

    reading: Reading
    classes: Tensor

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Falls ``(..., n)`` from the probabilities of the given rows to those of outputs."""
        wanted, output = self.classes[rows], self.reading.output
        before = class_probability(self.reading.outputs[rows], wanted, output)
        return before - class_probability(outputs, wanted, output)


def fall_from(reading: Reading, target: int | Tensor | None) -> Fall:
    """Falls from a reading, of the predicted class or of one regression output by default."""
    if target is not None:
        return Fall(reading, resolve_target(target, reading))
    if reading.outputs.shape[-1] == 1 and reading.output == "identity":
        return Fall(reading, reading.predicted.new_zeros(reading.predicted.shape))
    if (reading.predicted < 0).any():
        raise ValueError(
            f"target must name an output where none is the prediction; got None for "
            f"{reading.outputs.shape[-1]} outputs of kind {reading.output!r}. Pass its number."
        )
    return Fall(reading, reading.predicted)
