"""A module evaluated as it should be, and left as it was."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from faithattn.errors import AdapterError


@contextmanager
def differentiating() -> Iterator[None]:
    """Records gradients whatever the caller's mode, torch.inference_mode() included."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def evaluating(module: nn.Module, parts: Iterable[nn.Module] | None = None) -> Iterator[None]:
    """Puts a module in eval mode; afterwards every part and the random state are as before.

    So are its buffers, where the model changes them in eval mode, too: every run
    starts alike. Several threads may evaluate one module: the last to leave gives
    everything back. What the model draws itself in eval mode is the same at every
    run.

    Args:
        module: What is evaluated.
        parts: All its parts, itself included, if they are known.
    """
    parts = list(module.modules() if parts is None else parts)
    states: list[_Random | _Buffers] = [
        *_generators_of(parts),
        *(_Buffers(part) for part in parts if part._buffers),
    ]
    taken = _take(states)
    try:
        differentiated = _recurrent_on_gpu(parts) if torch.is_grad_enabled() else []
        held = _hold(parts, differentiated)
        try:
            with _plain_recurrent(differentiated):
                yield
        finally:
            _release(held)
    finally:
        _give_back(states, taken)


_lock = threading.Lock()
_held: dict[int, tuple[nn.Module, bool, int]] = {}  # part, its own mode, how many evaluate it


def _hold(parts: list[nn.Module], differentiated: list[nn.RNNBase]) -> list[int]:
    """Sets the modes to evaluate in, and counts who needs them."""
    wanted = {id(part): part.dropout == 0 for part in differentiated}
    taken: list[int] = []
    with _lock:
        if not (_held or wanted or True in [part.training for part in parts]):
            return taken
        for part in parts:
            key, mode = id(part), wanted.get(id(part), False)
            known = _held.get(key)
            if known is None and part.training == mode:
                continue
            _, own, count = known or (part, part.training, 0)
            _held[key] = (part, own, count + 1)
            taken.append(key)
            part.training = mode
    return taken


def _release(taken: list[int]) -> None:
    with _lock:
        for key in taken:
            part, own, count = _held.pop(key)
            if count > 1:
                _held[key] = (part, own, count - 1)
            else:
                part.training = own


_first: dict[Any, tuple[Any, int]] = {}  # what the first of several found, and how many there are


def _take(states: Sequence[_Random | _Buffers]) -> list[Any]:
    """Takes down what is there."""
    with _lock:
        found = [state.take() for state in states]
        for state, own in zip(states, found, strict=True):
            first, count = _first.get(state.key, (own, 0))
            _first[state.key] = first, count + 1
    return found


def _give_back(states: Sequence[_Random | _Buffers], found: list[Any]) -> None:
    """Gives back what was there; the last of several at once, what was there before the first."""
    with _lock, ExitStack() as stack:
        for state, own in zip(states, found, strict=True):
            first, count = _first.pop(state.key)
            if count > 1:
                _first[state.key] = first, count - 1
            stack.callback(state.give, own if count > 1 else first)


class _Random:
    """The random state of the CPU, or of a GPU."""

    def __init__(self, gpu: int | None = None) -> None:
        self.key = "random state", gpu
        self._gpu = gpu

    def take(self) -> Tensor:
        return torch.get_rng_state() if self._gpu is None else torch.cuda.get_rng_state(self._gpu)

    def give(self, state: Any) -> None:
        if self._gpu is None:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, self._gpu)


def _generators_of(parts: list[nn.Module]) -> list[_Random]:
    """The random states that a module may draw from: that of the CPU and those of its GPUs."""
    gpus = set()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        weights = (weight for part in parts for weight in part._parameters.values())
        gpus = {each.device.index for each in weights if each is not None and each.is_cuda}
    return [_Random(), *map(_Random, sorted(gpus))]


_quiet: dict[int, weakref.ref[nn.Module]] = {}  # parts that were seen to leave their buffers alone


class _Buffers:
    """The buffers of a part; their content is copied until it is known not to change."""

    def __init__(self, part: nn.Module) -> None:
        self.key = id(part)
        self._part = part
        known = _quiet.get(self.key)
        self._quiet = known is not None and known() is part

    def take(self) -> dict[str, _Buffer | None]:
        return {
            name: None if buffer is None else _Buffer.of(buffer, copy=not self._quiet)
            for name, buffer in self._part._buffers.items()
        }

    def give(self, before: Any) -> None:
        changed = [each for each in before.values() if each is not None and each.changed()]
        now = self._part._buffers
        values = {name: None if each is None else each.value for name, each in before.items()}
        if now.keys() != values.keys() or any(now[name] is not values[name] for name in values):
            now.clear()
            now.update(values)
        elif not changed and not self._quiet:
            key = self.key
            _quiet[key] = weakref.ref(self._part, lambda _: _quiet.pop(key, None))
        for each in changed:
            each.restore()


class _Buffer(NamedTuple):
    """A buffer as it was."""

    value: Tensor
    version: int
    content: Tensor | None

    @classmethod
    def of(cls, value: Tensor, *, copy: bool) -> _Buffer:
        return cls(value, _version(value), value.detach().clone() if copy else None)

    def changed(self) -> bool:
        return _version(self.value) != self.version

    def restore(self) -> None:
        if self.content is None:
            raise AdapterError(
                "model must treat its buffers alike in every run; got one of shape "
                f"{tuple(self.value.shape)} that changed after runs that left it as it was. "
                "Keep such state out of the buffers."
            )
        with torch.no_grad():
            self.value.copy_(self.content)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; not counted in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def _recurrent_on_gpu(parts: list[nn.Module]) -> list[nn.RNNBase]:
    """CuDNN recurrent layers, which refuse to be differentiated in eval mode.

    Without dropout, train mode changes nothing but cuDNN's mind; with it,
    cuDNN is switched off.
    """
    return [
        part for part in parts if isinstance(part, nn.RNNBase) and next(part.parameters()).is_cuda
    ]


def _plain_recurrent(differentiated: list[nn.RNNBase]) -> AbstractContextManager[None]:
    """Without cuDNN where a layer that is differentiated has dropout."""
    if any(part.dropout for part in differentiated):
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


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
