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
from faithattn.adapters.replay.refusal import Unrecordable


class Slot(int):
    """The number of a value: a constant, an alternative, or the result of a node."""


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


@dataclass
class Memory:
    """A storage with at least one attention-dependent element, and its content in the replay.

    Attributes:
        alive: Keeps the address from being given to another storage.
        dtype: How it is read; other readings of its bytes are refused.
        whole: Content, as the value that covers all of it at a place.
        writes: Places written since the storage became known, in order.
        detached: A view of it passes no gradients on.
    """

    alive: StorageWeakRef
    dtype: torch.dtype
    whole: tuple[Slot, Geometry]
    writes: list[Geometry] = field(default_factory=list)
    detached: bool = False


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
        if slot is None or not all(map(place.disjoint, memory.writes[seen:])):
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
        owner = tensor if tensor._base is None else tensor._base
        place = Geometry.of(owner)
        if place.order() is None or place.offset or owner.dtype != tensor.dtype:
            owner = _whole_storage(tensor)
            place = Geometry.of(owner)
        slot = self.new_slot(owner.shape, 0)
        self.values[slot] = attached_clone(owner)
        self.guards[slot] = None
        alive = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        self._memories[at] = Memory(alive, tensor.dtype, (slot, place))

    def write(self, tensor: Tensor, slot: Slot) -> None:
        """Notes that a tensor's elements were overwritten by a value."""
        memory, place = self._memories[address(tensor)], Geometry.of(tensor)
        if not place.injective() or tensor.dtype != memory.dtype or tensor.is_conj():
            raise Unrecordable("Elements that share memory, or are read in two ways, are written.")
        if place.order() is not None and _covers(place, memory):
            memory.whole = slot, place
        elif tensor.numel():
            flat = self._flat(memory)
            length = self.shapes[flat]
            if place.end > length.numel():
                raise Unrecordable("Memory beyond the known elements is written.")
            written = self.new_slot(length, length.numel() * tensor.element_size())
            self.nodes.append(Node(write, (flat, slot, place), {}, (written,)))
            memory.whole = written, Geometry((length.numel(),), (1,), 0)
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

    def _read(self, memory: Memory, place: Geometry) -> Slot:
        slot, whole = memory.whole
        if whole == place:
            return slot
        flat = self._flat(memory)
        if place.end > self.shapes[flat].numel():
            raise Unrecordable("Memory beyond the known elements is read.")
        view = self.new_slot(torch.Size(place.size), 0)
        self.nodes.append(Node(region, (flat, place), {}, (view,)))
        return view

    def _flat(self, memory: Memory) -> Slot:
        """The content of a storage as one run of elements."""
        slot, place = memory.whole
        order = place.order()
        if order is None or place.offset:
            raise Unrecordable("The layout of a tensor that shares memory is not known.")
        if len(order) == 1:
            return slot
        length = torch.Size([self.shapes[slot].numel()])
        flat = self.new_slot(length, 0)
        self.nodes.append(Node(flatten, (slot, order), {}, (flat,)))
        memory.whole = flat, Geometry(tuple(length), (1,), 0)
        return flat

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


def address(tensor: Tensor) -> Any:
    """What tells one storage from another; None for a tensor that has none."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else None


def attached_clone(tensor: Tensor) -> Tensor:
    """A copy that gradients pass through, although operations are intercepted below autograd."""
    if not tensor.requires_grad or not torch.is_grad_enabled():
        return tensor.detach().clone()
    with torch.overrides.enable_reentrant_dispatch():
        return tensor.clone()


def _whole_storage(tensor: Tensor) -> Tensor:
    """All elements of a tensor's storage in a row."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise Unrecordable("Part of a larger memory that carries gradients is written.")
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.detach().as_strided((count,), (1,), 0)


def _covers(place: Geometry, memory: Memory) -> bool:
    _, whole = memory.whole
    return place.offset == whole.offset and place.end == whole.end
