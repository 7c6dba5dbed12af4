"""Argument checks that are needed in several places."""

from __future__ import annotations

import operator

import torch
from torch import Tensor


def require_tensor(name: str, value: object) -> Tensor:
    """Returns the value if it is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor; got {type(value).__name__}. "
            "Use torch.as_tensor to convert it."
        )
    return value


def require_floating(name: str, value: object) -> Tensor:
    """Returns the value if it is a floating-point tensor with at least one dimension."""
    tensor = require_tensor(name, value)
    if not tensor.is_floating_point():
        raise TypeError(
            f"{name} must be floating point; got {tensor.dtype}. Convert with .float()."
        )
    if tensor.ndim == 0:
        raise ValueError(f"{name} must have a last dimension of positions; got a scalar.")
    return tensor


def require_alike(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Requires two tensors to agree in shape, dtype and device."""
    if value.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}; got {other_name} {tuple(other.shape)} "
            f"and {name} {tuple(value.shape)}. Pad both alike."
        )
    if value.dtype != other.dtype:
        raise ValueError(
            f"{name} must have the dtype of {other_name}; got {other_name} {other.dtype} "
            f"and {name} {value.dtype}. Convert one of them."
        )
    require_device(name, value, other_name, other)


def require_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Requires two tensors to live on one device."""
    if value.device != other.device:
        raise ValueError(
            f"{name} must be on the device of {other_name}; got {other_name} on {other.device} "
            f"and {name} on {value.device}. Move one of them."
        )


def require_mask(mask: object, name: str, like: Tensor) -> Tensor:
    """Returns a boolean mask of the shape and on the device of ``like``."""
    return require_flags("mask", mask, name, like, "real")


def require_flags(name: str, value: object, other_name: str, other: Tensor, kind: str) -> Tensor:
    """Returns one flag a position, True at positions of that kind, matching ``other``."""
    tensor = require_tensor(name, value)
    if tensor.dtype != torch.bool:
        raise TypeError(
            f"{name} must be boolean, True at {kind} positions; got {tensor.dtype}. "
            "Convert with .bool()."
        )
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} must have the shape of {other_name}; got {other_name} {tuple(other.shape)} "
            f"and {name} {tuple(tensor.shape)}. Give one flag a position."
        )
    require_device(name, tensor, other_name, other)
    return tensor


def require_count(name: str, value: object, *, least: int = 1) -> int:
    """Returns a whole number that is at least ``least``."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number; got {value!r}. Pass an int.")
    if count < least:
        raise ValueError(f"{name} must be at least {least}; got {count}. Pass {least} or more.")
    return count
