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
        return inputs.index_select(0, rows.to(inputs.device))
    if isinstance(inputs, Mapping):
        return {key: select_rows(value, rows) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(select_rows(value, rows) for value in inputs)
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


def delete_positions(inputs: Any, positions: Tensor, mask: Tensor) -> Any:
    """Deletes one position of each row in every tensor as long as the mask.

    Columns that no row needs any more are cut: the last one always goes, and
    so do those where every row is padding.
    """
    size, length = mask.shape
    keep = torch.arange(length, device=mask.device) != positions.to(mask.device)[:, None]
    order = keep.nonzero()[:, 1].view(size, length - 1)
    left = mask.gather(1, order).any(0).nonzero()
    order = order[:, : int(left[-1]) + 1] if len(left) else order

    def edit(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[:2] == (size, length):
            index = order.to(value.device)
            return value[torch.arange(size, device=value.device)[:, None], index]
        if isinstance(value, Mapping):
            return {key: edit(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(edit(each) for each in value)
        return value

    return edit(inputs)


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
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input_ids"), Tensor):
        return inputs["input_ids"]  # type: ignore[no-any-return]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    values = (values,) if isinstance(values, Tensor) else values
    found = [
        value
        for value in values
        if isinstance(value, Tensor)
        and value.shape == expected
        and not value.is_floating_point()
        and value.dtype != torch.bool
    ]
    if len(found) != 1:
        raise AdapterError(
            f"mask must be given as a function here: {source} needs one tensor of ids of shape "
            f"{expected} in the inputs, and there are {len(found)}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    return found[0]
