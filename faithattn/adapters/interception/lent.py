"""Weights that the model goes on with as they were shown, without a copy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor


class Lent:
    """Lends weights to a model, and tells afterwards which of them it has written to.

    Few models write into their attention. To copy it for all of them would
    cost a pass over memory at every site; instead a pass in which it happens
    is made again, with copies.

    Args:
        copied: Sites that are known to be written to.
    """

    def __init__(self, copied: Collection[str]) -> None:
        self._copied = copied
        self._lent: list[tuple[str, Tensor, int]] = []
        self._exposed: set[str] = set()

    def used(self, name: str, shown: Tensor) -> Tensor:
        """What the model goes on with: the weights themselves, if writing to them would show."""
        hidden = shown.is_inference() or is_functorch_wrapped_tensor(shown)
        if hidden or name in self._copied or torch._C._len_torch_dispatch_stack():
            return shown.clone()
        self._lent.append((name, shown, shown._version))
        return shown

    def read(self, *values: Any) -> None:
        """Hears that memory is handed out, which can be written to without a trace."""
        for value in values:
            if isinstance(value, Tensor):
                self._exposed |= {name for name, own, _ in self._lent if _share(own, value)}

    def written(self) -> set[str]:
        """Sites whose weights may have been written to."""
        changed = {name for name, own, version in self._lent if own._version != version}
        return changed | self._exposed


def _share(one: Tensor, other: Tensor) -> bool:
    if is_functorch_wrapped_tensor(other) or other.layout is not torch.strided:
        return False
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
