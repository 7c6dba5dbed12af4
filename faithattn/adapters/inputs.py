"""Inputs as a model takes them: a tensor, a tuple, or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.protocol import SupportsSelection
from faithattn.errors import AdapterError


def select_rows(inputs: Any, rows: Tensor) -> Any:
    """Returns the given rows of inputs whose tensors hold instances on dimension 0."""
    if isinstance(inputs, Tensor):
        return inputs.index_select(0, rows.to(inputs.device)) if inputs.ndim else inputs
    if isinstance(inputs, Mapping):
        return {key: select_rows(value, rows) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return _rebuilt(inputs, [select_rows(value, rows) for value in inputs])
    if inputs is None or isinstance(inputs, bool | int | float | str):
        return inputs
    raise TypeError(
        f"inputs must be a tensor, tuple or mapping of tensors; got {type(inputs).__name__}. "
        "Give the adapter a select(inputs, rows) method."
    )


def select(model: Any, inputs: Any, rows: Tensor) -> Any:
    """Selects rows by the model's own method where it has one."""
    if isinstance(model, SupportsSelection):
        return model.select(inputs, rows)
    return select_rows(inputs, rows)


def find_mask(rule: Any, inputs: Any, padding: int | None, attention: Tensor) -> Tensor:
    """The mask ``(B, L)`` of what can be explained, by rule, by name or by padding id."""
    expected = (attention.shape[0], attention.shape[-1])
    if callable(rule):
        mask = rule(inputs)
    elif isinstance(rule, Tensor):
        mask = rule
    elif isinstance(rule, int) and not isinstance(rule, bool):
        mask = _ids(inputs, expected, "mask") != rule
    elif isinstance(inputs, Mapping) and isinstance(inputs.get("attention_mask"), Tensor):
        mask = inputs["attention_mask"].bool()
    elif padding is not None:
        mask = _ids(inputs, expected, "padding_idx") != padding
    else:
        mask = torch.ones(expected, dtype=torch.bool)
        _no_hidden_padding(attention)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != expected:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise AdapterError(
            f"mask must be boolean of shape {expected}, as the attention; got {shape} "
            f"{getattr(mask, 'dtype', '')}. Return one flag a position, True at real ones."
        )
    return mask.to(attention.device)


def real_positions(rule: Any, inputs: Any, padding: int | None, mask: Tensor) -> Tensor:
    """Where there is no padding, ``(B, L)``: special tokens are real, explained or not.

    Everywhere, where nothing says what padding is.
    """
    everywhere = torch.ones_like(mask)
    if isinstance(inputs, Mapping) and isinstance(inputs.get("attention_mask"), Tensor):
        real = inputs["attention_mask"].bool()
    else:
        known = rule if isinstance(rule, int) else padding
        found = _id_tensors(inputs, tuple(mask.shape))
        real = found[0].ne(known) if known is not None and len(found) == 1 else everywhere
    return mask | real.to(mask.device) if real.shape == mask.shape else everywhere


def delete_positions(inputs: Any, positions: Tensor, real: Tensor) -> Any:
    """Deletes one position of each row in every tensor of shape ``(B, L, ...)``.

    Columns that no row needs any more are cut: the last one always goes, and
    so do those where no row is real.
    """
    size, length = real.shape
    keep = torch.arange(length, device=real.device) != _checked(positions, real)[:, None]
    order = keep.nonzero()[:, 1].view(size, length - 1)
    left = real.gather(1, order).any(0).nonzero()
    order = order[:, : int(left[-1]) + 1] if len(left) else order

    def edit(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[:2] == (size, length):
            index = order.to(value.device)
            return value[torch.arange(size, device=value.device)[:, None], index]
        if isinstance(value, Mapping):
            return {key: edit(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            return _rebuilt(value, [edit(each) for each in value])
        return value

    return edit(inputs)


def _checked(positions: Tensor, real: Tensor) -> Tensor:
    """Positions that can be deleted, one a row."""
    size, length = real.shape
    if positions.shape != (size,) or ((positions < 0) | (positions >= length)).any():
        raise ValueError(
            f"positions must name one of {length} positions for each of {size} rows; "
            f"got {positions.tolist()}. Choose positions where the mask is True."
        )
    return positions.to(real.device)


def _rebuilt(original: tuple[Any, ...] | list[Any], values: list[Any]) -> Any:
    """A sequence of the same kind; a named tuple takes its values one by one."""
    kind: Any = type(original)
    return kind(*values) if hasattr(original, "_fields") else kind(values)


def _no_hidden_padding(attention: Tensor) -> None:
    """Refuses to call every position real where attention is cut off at the end of rows."""
    rows = attention.detach().flatten(1, -2).amax(1) if attention.ndim > 2 else attention.detach()
    if rows.shape[-1] > 1 and ((rows[:, -1] == 0) & (rows[:, 0] > 0)).any():
        raise AdapterError(
            "mask must be given where the model pads: some rows end in zero attention and nothing "
            "says which ids are padding. Use adapt(model, mask=padding_id) or a function."
        )


def _ids(inputs: Any, expected: tuple[int, int], source: str) -> Tensor:
    """The one integer tensor of the inputs that is as long as the attention."""
    found = _id_tensors(inputs, expected)
    if len(found) != 1:
        raise AdapterError(
            f"mask must be given as a function here: {source} needs one tensor of ids of shape "
            f"{expected} in the inputs, and there are {len(found)}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    return found[0]


def _id_tensors(inputs: Any, expected: tuple[int, ...]) -> list[Tensor]:
    """What may be ids: ``input_ids``, or every integer tensor of the expected shape."""
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input_ids"), Tensor):
        return [inputs["input_ids"]]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    values = values if isinstance(inputs, Mapping | tuple | list) else (inputs,)
    return [
        value
        for value in values
        if isinstance(value, Tensor)
        and value.shape == expected
        and not value.is_floating_point()
        and value.dtype != torch.bool
    ]
