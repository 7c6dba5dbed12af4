"""The values of one forward that depend on the attention, known by the memory they lie in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from faithattn.adapters.replay.geometry import Geometry, flatten, region, write
from faithattn.adapters.replay.memory import (
    Guard,
    Memory,
    Slot,
    address,
    attached_clone,
    covers,
    owner,
)
from faithattn.adapters.replay.refusal import Unrecordable


@dataclass
class Node:
    """One operation of a replay; free of side effects.

    Attributes:
        function: What is called.
        args: Its arguments; a `Slot`, also within a list, stands for a value.
        kwargs: Keyword arguments, likewise.
        outputs: Where its results go; None for one that is not needed.
        single: It returns one tensor, not a sequence.
        silent: Gradients were off here while they were on around the model.
        reads: Every slot among the arguments, in order, repeated as they are.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Slot | None, ...]
    single: bool = True
    silent: bool = False
    reads: tuple[Slot, ...] = field(init=False)

    def __post_init__(self) -> None:
        found: list[Slot] = []
        _collect(self.args, found)
        _collect(self.kwargs.values(), found)
        self.reads = tuple(found)


class Tape:
    """Grows by one node for every dependent operation.

    Dependence is a property of memory: a tensor depends on the attention if its
    storage holds dependent elements, however the model came by the tensor.
    Storages are known by address under a weak reference, which keeps that
    address from being reused and nothing else alive. Tensors are weak keys, too:
    no activation lives longer than in a bare forward, except captured constants.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: dict[Slot, Tensor] = {}  # constants
        self.guards: dict[Slot, Guard | None] = {}
        self.shapes: list[torch.Size] = []
        self.sizes: list[int] = []  # bytes a result takes; zero where it may be a view
        self._memories: dict[int, Memory] = {}
        self._known: Any = WeakTensorKeyDictionary()  # tensor -> slot, number of writes seen
        self._captured: dict[int, Slot] = {}  # id of a constant, which is kept alive
        self._holders: dict[int, list[Slot]] = {}  # address -> constants that lie there

    def depends(self, tensor: Tensor) -> bool:
        """True if the tensor's memory holds attention-dependent elements."""
        return bool(self._memories) and address(tensor) in self._memories

    def slot(self, tensor: Tensor) -> Slot:
        """The value of a tensor as it is now."""
        memory = self._memories.get(address(tensor))
        if memory is None:
            return self._constant(tensor)
        place = Geometry.of(tensor)
        slot, seen = self._known.get(tensor, (None, 0))
        untouched = all(map(place.disjoint, memory.writes[seen:]))
        if slot is None and memory.adopted and untouched:
            slot = self._copy(tensor)
        elif slot is None or not untouched:
            slot = self.strided(tensor, place)
        self._known[tensor] = slot, len(memory.writes)
        return Slot(slot)

    def new_slot(self, shape: torch.Size, size: int) -> Slot:
        """A number for a value of this shape, which takes so many bytes."""
        self.shapes.append(shape)
        self.sizes.append(size)
        return Slot(len(self.shapes) - 1)

    def define(self, tensor: Tensor) -> Slot:
        """A new slot for a tensor that an operation returned."""
        at = address(tensor)
        if at is None or at in self._holders:
            raise Unrecordable("A result shares the memory of a constant, or has none of its own.")
        memory = self._memories.get(at)
        size = 0 if memory else tensor.numel() * tensor.element_size()
        slot = self.new_slot(tensor.shape, size)
        if memory is None:
            alive = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            memory = Memory(alive, tensor.dtype, (slot, Geometry.of(tensor)))
            self._memories[at] = memory
        self._known[tensor] = slot, len(memory.writes)
        return slot

    def protect(self, tensor: Tensor) -> None:
        """Copies the constants in this tensor's memory, which is about to be written."""
        for slot in self._holders.pop(address(tensor), ()):
            held = self.values[slot]
            if self._captured.get(id(held)) == slot:
                del self._captured[id(held)]
            self.values[slot] = copy = attached_clone(held)
            self.guards[slot] = Guard.of(copy)

    def adopt(self, tensor: Tensor) -> None:
        """Makes the memory of a tensor dependent, with its present content as a constant."""
        at = address(tensor)
        if at is None:
            raise Unrecordable("A tensor without memory is written.")
        whole = owner(tensor)
        slot = self._copy(whole)
        alive = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        content = slot, Geometry.of(whole)
        self._memories[at] = Memory(alive, tensor.dtype, content, adopted=True)

    def write(self, tensor: Tensor, slot: Slot) -> None:
        """Notes that a tensor's elements were overwritten by a value."""
        memory, place = self._memories[address(tensor)], Geometry.of(tensor)
        if not place.injective() or tensor.dtype != memory.dtype or tensor.is_conj():
            raise Unrecordable("Elements that share memory, or are read in two ways, are written.")
        if covers(place, memory):
            memory.whole = slot, place
        elif tensor.numel():
            memory.whole = self._written(memory, slot, place, tensor.element_size())
        memory.writes.append(place)
        self._known[tensor] = slot, len(memory.writes)

    def alias(self, tensor: Tensor, slot: Slot) -> None:
        """Notes that a tensor in known memory has a value."""
        self._known[tensor] = slot, len(self._memories[address(tensor)].writes)

    def note_detached(self, tensor: Tensor) -> None:
        """Notes that views of this memory differ in their gradients, though not in their values."""
        self._memories[address(tensor)].detached = True

    def strided(self, tensor: Tensor, place: Geometry) -> Slot:
        """The value at another place of a dependent tensor's memory."""
        memory = self._memories[address(tensor)]
        if tensor.dtype != memory.dtype or tensor.is_conj() or tensor.is_neg():
            raise Unrecordable("Memory is read in two ways.")
        if memory.detached:
            raise Unrecordable("A detached view shares memory that is written or read in two ways.")
        return self._read(memory, place)

    def _written(
        self, memory: Memory, slot: Slot, place: Geometry, element_size: int
    ) -> tuple[Slot, Geometry] | None:
        flat = self._flat(memory)
        if flat is None or place.end > self.shapes[flat].numel():
            return None
        shape = self.shapes[flat]
        written = self.new_slot(shape, shape.numel() * element_size)
        self.nodes.append(Node(write, (flat, slot, place), {}, (written,)))
        return written, Geometry(tuple(shape), (1,), 0)

    def _read(self, memory: Memory, place: Geometry) -> Slot:
        if memory.whole is not None and memory.whole[1] == place:
            return memory.whole[0]
        flat = self._flat(memory)
        if flat is None or place.end > self.shapes[flat].numel():
            raise Unrecordable("Memory is read whose layout is not known.")
        view = self.new_slot(torch.Size(place.size), 0)
        self.nodes.append(Node(region, (flat, place), {}, (view,)))
        return view

    def _flat(self, memory: Memory) -> Slot | None:
        """The content of a storage as one run of elements; None if not all of it is known."""
        if memory.whole is None:
            return None
        slot, place = memory.whole
        order = place.order()
        if order is None or place.offset:
            return None
        if len(order) == 1:
            return slot
        length = torch.Size([self.shapes[slot].numel()])
        flat = self.new_slot(length, 0)
        self.nodes.append(Node(flatten, (slot, order), {}, (flat,)))
        memory.whole = flat, Geometry(tuple(length), (1,), 0)
        return flat

    def _copy(self, tensor: Tensor) -> Slot:
        """A constant of its own, whatever becomes of the tensor."""
        slot = self.new_slot(tensor.shape, 0)
        self.values[slot] = attached_clone(tensor)
        self.guards[slot] = None
        return slot

    def _constant(self, tensor: Tensor) -> Slot:
        slot = self._captured.get(id(tensor))
        if slot is None:
            slot = self.new_slot(tensor.shape, 0)
            self.values[slot] = tensor
            self.guards[slot] = Guard.of(tensor)
            self._captured[id(tensor)] = slot
            self._holders.setdefault(address(tensor), []).append(slot)
        return slot


def _collect(values: Iterable[Any], found: list[Slot]) -> None:
    """Adds the slots among values, which may be lists."""
    for value in values:
        if type(value) is Slot:
            found.append(value)
        elif isinstance(value, list | tuple):
            _collect(value, found)
