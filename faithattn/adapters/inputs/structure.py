"""Inputs as a model takes them: a tensor, a tuple, or a mapping."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.protocol import SupportsSelection

CLOSED = -1e4  # an additive mask holds 0, and this or less where attention is closed


def batch_size(inputs: Any) -> int | None:
    """Number of instances: dimension 0 of the first tensor, one of two dimensions before others."""
    found = [value for value in tensors_of(inputs) if value.ndim]
    found = [value for value in found if value.ndim > 1] or found  # positions (L,) may come first
    if len({len(value) for value in found}) > 1:  # and so may positions (1, L)
        found.sort(key=lambda value: len(value) == 1 and numbers_positions(value))
    return len(found[0]) if found else None


def numbers_positions(value: Tensor) -> bool:
    """Whether every row is 0, 1, 2, ..."""
    if not is_integer(value) or value.ndim == 0 or value.shape[-1] < 2:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return False  # its content is not one tensor's
    return bool((value == torch.arange(value.shape[-1], device=value.device)).all())


def described(inputs: Any) -> str:
    """Types and shapes of inputs, for messages."""
    if isinstance(inputs, Tensor):
        return f"{str(inputs.dtype).removeprefix('torch.')} {tuple(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return "{" + ", ".join(f"{key}: {described(each)}" for key, each in inputs.items()) + "}"
    if isinstance(inputs, tuple | list):
        return "[" + ", ".join(described(each) for each in inputs) + "]"
    return type(inputs).__name__


def select_rows(inputs: Any, rows: Tensor) -> Any:
    """Returns the given rows of inputs whose tensors hold instances on dimension 0.

    A tensor that has another size there, such as positions ``(L,)``, holds no
    instances and is left as it is; so are positions ``(L,)`` and additive
    masks ``(L, L)`` where there are as many instances as positions.
    """
    size = batch_size(inputs)
    _check_rows(rows, size)
    square = any(value.ndim > 1 and value.shape[:2] == (size, size) for value in tensors_of(inputs))
    return _selected(inputs, rows, size, square)


def _check_rows(rows: object, size: int | None) -> None:
    """Rows that the inputs have."""
    if not isinstance(rows, Tensor) or not is_integer(rows):
        got = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"rows must be an int64 tensor; got {got}. Use torch.tensor([0, 2]).")
    if rows.ndim != 1 or (size is not None and ((rows < 0) | (rows >= size)).any()):
        raise ValueError(
            f"rows must be numbers from 0 to {(size or 1) - 1}, shape (n,); got {rows.tolist()}. "
            "Number the instances from 0."
        )


def _selected(inputs: Any, rows: Tensor, size: int | None, square: bool) -> Any:
    if isinstance(inputs, Tensor):
        whole = inputs.ndim == 0 or inputs.shape[0] != size or (square and _is_shared(inputs))
        return inputs if whole else inputs.index_select(0, rows.to(inputs.device))
    if isinstance(inputs, Mapping):
        chosen = {key: _selected(value, rows, size, square) for key, value in inputs.items()}
        return remapped(inputs, chosen)
    if isinstance(inputs, list) and len(inputs) == size and _plain_values(inputs):
        return [inputs[row] for row in rows.tolist()]
    if isinstance(inputs, tuple | list):
        return rebuilt(inputs, [_selected(value, rows, size, square) for value in inputs])
    if inputs is None or isinstance(inputs, bool | int | float | str):
        return inputs
    raise TypeError(
        f"inputs must be a tensor, tuple or mapping of tensors; got {type(inputs).__name__}. "
        "Give the adapter a select(inputs, rows) method."
    )


def _is_shared(value: Tensor) -> bool:
    """Whether a tensor is the same for all instances: positions, or scores to add to pairs."""
    if value.ndim == 1:
        return numbers_positions(value)
    if value.ndim != 2 or not value.is_floating_point() or value.shape[0] != value.shape[1]:
        return False
    return bool(((value == 0) | (value <= CLOSED)).all() and (value != 0).any())


def _plain_values(values: list[Any]) -> bool:
    """Whether a list holds one value for each instance, such as lengths."""
    return all(isinstance(each, int | float | str) for each in values)


def select(model: Any, inputs: Any, rows: Tensor) -> Any:
    """Selects rows by the model's own method where it has one."""
    if isinstance(model, SupportsSelection):
        return model.select(inputs, rows)
    return select_rows(inputs, rows)


def tensors_of(inputs: Any) -> list[Tensor]:
    """Every tensor inside, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    if not isinstance(inputs, Mapping | tuple | list):
        return []
    return [tensor for value in values for tensor in tensors_of(value)]


def is_integer(value: Tensor) -> bool:
    """Whether values are whole numbers; flags are not."""
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def holds_counts(value: Tensor, counts: Tensor) -> bool:
    """Whether a tensor ``(B,)`` or ``(B, 1)`` holds these counts, be it as floats."""
    number = is_integer(value) or value.is_floating_point()
    same = number and value.shape in {(len(counts),), (len(counts), 1)}
    return same and torch.equal(value.flatten().to(counts.device).double(), counts.double())


def rebuilt(original: tuple[Any, ...] | list[Any], values: list[Any]) -> Any:
    """A sequence of the same kind; a named tuple takes its values one by one."""
    kind: Any = type(original)
    return kind(*values) if hasattr(original, "_fields") else kind(values)


def remapped(original: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping of the same kind where that is a tokenizer's, whose keys are attributes."""
    kind: Any = type(original)
    return kind(values) if isinstance(original, UserDict) else values
