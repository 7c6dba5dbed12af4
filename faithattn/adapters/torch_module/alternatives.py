"""Logits under other attention: by what was recorded, or by whole forwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from faithattn.adapters.replay.agreement import agree
from faithattn.adapters.replay.program import Program
from faithattn.adapters.replay.refusal import Unrecordable
from faithattn.adapters.torch_module.calls import check_reached
from faithattn.adapters.torch_module.dependence import dependent
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Request


@dataclass
class State:
    """What replay needs of a run.

    Attributes:
        request: What the run was asked for.
        size: Number of instances.
        features: Its features.
        real: By site, which positions are no padding.
        feature_of: By site, the feature whose positions are its keys, where that is known.
        places: Names of all calls that were come by.
        program: What depends on the attention, once it is recorded.
        refusal: Why it could not be recorded.
    """

    request: Request
    size: int
    features: Mapping[str, Tensor]
    real: Mapping[str, Tensor]
    feature_of: Mapping[str, str]
    places: frozenset[str]
    program: Program | None
    refusal: str


def replayed(runner: Runner, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
    """Logits ``(K, B, C)`` under attention ``(K, B, ...)``."""
    count, names = _count(state, attention), frozenset(attention)
    recorded = state.program is not None and frozenset(state.program.inputs) == names
    if not recorded and not state.refusal and count > 1:
        _record(runner, state, names, count)
        recorded = state.program is not None
    if recorded:
        try:
            logits: Tensor = state.program(attention)
            _require_replayed(runner, state, attention, logits)
            return logits
        except Unrecordable as reason:
            state.program, state.refusal = None, str(reason)
    alternatives = [{name: each[k] for name, each in attention.items()} for k in range(count)]
    return torch.stack([_decoded(runner, state, each) for each in alternatives])


def _count(state: Any, attention: Mapping[str, Tensor]) -> int:
    """The number K of alternatives, of which there must be as many for every site."""
    if not isinstance(state, State):
        raise TypeError(f"state must be that of a run; got {type(state).__name__}. Use run.state.")
    if not attention:
        raise ValueError("attention must name a site to replace; got none. Pass one tensor.")
    shapes = {name: tuple(each.shape) for name, each in attention.items()}
    counts = {shape[:1] for shape in shapes.values()}
    sizes = {shape[1:2] for shape in shapes.values()}
    if len(counts) > 1 or counts & {(), (0,)} or sizes != {(state.size,)}:
        raise ValueError(
            "attention must hold K alternatives for each of the B instances, (K, B, ...), here "
            f"with B = {state.size}; got {shapes}. For a single one, pass weights[None]."
        )
    return int(next(iter(counts))[0])


def _require_replayed(
    runner: Runner, state: State, attention: Mapping[str, Tensor], logits: Tensor
) -> None:
    """Raises Unrecordable if a whole forward gives something else; tried once for a site."""
    known, names = runner.plan.replayed, frozenset(attention)
    if names in known or is_functorch_wrapped_tensor(logits):
        return
    with torch.no_grad():
        last = {name: each[-1].detach() for name, each in attention.items()}
        same = agree(_decoded(runner, state, last), logits[-1].detach())
    if not same:
        known[names] = False
        raise Unrecordable("A whole forward gives other logits than the replay.")
    if len(logits) > 1 and not agree(logits[0].detach(), logits[-1].detach()):
        known[names] = True  # else nothing is known: the alternatives change nothing


def _record(runner: Runner, state: State, names: frozenset[str], count: int) -> None:
    """Runs the model once more to record what depends on these sites."""
    kept = {name: each for name, each in state.request.attention.items() if name not in names}
    request = replace(
        state.request, only=names, attention=kept, features=state.features, alternatives=count
    )
    if runner.worth(request) == 0:
        return
    done = runner.forward(request, state.size)
    check_reached("attention", dict.fromkeys(names), {each.place.name for each in done.seen})
    done = dependent(runner, done)
    state.program, state.refusal = done.program, done.refusal


def _decoded(runner: Runner, state: State, attention: Mapping[str, Tensor]) -> Tensor:
    """Logits of one alternative, from a run of the whole model."""
    request = replace(
        state.request,
        attention={**state.request.attention, **attention},
        features=state.features,
        alternatives=0,
    )
    done = runner.forward(request, state.size)
    check_reached("attention", attention, {each.place.name for each in done.seen})
    return done.logits
