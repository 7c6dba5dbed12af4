"""Whether recording is worth it: counted, never timed, so that a result does not depend on it."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from faithattn.adapters.inputs.structure import tensors_of
from faithattn.adapters.torch_module.plan import Plan

# Orders of magnitude of a CPU core, in seconds; a GPU has about the same cost of a call.
_RECORDED = 150e-6  # an operation that is recorded
_RUN = 500e-6  # what a run costs however small the model is
_CALLED = 20e-6  # what a module calls
_MULTIPLIED = 4e-11  # a multiplication and addition
_FEWEST = 10  # operations that may lie between attention and logits, else there is no point
_SHARE = 0.15  # of the whole forwards, estimated low, that recording may cost
_PIXELS = 256  # of a usual patch


def operations_worth(plan: Plan, module: nn.Module, inputs: Any, alternatives: int) -> int:
    """How many operations are worth recording for this many alternatives.

    Depends on the model and the batch alone, not on earlier runs: the same
    call goes the same way.
    """
    if plan.weights is None:
        plan.weights = sum(
            weight.numel()
            for part in module.modules()
            if not isinstance(part, nn.Embedding)
            for weight in part.parameters(recurse=False)
            if weight.ndim > 1
        )
    positions = max((_positions(each.shape) for each in tensors_of(inputs)), default=1)
    forward = _RUN + max(len(plan.parts) * _CALLED, plan.weights * positions * _MULTIPLIED)
    count = math.floor(_SHARE * alternatives * forward / _RECORDED)
    return count if count >= _FEWEST else 0


def _positions(shape: tuple[int, ...]) -> int:
    """Rows that the weights of a layer are multiplied by."""
    if len(shape) == 4:
        return max(1, shape[0] * shape[2] * shape[3] // _PIXELS)
    return shape[0] * shape[1] if len(shape) > 1 else 1
