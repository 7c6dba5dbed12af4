"""Inputs as a model takes them: a tensor, a tuple, or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.protocol import SupportsSelection


def batch_size(inputs: Any) -> int | None:
    """Number of instances: dimension 0 of the first tensor, one of two dimensions before others."""
    found = [value for value in tensors_of(inputs) if value.ndim]
    found.sort(key=lambda value: value.ndim < 2)  # positions (L,) may come before ids (B, L)
    return found[0].shape[0] if found else None


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
    instances and is left as it is.
    """
    return _selected(inputs, rows, batch_size(inputs))


def _selected(inputs: Any, rows: Tensor, size: int | None) -> Any:
    if isinstance(inputs, Tensor):
        whole = inputs.ndim == 0 or inputs.shape[0] != size
        return inputs if whole else inputs.index_select(0, rows.to(inputs.device))
    if isinstance(inputs, Mapping):
        return {key: _selected(value, rows, size) for key, value in inputs.items()}
    if isinstance(inputs, list) and len(inputs) == size and _plain_values(inputs):
        return [inputs[row] for row in rows.tolist()]
    if isinstance(inputs, tuple | list):
        return rebuilt(inputs, [_selected(value, rows, size) for value in inputs])
    if inputs is None or isinstance(inputs, bool | int | float | str):
        return inputs
    raise TypeError(
        f"inputs must be a tensor, tuple or mapping of tensors; got {type(inputs).__name__}. "
        "Give the adapter a select(inputs, rows) method."
    )


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
    """Whether a tensor ``(B,)`` or ``(B, 1)`` holds these counts."""
    same = value.shape in {(len(counts),), (len(counts), 1)}
    return same and torch.equal(value.flatten().to(counts), counts)


def rebuilt(original: tuple[Any, ...] | list[Any], values: list[Any]) -> Any:
    """A sequence of the same kind; a named tuple takes its values one by one."""
    kind: Any = type(original)
    return kind(*values) if hasattr(original, "_fields") else kind(values)
