"""Storages that hold dependent elements, and constants that must stay as they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from faithattn.adapters.replay.geometry import Geometry


class Slot(int):
    """The number of a value: a constant, an alternative, or the result of a node."""


@dataclass
class Memory:
    """A storage with at least one attention-dependent element, and its content in the replay.

    Attributes:
        alive: Keeps the address from being given to another storage.
        dtype: How it is read; other readings of its bytes are refused.
        whole: Content, as the value that covers all of it at a place; None if
            only the values of tensors in it are known.
        writes: Places written since the storage became known, in order.
        detached: A view of it passes no gradients on.
        adopted: It was a constant at first; what no write touched still is.
    """

    alive: StorageWeakRef
    dtype: torch.dtype
    whole: tuple[Slot, Geometry] | None
    writes: list[Geometry] = field(default_factory=list)
    detached: bool = False
    adopted: bool = False


@dataclass(frozen=True)
class Guard:
    """A tensor captured as it was; `holds` tells whether it still is."""

    tensor: Tensor
    version: int
    address: int

    @classmethod
    def of(cls, tensor: Tensor) -> Guard | None:
        """Tensors made in inference mode count no versions, and only the model can write them."""
        if tensor.is_inference():
            return None
        return cls(tensor, tensor._version, tensor.data_ptr())

    def holds(self) -> bool:
        """False once somebody wrote to the tensor or gave it other memory."""
        return self.tensor._version == self.version and self.tensor.data_ptr() == self.address


def address(tensor: Tensor) -> Any:
    """What tells one storage from another; None for a tensor that has none."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None


def attached_clone(tensor: Tensor) -> Tensor:
    """A copy that gradients pass through, although operations are intercepted below autograd."""
    if not tensor.requires_grad or not torch.is_grad_enabled():
        return tensor.detach().clone()
    with torch.overrides.enable_reentrant_dispatch():
        return tensor.clone()


def owner(tensor: Tensor) -> Tensor:
    """A tensor with all elements of another's storage; the tensor itself if there is none."""
    if not tensor.requires_grad or not torch.is_grad_enabled():
        count = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor.detach().as_strided((count,), (1,), 0)
    base = tensor._base
    if base is not None and base.dtype == tensor.dtype:
        place = Geometry.of(base)
        if place.order() is not None and place.offset == 0:
            return base
    return tensor


def covers(place: Geometry, memory: Memory) -> bool:
    """True if all that is known of the memory lies at this place."""
    if memory.whole is None:
        return False
    whole = memory.whole[1]
    runs = place.order() is not None and whole.order() is not None
    return place == whole or (runs and place.offset == whole.offset and place.end == whole.end)
