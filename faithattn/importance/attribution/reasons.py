"""Why a method that works by hooks on modules cannot be right on a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from faithattn.adapters.state import frozen
from faithattn.errors import AdapterError
from faithattn.importance.attribution.explained import Hooked

# What autograd calls an operation, and what it is called here.
_NONLINEAR = {
    **{"Softmax": "softmax", "LogSoftmax": "log_softmax", "Relu": "ReLU", "Gelu": "GELU"},
    **{"Silu": "SiLU", "Tanh": "tanh", "Sigmoid": "sigmoid", "Exp": "exp", "Pow": "powers"},
    **{"NativeLayerNorm": "layer norm", "MaxPool2DWithIndices": "max pooling", "Max": "maxima"},
    **{"MkldnnRnnLayer": "recurrent layers", "CudnnRnn": "recurrent layers", "Erf": "erf"},
    **{"ScaledDotProductAttentionMath": "attention", "Logsumexp": "logsumexp", "Div": "quotients"},
}
_PRODUCTS = ("Mul", "Bmm", "Mm")
_RULES = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}


def require_guidable(forward: Hooked, values: Tensor, rows: Tensor) -> None:
    """Raises unless the model has ReLU modules and no other ReLU."""
    calls, counted = _operations(forward, values, rows)
    inside = calls[nn.ReLU]
    if inside == 0 or counted["ReLU"] > inside:
        got = f"{counted['ReLU']} ReLU, {inside} of them by modules"
        raise AdapterError(
            f"model must compute every ReLU by an nn.ReLU module, and have one, for guided "
            f"backpropagation; got {got}. Use 'input_x_gradient', or make them modules."
        )


def incomplete(forward: Hooked, values: Tensor, rows: Tensor, gap: float) -> AdapterError:
    """The reason for attributions of DeepLift that miss a share of the change."""
    calls, counted = _operations(forward, values, rows)
    for name, kind in _RULES.items():
        counted[name] -= calls[kind]
    found = [name for name, count in counted.items() if count > 0]
    attention = (
        "" if forward.explained.detached else ", or hold the attention with detach_attention=True"
    )
    return AdapterError(
        "attributions of DeepLift must sum to the change of the output; got a gap of "
        f"{gap:.2g} of their total, as its rules know nn.ReLU, nn.Tanh and the like but not "
        f"what this model computes otherwise: {', '.join(found) or 'unknown'}. "
        f"Use 'integrated_gradients'{attention}."
    )


def _operations(
    forward: Hooked, values: Tensor, rows: Tensor
) -> tuple[Counter[type[nn.Module]], Counter[str]]:
    """Calls of modules by type, and operations by name, that the values go through."""
    calls: Counter[type[nn.Module]] = Counter()
    parts = [part for part in forward.modules() if type(part) in _RULES.values()]
    handles = [
        part.register_forward_hook(lambda part, *_: calls.update([type(part)])) for part in parts
    ]
    weights = list(forward.parameters())
    try:
        with frozen(weights):  # the graph is then that of the values alone
            output = forward(values.detach().clone().requires_grad_(), rows)
    finally:
        for handle in handles:
            handle.remove()
    return calls, Counter(name for node in _graph(output) for name in _named(node))


def _graph(output: Tensor) -> Iterator[Any]:
    """Every node behind an output."""
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _named(node: Any) -> Iterator[str]:
    kind = node.name().split("Backward")[0]
    moving = sum(following is not None for following, _ in node.next_functions)
    if kind in _NONLINEAR and (kind != "Div" or moving > 1):
        yield _NONLINEAR[kind]
    elif kind in _PRODUCTS and moving > 1:
        yield "products"
