"""Turns an operation that is about to run into a node of the tape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from faithattn.adapters.replay.geometry import Geometry
from faithattn.adapters.replay.memory import Slot
from faithattn.adapters.replay.refusal import (
    Traits,
    Unrecordable,
    check_call,
    check_plain,
    draws,
    tensors_in,
    traits,
)
from faithattn.adapters.replay.rules import VIEWS_IN_PLACE, Call, replayed, without_writing
from faithattn.adapters.replay.tape import Node, Tape

_as_strided = (torch.ops.aten.as_strided.default, torch.ops.aten.as_strided_.default)
_detach = torch.ops.aten.detach.default


@dataclass(frozen=True)
class Pending:
    """A dependent operation that is about to run."""

    call: Call | None
    view: Slot | None = None  # the value of the result, where it is known already
    written: tuple[Tensor, Geometry] | None = None
    turned: Tensor | None = None  # it becomes a view of itself
    fixed: tuple[int, ...] = ()  # results that do not depend on the attention
    sized: bool = False  # integers among the results are sizes
    detaches: bool = False


class Operations:
    """Writes operations to a tape, in two steps: before each runs, and after.

    Arguments are looked up before, as the operation may write into them;
    results are known after.
    """

    def __init__(self, tape: Tape, *, gradients: bool) -> None:
        self._tape = tape
        self._gradients = gradients  # on around the model
        self._silent: set[Slot] = set()

    def before(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pending | None:
        """What to record once the operation ran; None if it does not depend on the attention.

        Raises:
            Unrecordable: If its replay could be wrong.
        """
        tensors = list(tensors_in((args, kwargs)))
        for tensor in tensors:
            check_plain(tensor)
        depends = any(map(self._tape.depends, tensors))
        if not isinstance(func, OpOverload):
            if depends:
                raise Unrecordable(f"The higher-order operator {func} is not recorded.")
            return None
        known = traits(func)
        if draws(known, args, kwargs):
            raise Unrecordable(f"{known.name} draws random numbers.")
        written = _written(known, args, kwargs)
        for tensor in written:
            self._tape.protect(tensor)
        if not depends or known.shape_only:
            return None
        check_call(known, args, kwargs, self._tape.depends)
        self._check_gradients(tensors)
        if func in _as_strided:
            return Pending(None, view=self._strided(*args, **kwargs))
        if func in VIEWS_IN_PLACE:
            call = VIEWS_IN_PLACE[func], self._encode(args), self._encode(kwargs)
            return Pending(call, turned=args[0])
        if written:
            return self._writing(func, args, kwargs, written)
        return Pending(
            replayed(func, self._encode(args), self._encode(kwargs)),
            fixed=(1,) if known.name == "aten::_pack_padded_sequence" else (),
            sized=known.name.startswith("aten::_scaled_dot_product"),
            detaches=func is _detach,
        )

    def after(self, pending: Pending, result: Any) -> None:
        """Adds the node of an operation that has just run.

        Raises:
            Unrecordable: If its results are not all new tensors or views.
        """
        if pending.view is not None:
            self._tape.alias(result, pending.view)
        elif pending.written is not None:
            self._after_writing(pending, *pending.written)
        elif pending.turned is not None and pending.call is not None:
            slot = self._tape.new_slot(pending.turned.shape, 0)
            self._add(pending.call, (slot,), True)
            self._tape.alias(pending.turned, slot)
        elif pending.call is not None:
            single = isinstance(result, Tensor)
            if not single and not isinstance(result, tuple | list):
                raise Unrecordable("An operation returns a value that is not a tensor.")
            outputs = tuple(
                None if i in pending.fixed else self._define(value, pending.sized)
                for i, value in enumerate((result,) if single else result)
            )
            if pending.detaches:
                self._tape.note_detached(result)
            self._add(pending.call, outputs, single)

    def _add(self, call: Call, outputs: tuple[Slot | None, ...], single: bool) -> None:
        silent = self._is_silent()
        self._tape.nodes.append(Node(*call, outputs, single, silent))
        if silent:
            self._silent.update(slot for slot in outputs if slot is not None)

    def _is_silent(self) -> bool:
        return self._gradients and not torch.is_grad_enabled()

    def _strided(
        self,
        tensor: Tensor,
        size: Sequence[int],
        stride: Sequence[int],
        storage_offset: int | None = None,
    ) -> Slot:
        offset = tensor.storage_offset() if storage_offset is None else storage_offset
        return self._tape.strided(tensor, Geometry(tuple(size), tuple(stride), int(offset)))

    def _writing(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]
    ) -> Pending:
        if len(written) != 1 or not args or written[0] is not args[0] or traits(func).reshapes:
            raise Unrecordable(f"{traits(func).name} writes in a way that is not recorded.")
        target = written[0]
        without_writing(func, target, args, kwargs)  # refuses before anything is copied
        if not self._tape.depends(target):
            self._tape.adopt(target)
        function, plain_args, plain_kwargs = without_writing(func, target, args, kwargs)
        call = function, self._encode(plain_args), self._encode(plain_kwargs)
        return Pending(call, written=(target, Geometry.of(target)))

    def _after_writing(self, pending: Pending, target: Tensor, place: Geometry) -> None:
        if pending.call is None or Geometry.of(target) != place:
            raise Unrecordable("A tensor changes its shape in place.")
        slot = self._tape.new_slot(target.shape, target.numel() * target.element_size())
        self._add(pending.call, (slot,), True)
        self._tape.write(target, slot)

    def _define(self, value: Any, sized: bool) -> Slot | None:
        if isinstance(value, Tensor):
            check_plain(value)
            return self._tape.define(value)
        if value is None or (sized and isinstance(value, int)):
            return None
        raise Unrecordable("An operation returns a value that is not a tensor.")

    def _encode(self, values: Any) -> Any:
        """Arguments with slots in place of tensors."""
        if isinstance(values, Tensor):
            return self._tape.slot(values)
        if isinstance(values, list | tuple):
            return type(values)(map(self._encode, values))
        if isinstance(values, dict):
            return {name: self._encode(value) for name, value in values.items()}
        return values

    def _check_gradients(self, tensors: list[Tensor]) -> None:
        """Refuses a tensor made without gradients that has some: by a function of its own."""
        if not self._silent:
            return
        for tensor in tensors:
            # A mere view made without gradients says requires_grad, but has no origin.
            origin = tensor.grad_fn is not None and self._tape.depends(tensor)
            if origin and self._tape.slot(tensor) in self._silent:
                raise Unrecordable("A custom autograd function depends on the attention.")


def _written(known: Traits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that the operation writes into."""
    names = [known.arguments[i] for i in known.writes]
    positional = [args[i] for i in known.writes if i < len(args)]
    return list(tensors_in([positional, *(kwargs[name] for name in names if name in kwargs)]))
