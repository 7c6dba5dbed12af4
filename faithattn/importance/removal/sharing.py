"""Changed inputs that share with the reading what a change leaves alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from faithattn.adapters.beside import BESIDE, Beside, beside, is_plain
from faithattn.adapters.protocol import Run
from faithattn.adapters.reading import Reading
from faithattn.importance.removal.changes import logits_of


def shared_inputs(
    reading: Reading, inputs: Any, rows: Tensor, gone: Tensor | None = None
) -> Tensor | None:
    """Logits ``(n, C)`` of inputs made from rows ``(n,)`` of a reading; see :class:`Beside`.

    None where nothing can be shared: then the model is to be run.
    """
    own = _own(reading)
    return None if own is None else _checked(reading, own.with_inputs(inputs, rows, gone), rows)


def shared_features(reading: Reading, rows: Tensor, gone: Tensor, values: Tensor) -> Tensor | None:
    """Logits ``(n, C)`` of rows with other features where ``gone`` (n, L); None as above."""
    own = _own(reading)
    return None if own is None else _checked(reading, own.with_features(rows, gone, values), rows)


def shares(reading: Reading) -> bool:
    """Whether anything can be shared with a reading."""
    return _own(reading) is not None


def _own(reading: Reading) -> Beside | None:
    """What the model offers beside this reading; made once."""
    if not is_plain():
        return None
    found: Beside | None = reading.known.get(BESIDE)
    if found is None:
        found = beside(reading.model, reading.inputs, reading.run)
        if found is not None:
            reading.known[BESIDE] = found
    return found


def _checked(reading: Reading, logits: Tensor | None, rows: Tensor) -> Tensor | None:
    if logits is None:
        return None
    return logits_of(reading, Run(logits, {}, reading.rows.mask), len(rows))
