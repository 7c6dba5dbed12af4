"""What an explanation is asked for, and averages over the chosen rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, explained_class, read
from faithattn.adapters.rows import Rows
from faithattn.adapters.state import differentiating
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.errors import AdapterError
from faithattn.importance.leave_one_out import Removal
from faithattn.measures.outputs import class_probability, probabilities


@dataclass(frozen=True)
class Asked:
    """A reading, and the options of an explanation.

    Attributes:
        reading: The model, run.
        target: Class to explain; None is the prediction.
        seed: Of what is drawn.
        instances: Ids of the rows, ``(B,)``.
        removal: How positions are taken away, where they are.
    """

    reading: Reading
    target: int | Tensor | None = None
    seed: int | None = 0
    instances: Tensor | None = None
    removal: Removal = "delete"


def differentiable(reading: Reading) -> Reading:
    """The reading, or another one of the same that carries gradients.

    Raises:
        AdapterError: If the model turns gradients off.
    """
    if not reading.run.logits.requires_grad:
        with differentiating():
            reading = read(reading.model, reading.inputs, reading.rows.view)
    require_gradient(reading, reading.run.logits)
    return reading


def require_gradient(reading: Reading, logits: Tensor) -> None:
    """Raises for logits that cannot be differentiated."""
    if logits.requires_grad:
        return
    model = reading.model.model if isinstance(reading.model, TorchAdapter) else reading.model
    raise AdapterError(
        f"logits must carry gradients where gradients are enabled; those of {type(model).__name__} "
        "do not. Take torch.no_grad() and detach() out of its forward."
    )


def target_probability(asked: Asked, logits: Tensor) -> Tensor:
    """Probability of the target ``(B,)``; of regression its output."""
    outputs = probabilities(logits, asked.reading.output)
    return class_probability(outputs, _classes(asked), asked.reading.output)


def target_logit(asked: Asked, logits: Tensor) -> Tensor:
    """The target's logit ``(B,)``; of one sigmoid minus the logit for class 0."""
    classes = _classes(asked)
    if asked.reading.output == "sigmoid" and logits.shape[-1] == 1:
        return logits[:, 0] * (2 * classes - 1)
    return logits.gather(1, classes[:, None])[:, 0]


def _classes(asked: Asked) -> Tensor:
    """The class or output ``(B,)`` that is explained; none of inference mode, for a gradient."""
    return explained_class(asked.reading, asked.target).clone()


def weights_of(rows: Rows) -> Tensor:
    """Weights ``(B, R, L)`` at the positions that can be explained, 0 elsewhere."""
    return rows.conditional * rows.mass[..., None]


def split(rows: Rows, values: Tensor) -> Tensor:
    """Values ``(B, R, ...)`` of rows as ``(B, sites, heads, queries, ...)``."""
    return values.reshape(len(values), *rows.shape, *values.shape[2:])


def mean_of_queries(rows: Rows, values: Tensor) -> Tensor:
    """Mean of ``(B, sites, queries, L)`` over the rows that are no padding, ``(B, L)``."""
    counted = split(rows, rows.counted)[:, :, 0]
    total = counted.flatten(1).sum(1).clamp_min(1)
    kept = torch.where(counted[..., None], values, 0).flatten(1, 2).sum(1)
    return (kept / total[:, None]).masked_fill(~rows.mask, 0)
