"""Around Captum: what it draws, what it leaves behind, what it says when it fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from faithattn.errors import AdapterError
from faithattn.measures.draws import sort_keys

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_FAILURES = (
    *(AssertionError, RuntimeError, ValueError, IndexError, KeyError),
    *(TypeError, AttributeError, NotImplementedError),
)


@contextmanager
def drawing(seed: int, instance: Tensor) -> Iterator[None]:
    """Makes what Captum draws a function of seed and instance; the global states stay."""
    alone = torch.ones(1, 1, dtype=torch.bool, device=instance.device)
    key = int(sort_keys(seed, instance.reshape(1), 0, 1, alone))
    gpus = [instance.device] if instance.is_cuda else []
    state = np.random.get_state()  # noqa: NPY002 - the one that Captum draws from
    try:
        with torch.random.fork_rng(gpus):
            # torch.manual_seed would seed every device, also those whose state is not given back.
            torch.default_generator.manual_seed(key)
            if gpus:
                with torch.cuda.device(instance.device):
                    torch.cuda.manual_seed(key)
            np.random.seed(key >> 31)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextmanager
def untouched(parts: list[nn.Module]) -> Iterator[None]:
    """Gives modules their hooks and attributes back, whatever happens inside."""
    names = [set(part.__dict__) for part in parts]
    hooks = [{name: dict(getattr(part, name)) for name in _HOOKS} for part in parts]
    try:
        yield
    finally:
        for part, known, held in zip(parts, names, hooks, strict=True):
            for name in set(part.__dict__) - known:
                del part.__dict__[name]
            for name, before in held.items():
                now = getattr(part, name)
                if dict(now) != before:
                    now.clear()
                    now.update(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Captum's warnings about what is done here on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\.")
        yield


@contextmanager
def explained_failures(name: str) -> Iterator[None]:
    """Turns what Captum raises into one sentence about the model."""
    try:
        yield
    except (AdapterError, torch.OutOfMemoryError):
        raise
    except _FAILURES as error:
        first = (str(error).strip().splitlines() or [""])[0].strip().rstrip(".")
        raise AdapterError(
            f"{name} must be able to work on this model; got {type(error).__name__}: {first}. "
            "Use a method that asks for less, such as 'integrated_gradients'."
        ) from error
