"""Calling a module: what it takes, what replaces its tensors, what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs.structure import batch_size, described
from faithattn.adapters.interception.site import Site
from faithattn.errors import AdapterError
from faithattn.measures.outputs import OUTPUTS

Call = Callable[[nn.Module, Any], Any]


def check_options(model: Any, call: Any, logits: Any, mask: Any, output: str) -> None:
    """Raises for options of adapt() that cannot work with any inputs."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module; got {type(model).__name__}. "
            "Write a class with a run method for anything else."
        )
    for name, option, use in (
        ("call", call, "lambda model, inputs: ..."),
        ("logits", logits, "lambda returned: ..."),
    ):
        if option is not None and not callable(option):
            raise TypeError(
                f"{name} must be a function; got {option!r}. Use adapt(model, {name}={use})."
            )
    known = mask is None or callable(mask) or isinstance(mask, Tensor | int)
    if not known or isinstance(mask, bool):
        raise TypeError(
            f"mask must be a function of the inputs, a padding id or a tensor; got {mask!r}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    if output not in OUTPUTS:
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}; got {output!r}. Leave it out for auto."
        )


def called(call: Call | None, model: nn.Module, inputs: Any) -> Any:
    """What the model returns; a failure in it names the inputs it was given."""
    if call is None:
        _check_inputs(inputs)
    try:
        return (call or _by_kind)(model, inputs)
    except torch.OutOfMemoryError:
        raise  # says nothing about the inputs, and callers catch it by its type
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise AdapterError(
            f"model must accept these inputs; got {type(error).__name__}: {first} "
            f"(inputs {described(inputs)}). Call model(inputs) by itself to see where."
        ) from error


def _check_inputs(inputs: Any) -> None:
    """Inputs that can be passed on to a module as they are."""
    if not isinstance(inputs, Tensor | tuple | Mapping):
        raise TypeError(
            f"inputs must be a tensor, tuple or mapping; got {type(inputs).__name__}. "
            "Use torch.tensor(...), or adapt(model, call=...)."
        )
    if batch_size(inputs) == 0:
        raise ValueError(
            f"inputs must hold at least one instance; got {described(inputs)}. "
            "Leave out empty batches."
        )


def _by_kind(model: nn.Module, inputs: Any) -> Any:
    """Passes a mapping as keywords, a tuple as positions."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def feature(given: Tensor | None, value: Tensor, site: Site) -> Tensor:
    """The embedded input to go on with; a leaf where gradients are on and none flows yet."""
    if given is not None and given.shape != value.shape:
        raise AdapterError(
            f"features[{site.name!r}] must have the shape of the embeddings, "
            f"{tuple(value.shape)}; got {tuple(given.shape)}. Start from run(inputs).features."
        )
    used = value if given is None else given
    if torch.is_grad_enabled() and not used.requires_grad:
        return used.detach().requires_grad_()
    return used


def replacement(given: Tensor | None, value: Tensor, site: Site) -> Tensor:
    """The weights to go on with: those given, if they fit, or the model's own."""
    if given is None:
        return value
    if given.shape != value.shape:
        raise AdapterError(
            f"attention[{site.name!r}] must have the shape of the site, {tuple(value.shape)}; "
            f"got {tuple(given.shape)}. Start from run(inputs).attention."
        )
    return given.to(value.dtype)


def check_reached(what: str, given: Mapping[str, Tensor] | None, present: set[str]) -> None:
    """Raises for an override that the model never came to."""
    missed = set(given or ()) - present
    if missed:
        raise AdapterError(
            f"{what} must name what the model has: {sorted(present)}; "
            f"got {sorted(missed)}, which was never reached."
        )


def logits_of(returned: Any) -> Tensor:
    """The logits in what a model returns."""
    for candidate in (returned, getattr(returned, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    if isinstance(returned, tuple | list) and returned and isinstance(returned[0], Tensor):
        return returned[0]
    raise AdapterError(
        f"model must return logits as a tensor, in .logits or first in a tuple; "
        f"got {type(returned).__name__}. Pass adapt(model, logits=function)."
    )
