"""Checks of removal: the named position goes, and nothing else changes."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.contract.subject import Subject
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import Run, SupportsRemoval
from faithattn.errors import AdapterError


def removal(subject: Subject) -> list[str]:
    """Removal shortens every row by one, at the position that is named."""
    mask = subject.base.mask
    if not isinstance(subject.adapter, SupportsRemoval) or not isinstance(mask, Tensor):
        return []
    rows = (mask.sum(1) > 1).nonzero()[:, 0]
    if len(rows) == 0:
        return []
    flags = mask[rows].byte()
    first, last = flags.argmax(1), mask.shape[1] - 1 - flags.flip(1).argmax(1)
    if _refuses(subject, rows, first):
        return []
    return (
        _deleted(subject, mask[rows], rows, first)
        or _deleted(subject, mask[rows], rows, last)
        or _alone(subject, mask[rows], rows, first)
    )


def _refuses(subject: Subject, rows: Tensor, positions: Tensor) -> bool:
    """Whether removal says that it cannot be done, as for images: no wrong is done then."""
    adapter = subject.adapter
    try:
        adapter.remove(select(adapter, subject.inputs, rows), positions)  # type: ignore[attr-defined]
    except AdapterError:
        return True
    return False


def _deleted(subject: Subject, mask: Tensor, rows: Tensor, positions: Tensor) -> list[str]:
    run = _run_without(subject, rows, positions)
    expected = mask.sum(1) - 1
    if not isinstance(run.mask, Tensor) or not torch.equal(run.mask.sum(1), expected):
        got = run.mask.sum(1).tolist() if isinstance(run.mask, Tensor) else "several masks"
        return [
            f"remove(inputs, positions) must shorten every row by one, to {expected.tolist()} real "
            f"positions; got {got}. Delete the position and what goes with it."
        ]
    for row, (index, position) in enumerate(zip(rows.tolist(), positions.tolist(), strict=True)):
        for name, feature in subject.base.features.items():
            left = run.features.get(name)
            if left is None or len(left[row]) != run.mask.shape[1]:
                continue
            went = _missing(feature[index], mask[row], left[row][run.mask[row]])
            if went and position not in went:
                return [
                    f"remove(inputs, positions) must delete the position that is named; got "
                    f"position {went[0]} deleted instead of {position} in row {index}."
                ]
    return []


def _missing(before: Tensor, mask: Tensor, after: Tensor) -> list[int]:
    """The positions without which the features before are those after."""
    places = mask.nonzero()[:, 0].tolist()
    return [
        place
        for place in places
        if torch.equal(before[[other for other in places if other != place]], after)
    ]


def _alone(subject: Subject, mask: Tensor, rows: Tensor, positions: Tensor) -> list[str]:
    """The shortest row gives the same without the padding that longer ones bring."""
    row = int(mask.sum(1).argmin())
    together = _run_without(subject, rows, positions).logits[row : row + 1]
    alone = _run_without(subject, rows[row : row + 1], positions[row : row + 1]).logits
    gap = subject.moved(alone, together)
    if gap is None:
        return []
    return [
        f"instances must not influence each other; got logits {gap:.2g} apart when row "
        f"{int(rows[row])} was shortened alone, without the padding of the others. "
        "Mask the padding in the encoder."
    ]


def _run_without(subject: Subject, rows: Tensor, positions: Tensor) -> Run:
    adapter = subject.adapter
    shorter = adapter.remove(select(adapter, subject.inputs, rows), positions)  # type: ignore[attr-defined]
    with torch.no_grad():
        return adapter.run(shorter)
