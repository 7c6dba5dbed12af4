"""Padding that rows carry along for others: left out where the model does not feel it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.source import paths
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import SupportsSetRemoval
from faithattn.adapters.reading import Reading
from faithattn.errors import AdapterError
from faithattn.measures.outputs import probabilities

_WORTH = 0.9  # columns of the average row, of those of the longest
_SAME = 50  # units of rounding by which a row alone may differ from the row in its batch


def cut(reading: Reading, rows: Tensor) -> tuple[Any, int]:
    """The inputs of some rows, and how many columns the features of the mask have in them.

    Columns behind the last real position of all these rows are left out, if
    that is worth it and changes nothing.
    """
    inputs = select(reading.model, reading.inputs, rows)
    width = reading.rows.mask.shape[1]
    if not _feels_none(reading):
        return inputs, width
    return _cut(reading, inputs, width)


def _cut(reading: Reading, inputs: Any, width: int) -> tuple[Any, int]:
    """Deletes nothing, which leaves out the columns that no row needs."""
    mask = reading.rows.mask
    size = len(next(each for _, each in paths(inputs) if each.ndim > 1))
    nothing = torch.zeros(size, width, dtype=torch.bool, device=mask.device)
    shorter = reading.model.remove_sets(inputs, nothing)  # type: ignore[attr-defined]
    for (path, before), (other, after) in zip(paths(inputs), paths(shorter), strict=True):
        long = before.ndim > 1 and before.shape[1] <= width and path == other
        if long and after.shape[1] < before.shape[1]:
            return shorter, width - (before.shape[1] - after.shape[1])
    return inputs, width


def _feels_none(reading: Reading) -> bool:
    """Whether the shortest row gives alone what it gives in its batch; found out once."""
    known = reading.known
    if "feels no padding" not in known:
        known["feels no padding"] = _tried(reading)
    found: bool = known["feels no padding"]
    return found


def _tried(reading: Reading) -> bool:
    mask = reading.rows.mask
    columns = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    last = (mask * columns).amax(-1)
    longest = int(last.max())
    short = last.double().mean() < _WORTH * longest
    if not short or not isinstance(reading.model, SupportsSetRemoval):
        return False
    row = last.argmin()[None]
    try:
        inputs, width = _cut(reading, select(reading.model, reading.inputs, row), mask.shape[1])
        logits = reading.model.run(inputs).logits
    except (AdapterError, TypeError, ValueError):  # inputs that cannot be shortened
        return False
    if logits.shape != reading.run.logits[row].shape or width == mask.shape[1]:
        return False
    eps = torch.finfo(reading.run.logits.dtype).eps
    alone, together = probabilities(logits, reading.output), reading.outputs[row]
    room = min(_SAME * eps, 0.01) * together.abs().amax().clamp_min(1)
    return bool((alone - together).abs().amax() <= room)
