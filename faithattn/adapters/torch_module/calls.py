"""Calling a module: what it takes, what replaces its tensors, what it gives back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs.masks import is_tokenizer
from faithattn.adapters.inputs.source import without_extras, without_special_tokens
from faithattn.adapters.inputs.structure import batch_size, described
from faithattn.errors import AdapterError
from faithattn.measures.outputs import OUTPUTS

Call = Callable[[nn.Module, Any], Any]
Override = Tensor | Callable[[Tensor], Tensor]


def check_options(
    model: Any, call: Any, logits: Any, mask: Any, output: str, *, site: Any, embedding: Any
) -> None:
    """Raises for options of adapt() that cannot work with any inputs."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module; got {type(model).__name__}. "
            "Write a class with a run method for anything else."
        )
    for name, path in (("site", site), ("embedding", embedding)):
        if path is not None and not isinstance(path, str):
            raise TypeError(
                f"{name} must be a str, the path of a module; got {path!r}. "
                "Take it from model.named_modules()."
            )
    for name, option, use in (
        ("call", call, "lambda model, inputs: ..."),
        ("logits", logits, "lambda returned: ..."),
    ):
        if option is not None and not callable(option):
            raise TypeError(
                f"{name} must be a function; got {option!r}. Use adapt(model, {name}={use})."
            )
    known = mask is None or callable(mask) or is_tokenizer(mask) or isinstance(mask, Tensor | int)
    if not known or isinstance(mask, bool):
        raise TypeError(
            f"mask must be a function of the inputs, a padding id, a tokenizer or a tensor; "
            f"got {mask!r}. "
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
        if call is not None:
            return call(model, without_special_tokens(inputs))
        return _by_kind(model, inputs)
    except torch.OutOfMemoryError:
        raise  # says nothing about the inputs, and callers catch it by its type
    except (RuntimeError, IndexError, TypeError, ValueError, AssertionError) as error:
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
        return model(**without_extras(inputs, _accepted(model)))
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _accepted(model: nn.Module) -> frozenset[str] | None:
    """Names of the arguments of a module's forward; None if they cannot be told."""
    return _parameters(getattr(model.forward, "__func__", model.forward))


@lru_cache(maxsize=64)
def _parameters(function: Callable[..., Any]) -> frozenset[str] | None:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def feature(given: Tensor | None, value: Tensor, name: str) -> Tensor:
    """The embedded input to go on with; a leaf where gradients are on and none flows yet."""
    if given is not None and given.shape != value.shape:
        raise AdapterError(
            f"features[{name!r}] must have the shape of the embeddings, "
            f"{tuple(value.shape)}; got {tuple(given.shape)}. Start from run(inputs).features."
        )
    used = value if given is None else given
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    if torch.is_grad_enabled() and not used.requires_grad and not transformed:
        return used.detach().requires_grad_()
    return used


def replacement(given: Override | None, value: Tensor, name: str) -> Tensor:
    """The weights to go on with: those given, if they fit, or the model's own."""
    if given is None:
        return value
    new = given if isinstance(given, Tensor) else _computed(given, value, name)
    if not isinstance(new, Tensor) or new.shape != value.shape:
        got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise AdapterError(
            f"attention[{name!r}] must have the shape of the site, {tuple(value.shape)}; "
            f"got {got}. Start from run(inputs).attention."
        )
    return new.to(value)


def _computed(function: Callable[[Tensor], Tensor], value: Tensor, name: str) -> Tensor:
    """What a function makes of the weights; its errors are its own, not the model's."""
    try:
        return function(value)
    except (RuntimeError, IndexError, TypeError, ValueError, AssertionError) as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise AdapterError(
            f"attention[{name!r}] must be weights or a function of them; "
            f"got {type(error).__name__} from it: {first}. Weights are {tuple(value.shape)} here."
        ) from error


def check_reached(what: str, given: Mapping[str, Any] | None, present: set[str]) -> None:
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
