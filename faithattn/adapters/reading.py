"""A model, run once and read: outputs, chosen rows, and what other rows would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from faithattn._memory import chunk_size
from faithattn.adapters.beside import BESIDE, beside
from faithattn.adapters.protocol import AttentionModel, Run, SupportsReplay
from faithattn.adapters.rows import Rows, choose_rows
from faithattn.adapters.torch_module.adapt import adapt
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.validate import require_replayed, validate_run
from faithattn.adapters.view import AttentionView, check_view
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
        known: What has been found out about it since, by name.
    """

    model: AttentionModel
    inputs: Any
    run: Run
    rows: Rows
    output: str
    outputs: Tensor
    predicted: Tensor
    known: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _ways: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def replayed(self) -> str:
        """How alternatives were computed so far.

        ``"none"`` before any; ``"adapter"`` by the adapter's replay(), or the
        name that it gives; ``"whole forwards"`` where run() was repeated.
        """
        if "replay" not in self._ways:
            return "whole forwards" if self._ways else "none"
        # An adapter whose replay may work in several ways says which it was.
        name_of = getattr(self.model, "replayed_by", None)
        return "adapter" if name_of is None else str(name_of(self.run.state))

    def replay(self, conditional: Tensor) -> Tensor:
        """Outputs ``(K, B, C)`` under rows ``(K, B, R, L)``; differentiable in them."""
        logits = self.replay_override(self.rows.override(conditional))
        return probabilities(logits, self.output)

    def replay_override(self, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, C)`` under attention ``(K, B, ...)`` of the chosen sites."""
        count = len(next(iter(attention.values())))
        if self.can_replay:
            self._ways.add("replay")
            logits: Tensor = self.model.replay(self.run.state, attention)  # type: ignore[attr-defined]
        else:
            each = [{name: value[k] for name, value in attention.items()} for k in range(count)]
            logits = torch.stack([self.run_again(attention=one) for one in each])
        require_replayed(logits, (count, *self.run.logits.shape))
        return logits

    def run_again(self, **overrides: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(B, C)`` of a whole forward with attention or features replaced."""
        self._ways.add("run")
        return self.model.run(self.inputs, **overrides).logits

    @cached_property
    def can_replay(self) -> bool:
        """Whether alternatives go without running the whole model."""
        return isinstance(self.model, SupportsReplay) and self.run.state is not None

    def held(self) -> Reading:
        """The same in one more run, under the ambient grad mode, with its attention as given."""
        run = self.model.run(self.inputs, attention=self.rows.attention)
        validate_run(run, support=False)
        return replace(self, run=run, known={}, _ways=set())

    def viewed(self, view: AttentionView | None) -> Reading:
        """The same run under another view of the sites that it looked at."""
        rows = choose_rows(self.run, view)
        same = rows.mask.shape == self.rows.mask.shape and torch.equal(rows.mask, self.rows.mask)
        of_model = {name: each for name, each in self.known.items() if name == BESIDE}
        return replace(self, rows=rows, known=self.known if same else of_model)

    def described(self) -> dict[str, Any]:
        """What every result says of the reading that it came from, by the names of its fields."""
        rows = self.rows
        return {
            "predicted": self.predicted,
            "max_attention": rows.max_attention,
            "mass": rows.mean_mass,
            "view": str(rows.view),
            "output": self.output,
            "replay": self.replayed,
        }

    def alternatives_at_once(self, *, bytes_per_element: int) -> int:
        """How many alternatives fit the memory budget: their weights, rows and logits."""
        held = [*self.rows.attention.values(), self.rows.conditional, self.run.logits]
        elements = sum(value.numel() for value in held)
        return chunk_size(elements, bytes_per_element=bytes_per_element)


