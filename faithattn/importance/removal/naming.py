"""What a removal is called in results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

InputRemoval: TypeAlias = Callable[[Any, Tensor], Any]


def name_of(removal: InputRemoval) -> str:
    """What a function calls itself; never an address, which changes from run to run."""
    inner = getattr(removal, "func", removal)  # of functools.partial
    silent = str(inner) == object.__repr__(inner)
    return str(getattr(inner, "__name__", None) or (type(inner).__name__ if silent else inner))
