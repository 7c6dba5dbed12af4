"""A model, run once and read: outputs, chosen rows, and what other rows would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.protocol import AttentionModel, Run, SupportsReplay
from faithattn.adapters.rows import Rows, choose_rows
from faithattn.adapters.torch_module.torch_adapter import adapt
from faithattn.adapters.validate import require_replayed, validate_run
from faithattn.adapters.view import AttentionView
from faithattn.errors import AdapterError
from faithattn.measures.outputs import predicted_class, probabilities, resolve_output


@dataclass(frozen=True)
class Reading:
    """One run of a model and everything a metric asks of it.

    Attributes:
        model: The adapter that was run.
        inputs: What it was run on.
        run: Its run, validated.
        rows: The attention rows that are the explanation.
        output: How logits become outputs, never ``"auto"``.
        outputs: Probabilities (or regression outputs) ``(B, C)``, detached.
        predicted: Predicted class ``(B,)``; -1 where there is none.
    """

    model: AttentionModel
    inputs: Any
    run: Run
    rows: Rows
    output: str
    outputs: Tensor
    predicted: Tensor

    def replay(self, conditional: Tensor) -> Tensor:
        """Outputs ``(K, B, C)`` under rows ``(K, B, R, L)``; differentiable in them."""
        logits = self.replay_override(self.rows.override(conditional))
        return probabilities(logits, self.output)

    def replay_override(self, attention: Tensor) -> Tensor:
        """Logits ``(K, B, C)`` under site attention ``(K, B, ...)``."""
        site = self.rows.view.site
        if isinstance(self.model, SupportsReplay) and self.run.state is not None:
            logits = self.model.replay(self.run.state, {site: attention})
        else:
            runs = [self.model.run(self.inputs, attention={site: each}) for each in attention]
            logits = torch.stack([run.logits for run in runs])
        require_replayed(logits, (len(attention), *self.run.logits.shape))
        return logits


def as_adapter(model: object) -> AttentionModel:
    """Returns an adapter as it is, and adapts a plain module."""
    if isinstance(model, AttentionModel):
        return model
    if isinstance(model, nn.Module):
        return adapt(model)
    raise TypeError(
        f"model must be a torch.nn.Module or have a run method; got {type(model).__name__}. "
        "See faithattn.AttentionModel for the method to write."
    )


def read(model: object, inputs: Any, view: AttentionView | None = None) -> Reading:
    """Runs a model once, under the ambient grad mode, and checks what it says."""
    adapter = as_adapter(model)
    run = adapter.run(inputs)
    validate_run(run)
    rows = choose_rows(run, view)
    output = resolve_output(getattr(adapter, "output", "auto"), run.logits.shape[-1])
    outputs = probabilities(run.logits.detach(), output)
    return Reading(adapter, inputs, run, rows, output, outputs, predicted_class(outputs, output))


def chosen_feature(reading: Reading) -> tuple[str, Tensor]:
    """The differentiable input that goes with the chosen site."""
    features = reading.run.features
    name = reading.rows.view.feature
    if name is None:
        if len(features) == 1:
            return next(iter(features.items()))
        raise AdapterError(
            f"view must name the feature to attribute to; the model has {_named(features)}. "
            f"Use AttentionView({reading.rows.view.site!r}, feature=...)."
            if features
            else "features must hold the model's differentiable inputs; got none. "
            "Return them from run(), or pass embedding= to adapt()."
        )
    if name not in features:
        raise AdapterError(
            f"view.feature must be a feature of the model; got {name!r}, "
            f"and the features are {_named(features)}."
        )
    return name, features[name]


def resolve_target(target: int | Tensor | None, reading: Reading) -> Tensor:
    """The classes ``(B,)`` whose probability is explained; predicted ones by default."""
    if target is None:
        return reading.predicted
    size, count = reading.outputs.shape
    if reading.output == "sigmoid" and count == 1:
        count = 2
    device = reading.predicted.device
    if isinstance(target, Tensor):
        if target.shape != (size,) or target.is_floating_point() or target.dtype == torch.bool:
            raise ValueError(
                f"target must be an int or one class per instance, shape ({size},), int64; "
                f"got {target.dtype} {tuple(target.shape)}. Pass target=None for the prediction."
            )
        classes = target.to(device).long()
    elif isinstance(target, int) and not isinstance(target, bool):
        classes = torch.full((size,), target, device=device)
    else:
        raise TypeError(f"target must be an int, a tensor or None; got {target!r}. Pass a class.")
    if ((classes < 0) | (classes >= count)).any():
        raise ValueError(
            f"target must be a class from 0 to {count - 1}; got {classes.tolist()[:8]}. "
            "Check the label numbering."
        )
    return classes


def _named(features: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name!r} {tuple(value.shape)}" for name, value in features.items())
