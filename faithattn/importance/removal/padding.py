"""Padding that rows carry along for others: changed only where the model does not feel it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.source import paths
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import SupportsSetRemoval
from faithattn.adapters.reading import Reading
from faithattn.errors import AdapterError

_WORTH = 0.9  # columns of the average row, of those of the longest
_SAME = 200  # units of rounding by which a row alone may differ from the row in its batch


def cut(reading: Reading, rows: Tensor) -> tuple[Any, int]:
    """The inputs of some rows, and how many columns the features of the mask have in them.

    Columns behind the last real position of all these rows are left out, if
    that is worth it and changes nothing.
    """
    inputs = select(reading.model, reading.inputs, rows)
    width = reading.rows.mask.shape[1]
    if not _feels_none(reading):
        return inputs, width
    return _cut(reading, inputs, (len(rows), width))


def _cut(reading: Reading, inputs: Any, shape: tuple[int, int]) -> tuple[Any, int]:
    """Deletes nothing, which leaves out the columns that no row needs."""
    width = shape[1]
    nothing = torch.zeros(shape, dtype=torch.bool, device=reading.rows.mask.device)
    shorter = reading.model.remove_sets(inputs, nothing)  # type: ignore[attr-defined]
    for (path, before), (other, after) in zip(paths(inputs), paths(shorter), strict=False):
        long = before.ndim > 1 and before.shape[1] <= width and path == other
        if long and after.shape[1] < before.shape[1]:
            return shorter, width - (before.shape[1] - after.shape[1])
    return inputs, width


def mixes(reading: Reading) -> bool:
    """Whether rows that lose different numbers of positions give together what they give alone.

    They are padded then, so it is tried on one row, once: without half of its
    positions it must not feel what it is padded with beside itself without one.
    Where some row cannot be padded, as with padding on the left, none are.
    """
    known = reading.known
    if "mixes" not in known:
        known["mixes"] = _mixed(reading)
    found: bool = known["mixes"]
    return found


def _mixed(reading: Reading) -> bool:
    model, mask = reading.model, reading.rows.mask
    row = mask.sum(-1).argmax()[None]
    positions = mask[row[0]].nonzero()[:, 0]
    if len(positions) < 3 or not isinstance(model, SupportsSetRemoval):
        return False
    gone = torch.zeros_like(mask[row.repeat(2)])
    gone[0, positions[:1]] = True
    gone[1, positions[: max(2, len(positions) // 2)]] = True
    try:
        _edit_all(reading, gone[1], row)
        both = model.remove_sets(select(model, reading.inputs, row.repeat(2)), gone)
        alone = model.remove_sets(select(model, reading.inputs, row), gone[1:])
        logits = [model.run(each).logits for each in (both, alone)]
    except (AdapterError, TypeError, ValueError):  # nothing says what padding is
        return False
    return len(logits[0]) == 2 and _same(logits[0][1:], logits[1])


def _edit_all(reading: Reading, gone: Tensor, row: Tensor) -> None:
    """Edits every row beside one that loses more: what other rows hold may not allow it."""
    mask = reading.rows.mask
    first = mask & (mask.cumsum(1) == 1) & (mask.sum(1, keepdim=True) > 1)
    rows = torch.cat([torch.arange(len(mask), device=row.device), row])
    inputs = select(reading.model, reading.inputs, rows)
    reading.model.remove_sets(inputs, torch.cat([first, gone[None]]))  # type: ignore[attr-defined]


def _same(logits: Tensor, others: Tensor) -> bool:
    """Whether logits are the same but for rounding; a probability near 1 would hide much."""
    if logits.shape != others.shape:
        return False
    share = min(_SAME * torch.finfo(logits.dtype).eps, 0.04)
    finite = others.masked_fill(others.isinf(), 0)
    room = share * finite.abs().amax().clamp_min(1)
    return bool(((logits == others) | ((logits - others).abs() <= room)).all())


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
        inputs, width = _cut(
            reading, select(reading.model, reading.inputs, row), (1, mask.shape[1])
        )
        logits = reading.model.run(inputs).logits
    except (AdapterError, TypeError, ValueError):  # inputs that cannot be shortened
        return False
    return width < mask.shape[1] and _same(logits, reading.run.logits[row])
