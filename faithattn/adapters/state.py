"""A module evaluated as it should be, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


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
    """What may not change: modes, flags, hooks and buffers."""
    return {
        "mode": [part.training for part in parts],
        "gradient flags": [p.requires_grad for part in parts for p in part.parameters(False)],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts],
        "buffers": [b.double().sum().item() for part in parts for b in part.buffers(False)],
    }


@contextmanager
def training_mode(parts: list[nn.Module]) -> Iterator[None]:
    """Puts modules in train mode and gives each its own mode back."""
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = True
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


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
