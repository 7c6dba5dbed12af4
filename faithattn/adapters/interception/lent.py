"""Weights that the model goes on with as they were shown, without a copy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor


class Lent:
    """Lends weights to a model, and tells afterwards which of them are no longer ours alone.

    Few models write into their attention, or keep it and write into it in a
    later forward. To copy it for all of them would cost a pass over memory at
    every site; instead a pass in which it happens is made again, with copies.
    Only ``Tensor.set_`` and ``to_dlpack`` hand memory out unheard.

    Args:
        copied: Sites that are known to need copies.
    """

    def __init__(self, copied: Collection[str]) -> None:
        self._copied = copied
        self._lent: list[tuple[str, Tensor, int, int]] = []  # name, weights, version, holders
        self._exposed: set[str] = set()

    def used(self, name: str, shown: Tensor) -> Tensor:
        """What the model goes on with: the same memory, if writing to it would show."""
        hidden = shown.is_inference() or is_functorch_wrapped_tensor(shown)
        followed = torch.is_grad_enabled() or torch._C._len_torch_dispatch_stack()
        if hidden or followed or name in self._copied:
            return shown.clone()
        self._lent.append((name, shown, shown._version, _holders(shown)))
        return shown.detach()

    def read(self, *values: Any) -> None:
        """Hears that memory is handed out, which can be written to without a trace."""
        for value in values:
            if isinstance(value, Tensor):
                self._exposed |= {name for name, own, *_ in self._lent if _share(own, value)}

    def copies_needed(self) -> set[str]:
        """Sites whose weights the model may have written to, or holds on to."""
        changed = {
            name
            for name, own, version, holders in self._lent
            if own._version != version or _holders(own) > holders
        }
        return changed | self._exposed


def _holders(tensor: Tensor) -> int:
    """How many tensors lie in the memory of this one."""
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


def _share(one: Tensor, other: Tensor) -> bool:
    if is_functorch_wrapped_tensor(other) or other.layout is not torch.strided:
        return False
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
