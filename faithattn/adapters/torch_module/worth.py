"""Whether recording is worth it: counted, never timed, so that a result does not depend on it."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from faithattn.adapters.inputs.structure import tensors_of
from faithattn.adapters.torch_module.plan import Names, Plan

# Orders of magnitude of a CPU core, in seconds; a GPU has about the same cost of a call.
_RECORDED = 80e-6  # an operation that is recorded
_CALLED = 10e-6  # a function of torch
_MULTIPLIED = 4e-11  # a multiplication and addition
_TRY = 0.1  # share of the whole forwards to spend on finding out
_KNOWN = 0.5  # share of them that recording may cost where its size is known
_PIXELS = 256  # of a usual patch


def operations_worth(
    plan: Plan, module: nn.Module, inputs: Any, names: Names, alternatives: int
) -> int:
    """How many operations are worth recording for this many alternatives.

    Where an earlier run has counted them, enough for all or 0.
    """
    forwards = alternatives * _forward_cost(plan, module, inputs)
    known = plan.recorded.get(names)
    if known is None:
        return math.floor(_TRY * forwards / _RECORDED)
    return 2 * known if known * _RECORDED <= _KNOWN * forwards else 0


def _forward_cost(plan: Plan, module: nn.Module, inputs: Any) -> float:
    """What a whole forward takes at least."""
    if plan.weights is None:
        plan.weights = sum(
            weight.numel()
            for part in module.modules()
            if not isinstance(part, nn.Embedding)
            for weight in part.parameters(recurse=False)
            if weight.ndim > 1
        )
    positions = max((_positions(each.shape) for each in tensors_of(inputs)), default=1)
    return max(plan.functions * _CALLED, plan.weights * positions * _MULTIPLIED)


def _positions(shape: tuple[int, ...]) -> int:
    """Rows that the weights of a layer are multiplied by."""
    if len(shape) == 4:
        return max(1, shape[0] * shape[2] * shape[3] // _PIXELS)
    return shape[0] * shape[1] if len(shape) > 1 else 1
