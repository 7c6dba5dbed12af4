"""A tap of the fewest lines: shows softmax outputs to a recorder, or replaces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from faithattn.adapters.replay.program import Program
from faithattn.adapters.replay.recorder import Recorder

Model = Callable[..., Tensor]


class Tap(TorchFunctionMode):
    """Names softmax calls a0, a1, ...; those in ``at`` (None: all) are marked."""

    def __init__(
        self,
        recorder: Recorder | None = None,
        override: Mapping[str, Tensor] | None = None,
        at: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.recorder, self.override, self.at = recorder, override or {}, at
        self.seen: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.recorder is not None:
            self.recorder.reads(func, (args, kwargs))
        out = func(*args, **kwargs)
        if func not in (torch.softmax, F.softmax, Tensor.softmax):
            return out
        name = f"a{len(self.seen)}"
        self.seen[name] = out
        if name in self.override:
            return self.override[name]
        if self.recorder is not None and (self.at is None or name in self.at):
            return self.recorder.mark(name, out)
        return out


def record(model: Model, *inputs: Any, at: tuple[str, ...] | None = None) -> Program:
    """The program of one forward."""
    recorder = Recorder()
    try:
        with Tap(recorder, at=at):
            logits = model(*inputs)
        return recorder.finish(logits)
    finally:
        recorder.abandon()


def whole(model: Model, *inputs: Any, alternatives: Mapping[str, Tensor]) -> Tensor:
    """The same by whole forwards, one an alternative."""
    outputs = []
    for each in zip(*alternatives.values(), strict=True):
        with Tap(override=dict(zip(alternatives, each, strict=True))):
            outputs.append(model(*inputs))
    return torch.stack(outputs)


def random_alternatives(
    model: Model, *inputs: Any, at: tuple[str, ...] | None = None, count: int = 8
) -> dict[str, Tensor]:
    """Random weights for every site, or for those named, ``(K, ...)`` each."""
    with torch.no_grad(), Tap() as tap:
        model(*inputs)
    generator = torch.Generator().manual_seed(7)
    return {
        name: (3 * torch.randn(count, *row.shape, generator=generator, dtype=torch.float64))
        .softmax(-1)
        .to(row.dtype)
        for name, row in tap.seen.items()
        if at is None or name in at
    }


def assert_same_as_whole(
    model: Model,
    *inputs: Any,
    at: tuple[str, ...] | None = None,
    batched: bool | None = None,
    tolerance: float = 1e-10,
) -> Program:
    """Replays of random alternatives equal whole forwards, batched and one by one."""
    alternatives = random_alternatives(model, *inputs, at=at)
    expected = whole(model, *inputs, alternatives=alternatives)
    program = record(model, *inputs, at=at)
    torch.testing.assert_close(program(alternatives), expected, rtol=tolerance, atol=tolerance)
    if batched is not None:
        assert program._chunked is batched
    for index in range(2):
        one = {name: stack[index : index + 1] for name, stack in alternatives.items()}
        torch.testing.assert_close(
            program(one), expected[index : index + 1], rtol=tolerance, atol=tolerance
        )
    return program
