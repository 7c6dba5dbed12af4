"""Which way the probability of a class goes when positions go."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from faithattn.adapters.reading import Reading
from faithattn.importance.removal.changes import watched_class
from faithattn.measures.outputs import class_probability, probabilities


@dataclass(frozen=True)
class Fall:
    """How far a probability falls: positive where what was taken away supported the class.

    Attributes:
        reading: The reading whose outputs are the original ones.
        classes: Class ``(B,)`` whose probability is watched.
    """

    reading: Reading
    classes: Tensor

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Falls ``(..., n)`` from the probabilities of the given rows to those of logits."""
        wanted, output = self.classes[rows], self.reading.output
        before = class_probability(self.reading.outputs[rows], wanted, output)
        return before - class_probability(probabilities(logits, output), wanted, output)


def fall_from(reading: Reading, target: int | Tensor | None) -> Fall:
    """Falls from a reading, of the predicted class or of one regression output by default."""
    return Fall(reading, watched_class(reading, target))
