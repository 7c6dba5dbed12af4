"""Weights in what a submodule returns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from faithattn.adapters.interception.kernels import holds_any

Show = Callable[[Tensor, int], Tensor]  # takes weights and the axis of their keys


def replaced(output: Any, show: Show) -> Any:
    """The output with its weights shown and replaced, the rest as it is.

    A tensor is taken as it is; of a tuple, list, mapping or dataclass what
    looks like weights.
    """
    if isinstance(output, Tensor):
        return show(output, keys_of(output))

    def one(each: Any) -> Any:
        return show(each, keys_of(each)) if like_weights(each) else each

    if isinstance(output, tuple | list):
        changed = [one(each) for each in output]
        kind: Any = type(output)
        return kind(*changed) if hasattr(output, "_fields") else kind(changed)
    if isinstance(output, Mapping):
        return _updated(output, {key: one(each) for key, each in output.items()})
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = [field.name for field in dataclasses.fields(output) if field.init]
        return dataclasses.replace(output, **{name: one(getattr(output, name)) for name in fields})
    return output


def keys_of(weights: Tensor) -> int:
    """The axis of the keys: the last, but one of a single row ``(B, L, 1)``."""
    return 1 if weights.ndim == 3 and weights.shape[-1] == 1 else -1


def like_weights(value: Any) -> bool:
    """Whether a value may be attention: rows of weights that sum to one, or of none at all."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
        return False
    content = value.detach()
    sums = content.sum(keys_of(content))
    rows = ((sums - 1).abs() < 1e-2) | (sums == 0)
    return not holds_any(content < 0) and not holds_any(~rows)


def _updated(output: Mapping[Any, Any], changed: dict[Any, Any]) -> Any:
    """A mapping of the same kind; attributes that mirror its items follow."""
    if all(changed[key] is output[key] for key in changed):
        return output
    result: Any = copy.copy(output)
    for key, each in changed.items():
        if each is not output[key]:
            result[key] = each
    return result
