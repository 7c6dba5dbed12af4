"""A module evaluated as it should be, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def differentiating() -> Iterator[None]:
    """Records gradients whatever the caller's mode, torch.inference_mode() included."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module in eval mode and gives every submodule its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    with ExitStack() as stack:
        try:
            for part, _ in modes:
                part.training = False
            _allow_recurrent_backward(module, stack)
            yield
        finally:
            for part, mode in modes:
                part.training = mode


def _allow_recurrent_backward(module: nn.Module, stack: ExitStack) -> None:
    """Lets cuDNN recurrent layers be differentiated: they refuse to be in eval mode."""
    if not torch.is_grad_enabled():
        return
    for part in module.modules():
        if isinstance(part, nn.RNNBase) and next(part.parameters()).is_cuda:
            if part.dropout == 0:  # training mode then changes nothing but cuDNN's mind
                part.training = True
            else:
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))


def condition(parts: list[nn.Module]) -> dict[str, Any]:
    """What may not change: modes, flags, hooks, buffers and the random state."""
    return {
        "the model's mode": [part.training for part in parts],
        "the model's gradient flags": [
            weight.requires_grad for part in parts for weight in part.parameters(False)
        ],
        "the model's hooks": [
            len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts
        ],
        "the model's buffers": [_content(b) for part in parts for b in part.buffers(False)],
        "the global random state": _content(torch.random.get_rng_state()),
    }


def _content(buffer: Tensor) -> bytes:
    """Every bit of a tensor, so that nan equals nan."""
    flat = buffer.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()


@contextmanager
def modes_of(parts: list[nn.Module], wanted: list[bool]) -> Iterator[None]:
    """Puts each module in train (True) or eval mode; gives modes and buffers back."""
    modes = [part.training for part in parts]
    buffers = [(buffer, buffer.clone()) for part in parts for buffer in part.buffers(False)]
    try:
        for part, mode in zip(parts, wanted, strict=True):
            part.training = mode
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)


@contextmanager
def frozen(weights: list[nn.Parameter]) -> Iterator[None]:
    """Takes gradients off weights and gives each its own flag back."""
    flags = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)
