"""What data and settings were, short enough to keep: digests and plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Hash(Protocol):
    """A hash that bytes are added to."""

    def update(self, data: bytes, /) -> None:
        """Adds bytes."""


def add(digest: Hash, value: Any) -> None:
    """Adds a value to a digest: tensors and arrays by content, of other objects the type alone."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype} {value.shape}".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes())
    elif isinstance(value, str | int | float | bool | bytes | None):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}".encode())
        for key in sorted(value, key=str):
            add(digest, str(key))
            add(digest, value[key])
    elif isinstance(value, Sequence):
        digest.update(f"sequence {len(value)}".encode())
        for each in value:
            add(digest, each)
    else:
        digest.update(f"object {type(value).__qualname__}".encode())


def plain(value: Any) -> Any:
    """An option as JSON can hold it: what is not plain by its type, tensors by digest.

    Examples:
        >>> plain({"n_steps": 5, "removal": len})
        {'n_steps': 5, 'removal': 'builtins.len'}
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Tensor | np.ndarray):
        digest = hashlib.sha256()
        add(digest, value)
        return f"{tuple(value.shape)} {digest.hexdigest()[:16]}"
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    named = value if hasattr(value, "__qualname__") else type(value)
    text = "" if hasattr(value, "__qualname__") or " at 0x" in repr(value) else f" {value!r}"
    return f"{named.__module__}.{named.__qualname__}{text}"
