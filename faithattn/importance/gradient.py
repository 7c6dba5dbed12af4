"""Gradient importance: gradient times input, of the output probability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, chosen_feature, read, resolve_target
from faithattn.adapters.state import differentiating
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.view import AttentionView
from faithattn.errors import AdapterError
from faithattn.measures.outputs import class_probability, probabilities

_REQUIRE = "Call .requires_grad_() on it in run(), or do not detach it."
_COMPUTE = "Compute them from the features that run() returns."
_CUT = (
    "Take out what cuts it in the model's forward, such as detach(), or name another feature: "
    "adapt(model, embedding=...)."
)


def gradient_importance(
    model: object,
    inputs: Any,
    *,
    view: AttentionView | None = None,
    detach_attention: bool = True,
    target: int | Tensor | None = None,
) -> Tensor:
    """Importance of each position by gradient times input.

    The absolute value of the sum over the embedding of gradient times
    embedding, where the gradient is that of the target's probability. By
    default no gradient flows through the attention weights, as published.
    Without a target, several independent labels (or regression outputs) give
    the sum of their absolute values.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        view: Which attention is held fixed; not needed for one row.
        detach_attention: Whether the attention is held fixed.
        target: Class to explain, an int or ``(B,)``; None is the prediction.

    Returns:
        Importance ``(B, L)``, zero or more, 0 outside the mask.

    Raises:
        AdapterError: If the model has no differentiable input.
        ValueError: If ``target`` is no class of the model.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.1.

    Examples:
        >>> import torch
        >>> from faithattn import adapt
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> gradient_importance(model, torch.tensor([[2, 5, 6, 7, 3]])).shape
        torch.Size([1, 5])
    """
    with differentiating():
        reading = read(model, inputs, view, replay=int(detach_attention))
        return gradient_of(reading, detach_attention, target)


def gradient_of(reading: Reading, detach_attention: bool, target: int | Tensor | None) -> Tensor:
    """Gradient importance from a reading that carries gradients."""
    name, feature = chosen_feature(reading)
    _matches_mask(name, feature, reading.rows.mask)
    leaf, logits = _differentiable(reading, name, feature, detach_attention)
    outputs = probabilities(logits, reading.output)
    several = reading.output != "softmax" and outputs.shape[-1] > 1
    if target is None and several:
        explained = [outputs[:, label] for label in range(outputs.shape[-1])]
    elif several or reading.output == "identity":
        classes = (
            reading.predicted.clamp_min(0) if target is None else resolve_target(target, reading)
        )
        explained = [outputs.gather(1, classes[:, None])[:, 0]]
    else:
        classes = resolve_target(target, reading)
        explained = [class_probability(outputs, classes, reading.output)]
    total = torch.zeros(feature.shape[:2], dtype=outputs.dtype, device=outputs.device)
    for index, value in enumerate(explained):
        gradient = _gradient(reading, value, leaf, name, retain=index + 1 < len(explained))
        total += (gradient * leaf.detach()).sum(-1).abs()
    mask = reading.rows.mask
    total = torch.nn.functional.pad(total, (0, mask.shape[1] - total.shape[1]))
    return total.masked_fill(~mask, 0)


def _differentiable(
    reading: Reading, name: str, feature: Tensor, detach: bool
) -> tuple[Tensor, Tensor]:
    """The tensor to differentiate by, and logits that depend on it."""
    if not feature.requires_grad:
        raise AdapterError(
            f"features[{name!r}] must carry gradients where gradients are enabled; got a tensor "
            f"without. {_remedy(reading, _REQUIRE)}"
        )
    if not detach:
        return feature, reading.run.logits
    weights = reading.rows.attention
    if reading.can_replay:
        return feature, reading.replay_override({n: w[None] for n, w in weights.items()})[0]
    leaf = feature.detach().requires_grad_()
    return leaf, reading.run_again(attention=weights, features={name: leaf})


def _gradient(reading: Reading, value: Tensor, leaf: Tensor, name: str, *, retain: bool) -> Tensor:
    """Gradient of the instances' values; instances do not influence each other."""
    if not value.requires_grad:
        raise AdapterError(
            f"logits must depend on features[{name!r}]; got logits without gradient. "
            f"{_remedy(reading, _COMPUTE)}"
        )
    (gradient,) = torch.autograd.grad(value.sum(), leaf, retain_graph=retain, allow_unused=True)
    if gradient is None:
        raise AdapterError(
            f"logits must depend on features[{name!r}]; got no path between them. "
            + (_CUT if isinstance(reading.model, TorchAdapter) else _COMPUTE)
        )
    return gradient


def _remedy(reading: Reading, otherwise: str) -> str:
    """What to do about a missing gradient: a module's author wrote no run()."""
    if not isinstance(reading.model, TorchAdapter):
        return otherwise
    return (
        f"The forward of {type(reading.model.model).__name__} turns gradients off "
        "(torch.no_grad): take the decorator off, or use loo_correlation, which needs none."
    )


def _matches_mask(name: str, feature: Tensor, mask: Tensor) -> None:
    """The mask may be longer by keys that are no input, such as a learned one: all False."""
    size, length = feature.shape[:2]
    if size != len(mask) or length > mask.shape[1] or mask[:, length:].any():
        raise AdapterError(
            f"features[{name!r}] must be as long as the mask, {tuple(mask.shape)}; "
            f"got {tuple(feature.shape)}. Name another feature in the view."
        )