def as_adapter(model: object) -> AttentionModel:
    """Returns an adapter as it is, and adapts a plain module."""
    if isinstance(model, type):
        raise TypeError(
            f"model must be a model, not its class; got the class {model.__name__}. "
            f"Make one: {model.__name__}(...)."
        )
    if isinstance(model, AttentionModel):
        return model
    if isinstance(model, nn.Module):
        return adapt(model)
    raise TypeError(
        f"model must be a torch.nn.Module or have a run method; got {type(model).__name__}. "
        "See faithattn.AttentionModel for the method to write."
    )


def read(
    model: object,
    inputs: Any,
    view: AttentionView | None = None,
    *,
    replay: int = 0,
    changes: bool = False,
) -> Reading:
    """Runs a model once, under the ambient grad mode, and checks what it says.

    ``replay`` announces that alternatives will be asked for, to adapters that
    can prepare for them; ``changes`` that changed inputs will be run.
    """
    check_view(view)
    adapter, asked = as_adapter(model), view
    known = {}
    if isinstance(adapter, TorchAdapter):
        view = adapter.recalled(view)
        names = None if view is None or view.names is None else frozenset(view.names)
        plain, adapter = adapter, adapter.focused(names, alternatives=replay)
        run = adapter.run(inputs)
        if view is not asked and not adapter.is_recalled(run.state):
            names = None if asked is None or asked.names is None else frozenset(asked.names)
            view, adapter = asked, plain.focused(names, alternatives=replay)
            run = adapter.run(inputs)
    else:
        started = beside(adapter, inputs) if changes else None
        if started is not None:
            known[BESIDE] = started
        run = adapter.run(inputs) if started is None else started.run
    validate_run(run, support=False)  # choosing rows checks that of the chosen sites
    rows = choose_rows(run, view)
    if isinstance(adapter, TorchAdapter):
        adapter.remember(asked, rows.view)
        adapter = adapter.focused(frozenset(rows.attention))
    output = resolve_output(getattr(adapter, "output", "auto"), run.logits.shape[-1])
    outputs = probabilities(run.logits.detach(), output)
    predicted = predicted_class(outputs, output)
    return Reading(adapter, inputs, run, rows, output, outputs, predicted, known)


def chosen_feature(reading: Reading) -> tuple[str, Tensor]:
    """The differentiable input that goes with the chosen sites."""
    features, view = reading.run.features, reading.rows.view
    if view.feature is not None:
        if view.feature not in features:
            raise AdapterError(
                f"view.feature must be a feature of the model; got {view.feature!r}, "
                f"and the features are {_named(features)}."
            )
        return view.feature, features[view.feature]
    told = getattr(reading.run.state, "feature_of", {})
    own = {told.get(site) for site in reading.rows.attention}
    length = reading.rows.mask.shape[1]
    fitting = {name: value for name, value in features.items() if value.shape[1] == length}
    named = {name: value for name, value in features.items() if name in own}
    if None in own:
        named = {}
    for found in (features, named, fitting):
        if len(found) == 1:
            return next(iter(found.items()))
    raise AdapterError(
        f"view must name the feature to attribute to; the model has {_named(features)}. "
        f"Use AttentionView({view.site!r}, feature=...)."
        if features
        else "features must hold the model's differentiable inputs; got none. "
        "Return them from run(), or pass embedding= to adapt()."
    )


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


def explained_class(reading: Reading, target: int | Tensor | None) -> Tensor:
    """The class or output ``(B,)`` that is explained; by default the predicted, or the only one.

    Raises:
        ValueError: If there are several outputs and none is the prediction.
    """
    if target is None and reading.output == "identity" and reading.outputs.shape[-1] == 1:
        return torch.zeros_like(reading.predicted)
    if target is None and (reading.predicted < 0).any():
        raise ValueError(
            "target must name an output where none is the prediction; got None for "
            f"{reading.outputs.shape[-1]} outputs of kind {reading.output!r}. Pass its number."
        )
    return resolve_target(target, reading)


def _named(features: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name!r} {tuple(value.shape)}" for name, value in features.items())
