"""All explanations by name: those of attention, controls, and importances to compare with."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from faithattn.adapters.state import differentiating
from faithattn.explanations import controls, layers, values, weights
from faithattn.explanations.asked import Asked, differentiable
from faithattn.importance.gradient import gradient_of
from faithattn.importance.leave_one_out import leave_one_out_of

Kind = Callable[[Asked], Tensor]

_ATTRIBUTION = "faithattn.importance.attribution"
_PREFIX = "captum:"


def _gradient_importance(asked: Asked) -> Tensor:
    reading = differentiable(asked.reading)
    with differentiating():
        return gradient_of(reading, True, asked.target)


def _leave_one_out(asked: Asked) -> Tensor:
    return leave_one_out_of(asked.reading, asked.removal, asked.target)


def _signed_leave_one_out(asked: Asked) -> Tensor:
    return leave_one_out_of(asked.reading, asked.removal, asked.target, signed=True)


KINDS: dict[str, Kind] = {
    "attention": weights.attention,
    "gradient_attention": weights.gradient_attention,
    "attention_gradient": weights.attention_gradient,
    "rollout": layers.rollout,
    "flow": layers.flow,
    "relevance": layers.relevance,
    "value_norm": values.value_norm,
    "effective": values.effective,
    "random": controls.random,
    "uniform": controls.uniform,
    "reversed": controls.reversed_attention,
    "position": controls.position,
    "position_reversed": controls.position_reversed,
    "frequency": controls.frequency,
    "gradient_importance": _gradient_importance,
    "leave_one_out": _leave_one_out,
    "signed_leave_one_out": _signed_leave_one_out,
}
# Kinds that differentiate what the model did: it is run with gradients from the outset.
GRADIENTS = frozenset(["gradient_attention", "attention_gradient", "gradient_importance"])


def kind_of(name: str, *, argument: str = "explanation") -> Kind:
    """The function of a name, which was given as ``argument``.

    Raises:
        ValueError: If no explanation has this name.
    """
    if name in KINDS:
        return KINDS[name]
    method = name.removeprefix(_PREFIX)
    known = _captum_methods()
    if method in known:
        return _captum(method)
    listed = ", ".join([*KINDS, *(f"{_PREFIX}{each}" for each in known)])
    raise ValueError(
        f"{argument} must be one of {listed}; got {name!r}. Pass scores (B, L) for any other."
    )


def _captum_methods() -> tuple[str, ...]:
    """Names of Captum's methods; none where Captum is not installed."""
    if find_spec(_ATTRIBUTION) is None or find_spec("captum") is None:
        return ()
    return tuple(import_module(f"{_ATTRIBUTION}.methods").METHODS)


def _captum(method: str) -> Kind:
    function: Any = import_module(f"{_ATTRIBUTION}.scores").captum_importance

    def scores(asked: Asked) -> Tensor:
        reading = asked.reading
        found: Tensor = function(
            reading.model,
            reading.inputs,
            method=method,
            view=reading.rows.view,
            target=asked.target,
            seed=asked.seed,
            instances=asked.instances,
        )
        return found

    return scores
