"""What a tap cannot see through, and the way out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import nn

from faithattn.errors import AdapterError

_CHECKPOINT = "torch/utils/checkpoint.py"


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel and DistributedDataParallel.

    Its weights are the same; inside the wrappers its calls are compiled away
    or made in other threads.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
            inner = model.module if parallel else None
        if inner is None:
            return model
        model = inner


def refuse_hidden(model: nn.Module, *, chosen: bool) -> None:
    """Raises for parts that hide their calls, unless a visible site was chosen."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and not (chosen and name):
            raise AdapterError(
                "model must not be scripted or traced, which hides its attention; "
                f"got {type(part).__name__} at {name or 'the model itself'!r}. "
                "Adapt the module it was made from, or name a site outside it with adapt(model, site=...)."
            )
        if isinstance(part, nn.DataParallel) and len(part.device_ids) > 1:
            raise AdapterError(
                "model must run in one thread; "
                f"got nn.DataParallel on {len(part.device_ids)} devices at {name!r}. "
                "Put its .module in its place."
            )


@contextmanager
def eager() -> Iterator[None]:
    """Runs compiled functions as they were written; a no-op where nothing is compiled."""
    with _stance():
        yield


def _stance() -> AbstractContextManager[Any]:
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def inside_checkpoint(frame: FrameType | None) -> bool:
    """Whether a caller of this frame is torch.utils.checkpoint."""
    while frame is not None:
        if frame.f_code.co_filename.endswith(_CHECKPOINT):
            return True
        frame = frame.f_back
    return False


def refuse_checkpoint(name: str, where: str) -> NoReturn:
    """Raises: the backward pass would compute the attention again, unseen."""
    raise AdapterError(
        f"model must not checkpoint activations where gradients are taken; got {name!r} ({where}) "
        "inside torch.utils.checkpoint. Turn it off, for instance with "
        "model.gradient_checkpointing_disable()."
    )
