"""A removal must change the positions that are named, not others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.source import paths
from faithattn.adapters.inputs.structure import is_integer
from faithattn.adapters.protocol import Run
from faithattn.adapters.reading import Reading
from faithattn.errors import AdapterError

_NOISE = 1e-4  # of the largest feature: another batch rounds otherwise


def ids_that_changed(before: Any, after: Any, size: int) -> Tensor:
    """Whether a removal changed an id in each row ``(size,)``."""
    changed = torch.zeros(size, dtype=torch.bool)
    others = dict(paths(after))
    for path, value in paths(before):
        other = others.get(path)
        ids = value.ndim == 2 and is_integer(value) and len(value) == size
        if ids and other is not None and value.shape == other.shape:
            changed |= (value != other.to(value.device)).any(1).cpu()
    return changed


def require_named_position(
    reading: Reading, run: Run, sets: tuple[Tensor, Tensor], edited: Tensor, removal: str
) -> None:
    """Raises if features of a row moved, or ids were ``edited``, but none at what goes.

    So it is found out when positions count something else than the inputs do:
    a decoder's ids that are shifted, patches after a prefix of another length.
    Features that do not fit (several, of another length) are not judged.
    """
    rows, gone = sets
    name = _name(reading)
    if name is None or name not in run.features:
        return
    whole, after = reading.run.features[name].detach(), run.features[name].detach()
    width = whole.shape[1] - reading.rows.mask.shape[1] + gone.shape[1]
    if after.shape != (len(rows), width, whole.shape[2]):
        return
    noise = _noise(reading, name, whole)[rows]
    index, position = gone[:, :width].nonzero(as_tuple=True)
    change = (after[index, position] - whole[rows[index], position]).abs().amax(-1)
    here = torch.zeros_like(edited)
    here[index[change > noise[index]]] = True
    doubtful = (~here).nonzero()[:, 0]  # few: the rest of a row is looked at only there
    if len(doubtful) == 0:
        return
    before = whole[rows[doubtful], :width]
    moved = (after[doubtful] - before).abs().amax(-1) > noise[doubtful, None]
    astray = (moved.any(1) | edited[doubtful]).nonzero()[:, 0].tolist()
    if astray:
        first = int(doubtful[astray[0]])
        elsewhere = moved[astray[0]].nonzero()[:, 0].tolist()[:8]
        named = ", ".join(map(str, gone[first].nonzero()[:, 0].tolist()[:8]))
        raise AdapterError(
            f"{removal} must change the position that is named; got {name!r} changed at "
            f"{elsewhere or 'none'} instead of {named} in row {int(rows[first])}. "
            "Check which input the positions belong to, or use another removal."
        )


def _noise(reading: Reading, name: str, feature: Tensor) -> Tensor:
    """What counts as no change of each row ``(B,)``: a share of its largest feature."""
    key = f"noise of {name}"
    if key not in reading.known:
        reading.known[key] = _NOISE * feature.abs().amax((1, 2))
    noise: Tensor = reading.known[key]
    return noise


def fits(feature: Tensor, mask: Tensor) -> bool:
    """Whether features are those of the mask's positions.

    The mask may go on with keys that are no input, such as a learned one, all False.
    """
    size, length = feature.shape[:2]
    return size == len(mask) and length <= mask.shape[1] and not bool(mask[:, length:].any())


def _name(reading: Reading) -> str | None:
    """The feature whose positions are those of the mask, if it is clear which."""
    features, chosen = reading.run.features, reading.rows.view.feature
    fitting = [name for name, each in features.items() if fits(each, reading.rows.mask)]
    if chosen is not None:
        return chosen if chosen in fitting else None
    return fitting[0] if len(fitting) == 1 else None
