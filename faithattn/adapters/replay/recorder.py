"""Records, during one forward, the operations that depend on marked attention weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from faithattn.adapters.replay.listener import Listener, modes
from faithattn.adapters.replay.memory import Guard, Slot
from faithattn.adapters.replay.operations import Operations
from faithattn.adapters.replay.program import Program
from faithattn.adapters.replay.refusal import (
    READS,
    Unrecordable,
    check_plain,
    tensors_in,
    traits,
)
from faithattn.adapters.replay.tape import Tape


@dataclass(frozen=True)
class _Mark:
    """A site that became an input, with what the model had computed there."""

    slot: Slot
    weights: Tensor
    guard: Guard | None


class Recorder:
    """One forward's recording, from the first marked tensor to the logits.

    Nothing here disturbs the model: what cannot be recorded sets ``refused``,
    and the model goes on unrecorded. Before the first mark there is no mode and
    no cost. Whoever makes a recorder calls `abandon` in the end, whatever
    happened.

    Args:
        limit: Most operations to record, where more are not worth it.

    Attributes:
        refused: Why this forward cannot be replayed; None as long as it can.
        exceeded: Whether that is because the limit was.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.refused: str | None = None
        self.exceeded = False
        self._limit = limit
        self._tape = Tape()
        self._operations = Operations(self._tape, gradients=False)
        self._marks: dict[str, _Mark] = {}
        self._gradients = False  # on around the model, at the first mark
        self._toggled = False  # the model turned gradients on or off itself
        self._paused = False
        self._heard = False
        self._listener = Listener(self._dispatch)
        self._outside = modes()
        self._thread = threading.get_ident()

    def mark(self, name: str, weights: Tensor) -> Tensor:
        """Makes a site's weights an input of the program.

        Args:
            name: The site; one mark each.
            weights: Its weights, any shape.

        Returns:
            What the model must go on with: a contiguous copy, attached to the
            graph when gradients are on; ``weights`` if recording was refused.
        """
        if self.refused is None:
            self._attempt(self._check_mark, name, weights)
        if self.refused is not None:
            return weights
        self._paused = True
        try:
            fresh = weights.clone(memory_format=torch.contiguous_format)
            recorded = weights.detach()
        finally:
            self._paused = False
        if not self._marks:
            self._gradients = torch.is_grad_enabled()
            self._operations = Operations(self._tape, gradients=self._gradients)
            self._listener.start()
        self._marks[name] = _Mark(self._tape.define(fresh), recorded, Guard.of(recorded))
        return fresh

    def reads(self, func: Any, args: Any) -> None:
        """Notes a function call that dispatched operations may not show; never raises.

        Args:
            func: What the model calls, as ``__torch_function__`` is given it.
            args: Its arguments, in any nesting.
        """
        if not self._marks or self.refused is not None:
            return
        if func is torch._C._set_grad_enabled:
            self._toggled = True
        elif func in READS and any(map(self._tape.depends, tensors_in(args))):
            name = getattr(func, "__name__", str(func))
            self._refuse(f"{name} reads a tensor that depends on the attention.")

    def finish(self, logits: Tensor) -> Program:
        """The program from the marked weights to the logits, verified.

        Args:
            logits: What the model returned, any shape.

        Raises:
            Unrecordable: If there is none.
        """
        if self.refused is None and self._marks and not self._hears():
            self._refuse("Part of the model ran where its operations are not heard.")
        self.abandon()
        if self.refused is None and not self._marks:
            self.refused = "No attention was marked."
        if self.refused is not None:
            raise Unrecordable(self.refused)
        if not all(mark.guard is None or mark.guard.holds() for mark in self._marks.values()):
            raise Unrecordable("The model writes into its attention weights.")
        check_plain(logits)
        program = Program(
            self._tape,
            {name: mark.slot for name, mark in self._marks.items()},
            self._tape.slot(logits),
            gradients=self._gradients,
            differentiable=self._gradients or not self._toggled,
        )
        program.verify({name: mark.weights for name, mark in self._marks.items()}, logits.detach())
        return program

    def abandon(self) -> None:
        """Stops listening. May be called at any time and more than once."""
        self._listener.stop()

    def _hears(self) -> bool:
        """Whether operations still arrive: what torch.compile has wrapped may end that."""
        self._heard = False
        torch.zeros(()).neg()
        return self._heard

    def _check_mark(self, name: str, weights: Tensor) -> None:
        check_plain(weights)
        if weights.layout != torch.strided:
            raise Unrecordable("Attention weights are not strided.")
        if name in self._marks:
            raise Unrecordable(f"The site {name} is reached twice.")
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise Unrecordable("The forward runs inside a torch.func transform.")
        if threading.get_ident() != self._thread:
            raise Unrecordable("The model runs in several threads.")
        if modes() != [*self._outside, *([self._listener] if self._marks else [])]:
            raise Unrecordable("The model enters a dispatch mode of its own.")

    def _refuse(self, reason: str) -> None:
        """Gives up recording; what was recorded is let go at once."""
        self.refused = reason
        self._tape = Tape()
        self._operations = Operations(self._tape, gradients=False)
        self._marks.clear()

    def _dispatch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operation and records it if it depends on the attention."""
        self._heard = True
        if self._paused or self.refused is not None:
            return func(*args, **kwargs)
        if isinstance(func, OpOverload) and traits(func).composite:
            with self._listener:  # inference mode hands over operations before their parts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        # Python code in an operation's kernel would be seen by the tap a second time.
        with torch._C.DisableTorchFunction():
            pending = self._attempt(self._operations.before, func, args, kwargs)
            result = func(*args, **kwargs)
            if pending is not None:
                self._attempt(self._operations.after, pending, result)
                self._check_limit()
        return result

    def _check_limit(self) -> None:
        if self._limit is not None and len(self._tape.nodes) > self._limit:
            self.exceeded = True
            self._refuse(
                f"More than {self._limit} operations depend on the attention, which is not worth "
                "recording for so few alternatives."
            )

    def _attempt(self, step: Callable[..., Any], *args: Any) -> Any:
        """A step of recording; whatever goes wrong in it is no concern of the model."""
        if self.refused is not None:
            return None
        try:
            return step(*args)
        except Unrecordable as reason:
            self._refuse(str(reason))
        except Exception as error:
            self._refuse(f"Recording failed with {error!r}.")
        return None
