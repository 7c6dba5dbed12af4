"""A removal that the user wrote: what it is, and what it is called in results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

InputRemoval: TypeAlias = Callable[[Any, Tensor], Any]


@runtime_checkable
class HidesSets(Protocol):
    """A removal that takes several positions of a row at once."""

    def hide(self, inputs: Any, gone: Tensor) -> Any:
        """The inputs without the positions ``gone`` (B, L) of each row."""
        ...


def name_of(removal: InputRemoval) -> str:
    """What a function calls itself; never an address, which changes from run to run."""
    inner = getattr(removal, "func", removal)  # of functools.partial
    silent = str(inner) == object.__repr__(inner)
    return str(getattr(inner, "__name__", None) or (type(inner).__name__ if silent else inner))
