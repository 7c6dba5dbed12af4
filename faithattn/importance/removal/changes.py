"""How far outputs are from those of a reading."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.adapters.reading import Reading, explained_class, resolve_target
from faithattn.adapters.validate import require_logits
from faithattn.errors import AdapterError
from faithattn.measures.outputs import class_probability, output_distance, probabilities


@dataclass(frozen=True)
class Change:
    """How far outputs are from those of the reading.

    Attributes:
        reading: The reading whose outputs are the original ones.
        classes: Class ``(B,)`` whose probability is watched; None compares outputs.
    """

    reading: Reading
    classes: Tensor | None

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Distances ``(..., n)`` of logits ``(..., n, C)`` from the outputs of the given rows."""
        reading = self.reading
        outputs, original = probabilities(logits, reading.output), reading.outputs[rows]
        if self.classes is None:
            return output_distance(outputs, original, reading.output)
        wanted = self.classes[rows]
        before = class_probability(original, wanted, reading.output)
        return (class_probability(outputs, wanted, reading.output) - before).abs()


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


def change_from(reading: Reading, target: int | Tensor | None) -> Change:
    """Distances from a reading, for one class or for the outputs as a whole."""
    return Change(reading, None if target is None else resolve_target(target, reading))


def fall_from(reading: Reading, target: int | Tensor | None) -> Fall:
    """Falls from a reading; see :func:`explained_class` for the class."""
    return Fall(reading, explained_class(reading, target))


def logits_of(reading: Reading, run: Run, size: int) -> Tensor:
    """Logits ``(size, C)`` of a run on rows of the reading, changed."""
    require_logits(run.logits)
    expected = (size, reading.outputs.shape[-1])
    if run.logits.shape != expected:
        raise AdapterError(
            f"logits after a removal must have shape {expected}, one row for each; "
            f"got {tuple(run.logits.shape)}. Keep the instances apart."
        )
    return run.logits
