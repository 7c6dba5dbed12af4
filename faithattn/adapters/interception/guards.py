"""What a tap cannot see through, and the way out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from faithattn.errors import AdapterError

_CHECKPOINT = "torch/utils/checkpoint.py"
_OWN_BACKWARD = "torch/autograd/function.py"


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel and DistributedDataParallel.

    Its weights are the same; inside the wrappers its calls are compiled away
    or made in other threads.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def refuse_hidden(model: nn.Module, *, chosen: bool) -> None:
    """Raises for parts that hide their calls, unless a visible site was chosen."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and not (chosen and name):
            raise AdapterError(
                "model must not be scripted or traced, which hides its attention; "
                f"got {type(part).__name__} at {name or 'the model itself'!r}. "
                "Adapt the module it was made from, or name a site outside it with "
                "adapt(model, site=...)."
            )
        if any(is_lazy(weight) for weight in part.parameters(recurse=False)):
            raise AdapterError(
                "model must have all its weights; "
                f"got {type(part).__name__} at {name or 'the model itself'!r}, which makes them "
                "when it is first called. Call model(inputs) once before."
            )
        if isinstance(part, nn.DataParallel) and len(part.device_ids) > 1:
            raise AdapterError(
                "model must run in one thread; "
                f"got nn.DataParallel on {len(part.device_ids)} devices at {name!r}. "
                "Put its .module in its place."
            )


class _Eager:
    """Runs compiled functions as they were written while anyone asks for it.

    The stance is that of all threads, so only the first to come takes it and
    only the last to leave gives the caller's back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stance: Any = None

    def enter(self) -> None:
        """Takes the stance, where anything can be compiled."""
        with self._lock:
            if self._stance is None and "torch._dynamo" in sys.modules:
                self._stance = torch.compiler.set_stance("force_eager")
            self._users += 1

    def leave(self) -> None:
        """Gives the stance back with the last user."""
        with self._lock:
            self._users -= 1
            if not self._users and self._stance is not None:
                stance, self._stance = self._stance, None
                stance.__exit__(None, None, None)


_eager = _Eager()


@contextmanager
def eager() -> Iterator[None]:
    """Runs compiled functions as they were written; a no-op where nothing is compiled."""
    _eager.enter()
    try:
        yield
    finally:
        _eager.leave()


def refuse_recomputed(frame: FrameType | None, base: FrameType | None, name: str) -> None:
    """Raises where gradients would not go through weights that a forward computes.

    Args:
        frame: Who computes them.
        base: Who runs the model: what its callers do is their affair.
        name: Name and line for the message.
    """
    while frame is not None and frame is not base:
        file = frame.f_code.co_filename
        if file.endswith(_CHECKPOINT):
            raise AdapterError(
                f"model must not checkpoint activations where gradients are taken; got {name} "
                "inside torch.utils.checkpoint, whose backward computes them again, unseen. "
                "Turn it off, for instance with model.gradient_checkpointing_disable(), or run "
                "under torch.no_grad()."
            )
        if file.endswith(_OWN_BACKWARD) and not torch.is_grad_enabled():
            raise AdapterError(
                f"model must compute attention where gradients can follow it; got {name} inside a "
                "torch.autograd.Function, whose own backward knows nothing of a replacement. "
                "Write its forward out, or run under torch.no_grad()."
            )
        frame = frame.f_back
