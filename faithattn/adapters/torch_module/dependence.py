"""Whether the logits depend on the attention, asked again where a recording says they do not."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from faithattn.adapters.replay.agreement import agree
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Pass
from faithattn.errors import AdapterError


def dependent(runner: Runner, done: Pass) -> Pass:
    """The pass; without its program, if that misses how the logits depend on the sites.

    Raises:
        AdapterError: If they do not depend on them, by a whole forward either.
    """
    program = done.program
    if program is None or set(program.unused) != set(program.inputs):
        return done
    other = {**done.request.attention, **dict.fromkeys(program.inputs, _turned)}
    request = replace(done.request, attention=other, alternatives=0)
    with torch.no_grad():
        changed = runner.forward(request, done.size).logits
    if agree(done.logits.detach(), changed.detach()):
        raise AdapterError(
            "logits must depend on the attention; got none that does on "
            f"{', '.join(map(repr, program.inputs))}. Name the site that the model uses."
        )
    runner.plan.replayed[frozenset(program.inputs)] = False
    return replace(
        done, program=None, refusal="The recording misses what the weights are used for."
    )


def _turned(weights: Tensor) -> Tensor:
    """Other weights of the same sum."""
    return weights.roll(1, -1)
