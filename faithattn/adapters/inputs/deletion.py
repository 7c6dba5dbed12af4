"""One position of each row taken out of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import (
    described,
    holds_counts,
    is_integer,
    rebuilt,
    tensors_of,
)
from faithattn.errors import AdapterError

# Inputs by the names that tokenizers and models give them.
_AS_LONG_2D = {"input_ids", "attention_mask", "token_type_ids"}
_AS_LONG_3D = {"inputs_embeds", "input_embeds", "embeds", "embeddings"}
_PLACES = "position_ids"
_LABELS = {"label", "labels", "target", "targets", "y"}


def delete_positions(inputs: Any, positions: Tensor, real: Tensor) -> Any:
    """Deletes one position of each row from ids, masks and continuous inputs.

    Edited are integer and bool tensors ``(B, L)``, the input itself where it
    is continuous, and what has a known name; lengths ``(B,)`` become one less.
    Columns that no row needs any more are cut: the last one always goes, and
    so do those behind the last real one.

    Raises:
        AdapterError: If a tensor may or may not belong to the positions.
        ValueError: If a position is not there.
    """
    size, length = real.shape
    positions = _checked(positions, real)
    keep = torch.arange(length, device=real.device) != positions[:, None]
    order = keep.nonzero()[:, 1].view(size, length - 1)
    left = real.gather(1, order).any(0).nonzero()
    order = order[:, : int(left[-1]) + 1] if len(left) else order
    gone = real.gather(1, positions[:, None])[:, 0]
    main = _continuous(inputs, real)

    def edit(value: Any, key: Any = None) -> Any:
        if isinstance(value, Tensor):
            if key == _PLACES:  # those left are numbered from the start again
                return value[..., : order.shape[1]] if value.shape[-1] == length else value
            if value.shape[:2] == (size, length):
                return _without(value, key, order, main)
            return _fewer(value, key, real, gone)
        if isinstance(value, Mapping):
            return {key: edit(each, key) for key, each in value.items()}
        if isinstance(value, tuple | list):
            return rebuilt(value, [edit(each) for each in value])
        return value

    return edit(inputs)


def _without(value: Tensor, key: Any, order: Tensor, main: Tensor | None) -> Tensor:
    """The columns ``order`` of a tensor ``(B, L, ...)`` that holds one thing a position."""
    named = key in _AS_LONG_2D if value.ndim == 2 else key in _AS_LONG_3D and value.ndim == 3
    discrete = value.ndim == 2 and not value.is_floating_point()
    if not (named or discrete or value is main):
        raise AdapterError(
            "inputs must not hold other tensors as long as the text, which deletion may or may not "
            f"have to shorten; got {_named(value, key)}. "
            "Write an adapter with remove(), or use removal='zero_embedding'."
        )
    index = order.to(value.device)
    return value[torch.arange(len(index), device=value.device)[:, None], index]


def _fewer(value: Tensor, key: Any, real: Tensor, gone: Tensor) -> Tensor:
    """Lengths after the deletion; anything that is no count of positions as it is."""
    size, length = real.shape
    if not is_integer(value) or value.shape not in {(size,), (size, 1)}:
        return value
    if holds_counts(value, real.sum(1)):
        return value - gone.to(value).view_as(value)
    if key in _LABELS or not bool(((value >= 1) & (value <= length)).all()):
        return value
    raise AdapterError(
        f"inputs must not hold lengths that deletion cannot adjust; got {_named(value, key)}. "
        "Write an adapter with remove(), or use removal='zero_embedding'."
    )


def _continuous(inputs: Any, real: Tensor) -> Tensor | None:
    """The one tensor that is the input where there are no ids: ``(B, L, E)`` or ``(B, L)``."""
    found = [value for value in tensors_of(inputs) if value.shape[:2] == real.shape]
    whole = [value for value in found if value.ndim == 2 and is_integer(value)]
    deep = [value for value in found if value.ndim > 2]
    flat = [value for value in found if value.ndim == 2 and value.is_floating_point()]
    if deep:  # integers of 0 and 1 next to it are a mask
        ids = any(bool((value > 1).any()) for value in whole)
        return deep[0] if len(deep) == 1 and not ids else None
    return flat[0] if len(flat) == 1 and not whole else None


def _named(value: Tensor, key: Any) -> str:
    return described(value) if key is None else f"{key}: {described(value)}"


def _checked(positions: Tensor, real: Tensor) -> Tensor:
    """Positions that can be deleted, one a row."""
    size, length = real.shape
    if positions.shape != (size,) or ((positions < 0) | (positions >= length)).any():
        raise ValueError(
            f"positions must name one of {length} positions for each of {size} rows; "
            f"got {positions.tolist()}. Choose positions where the mask is True."
        )
    return positions.to(real.device)
