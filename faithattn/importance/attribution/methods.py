"""Captum's methods by name, class or instance, and what each of them takes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from captum import attr
from captum.attr import Attribution
from torch import nn

from faithattn._checks import require_count

Named: TypeAlias = "str | type[Attribution] | Attribution"
LAYER = "layer_integrated_gradients"

METHODS: dict[str, type[Attribution]] = {
    "saliency": attr.Saliency,
    "input_x_gradient": attr.InputXGradient,
    "integrated_gradients": attr.IntegratedGradients,
    LAYER: attr.LayerIntegratedGradients,
    "deep_lift": attr.DeepLift,
    "deep_lift_shap": attr.DeepLiftShap,
    "gradient_shap": attr.GradientShap,
    "guided_backprop": attr.GuidedBackprop,
    "feature_ablation": attr.FeatureAblation,
    "occlusion": attr.Occlusion,
    "shapley_value_sampling": attr.ShapleyValueSampling,
    "kernel_shap": attr.KernelShap,
    "lime": attr.Lime,
    "feature_permutation": attr.FeaturePermutation,
}
# These treat every instance alike, alone or in a batch, and draw nothing.
_TOGETHER = ("saliency", "input_x_gradient", "integrated_gradients", "guided_backprop")
_OURS = (
    *("inputs", "baselines", "target", "additional_forward_args", "feature_mask"),
    *("return_convergence_delta", "sliding_window_shapes", "return_input_shape"),
)
# Of 0 of these some methods make nan, and others say that the model does not fit.
_COUNTS = (
    *("n_steps", "n_samples", "nt_samples", "window"),
    *("internal_batch_size", "perturbations_per_eval", "nt_samples_batch_size"),
)


@dataclass(frozen=True)
class Method:
    """One of Captum's methods.

    Attributes:
        name: What it is called in results.
        kind: Its class; of a noise tunnel, that of the method inside.
        build: Makes it for a forward function.
        accepts: What its ``attribute`` takes.
    """

    name: str
    kind: type[Attribution]
    build: Callable[[nn.Module], Attribution]
    accepts: frozenset[str]

    @property
    def together(self) -> bool:
        """Whether several instances may share a call without a trace in their values."""
        return self.name in (*_TOGETHER, "feature_ablation")

    @property
    def across(self) -> bool:
        """Whether it compares instances with each other."""
        return issubclass(self.kind, attr.FeaturePermutation)

    @property
    def hooks(self) -> bool:
        """Whether it works by hooks on modules."""
        return self.rescales or self.guides or issubclass(self.kind, attr.LRP)

    @property
    def rescales(self) -> bool:
        """Whether it is DeepLift, whose rules must account for the whole change."""
        return issubclass(self.kind, attr.DeepLift)

    @property
    def guides(self) -> bool:
        """Whether it changes the gradient of ReLU modules."""
        return issubclass(self.kind, attr.GuidedBackprop | attr.Deconvolution)

    @property
    def differentiates(self) -> bool:
        """Whether it needs gradients."""
        return issubclass(self.kind, attr.GradientAttribution)

    @property
    def from_many(self) -> bool:
        """Whether its baselines are a distribution."""
        return issubclass(self.kind, attr.GradientShap | attr.DeepLiftShap)

    @property
    def by_position(self) -> bool:
        """Whether it gives one number a position, not one a dimension."""
        return bool(self.accepts & {"feature_mask", "sliding_window_shapes"})


def find_method(method: Named) -> Method:
    """The method of a name, a Captum class, or an instance of one."""
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(
                f"method must be one of {', '.join(METHODS)}, or a Captum class or instance; "
                f"got {method!r}. 'integrated_gradients' needs nothing but gradients."
            )
        return _of_class(METHODS[method], method)
    if isinstance(method, type) and issubclass(method, Attribution):
        named = [name for name, kind in METHODS.items() if kind is method]
        return _of_class(method, named[0] if named else method.__name__)
    if isinstance(method, Attribution):
        return _of_instance(method)
    raise TypeError(
        f"method must be a name or a class or instance of captum.attr; got "
        f"{type(method).__name__}. Pass 'integrated_gradients', for instance."
    )


def check_options(method: Method, options: Mapping[str, Any]) -> None:
    """Raises for an option that the method does not take, or that is decided here."""
    allowed = sorted(method.accepts - set(_OURS))
    if "sliding_window_shapes" in method.accepts:
        allowed.append("window")
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise TypeError(
            f"options must be what {method.name} takes: {', '.join(allowed) or 'none'}; "
            f"got {', '.join(unknown)}. Leave the others out."
        )
    for name in _COUNTS:
        if options.get(name) is not None:
            require_count(name, options[name])


def _of_class(kind: type[Attribution], name: str) -> Method:
    if name != LAYER:
        _require_inputs(kind)
    return Method(name, kind, kind, _accepted(kind))


def _of_instance(instance: Attribution) -> Method:
    """A method that works as an instance does, on another forward function."""
    inner = getattr(instance, "attribution_method", None)
    chain = [instance, inner] if isinstance(inner, Attribution) else [instance]
    kinds = [type(each) for each in chain]
    for kind in kinds:
        _require_inputs(kind)
    accepts = frozenset().union(*map(_accepted, kinds))
    name = " of ".join(kind.__name__ for kind in kinds)
    return Method(name, kinds[-1], lambda forward: _rebuilt(instance, forward), accepts)


def _rebuilt(instance: Attribution, forward: nn.Module) -> Attribution:
    """A deep copy of an instance and of the one inside, with another forward function."""
    chain = [instance, getattr(instance, "attribution_method", None)]
    known = [getattr(each, name, None) for each in chain for name in ("forward_func", "model")]
    # What is known to the memo is not copied: forward functions may hold whole models.
    rebuilt = copy.deepcopy(instance, {id(each): forward for each in known if each is not None})
    for each in (rebuilt, getattr(rebuilt, "attribution_method", None)):
        for name in ("forward_func", "model"):
            if name in getattr(each, "__dict__", {}):
                setattr(each, name, forward)
    return rebuilt


def _accepted(kind: type[Attribution]) -> frozenset[str]:
    parameters = list(inspect.signature(kind.attribute).parameters.values())[1:]
    return frozenset(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)


def _require_inputs(kind: type[Attribution]) -> None:
    """Raises for classes that attribute to something else than tensors that go in."""
    layered = issubclass(kind, attr.LayerAttribution | attr.NeuronAttribution | attr.GuidedGradCam)
    if layered or not (_accepted(kind) & {"inputs"}):
        what = "a layer" if layered else "something else"
        raise TypeError(
            f"method must attribute to inputs; got {kind.__name__}, which attributes to {what}. "
            f"Use {LAYER!r}, or name the layer with adapt(embedding=...)."
        )
