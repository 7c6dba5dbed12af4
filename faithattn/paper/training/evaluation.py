"""Accuracy and loss of the published models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn._checks import require_count
from faithattn.adapters.state import evaluating
from faithattn.measures.outputs import predicted_class, probabilities, resolve_output
from faithattn.paper.data.examples import Example

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
Collate: TypeAlias = Callable[[Sequence[Example]], tuple[Inputs, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on examples.

    Attributes:
        accuracy: Share of examples predicted right, 0..1.
        loss: Mean cross entropy, in nats, every example counted once.
        n: Number of examples.
        macro_f1: Mean of F1 over classes or labels, 0..1; nan where it was not measured.
    """

    accuracy: float
    loss: float
    n: int
    macro_f1: float = math.nan


def evaluate(
    model: nn.Module, examples: Sequence[Example], *, collate: Collate, batch_size: int = 128
) -> Evaluation:
    """Measures accuracy and loss in eval mode, without gradients.

    Args:
        model: Maps collated inputs to logits ``(B, C)``.
        examples: Examples with labels.
        collate: Maps examples to the model's inputs and labels ``(B,)``.
        batch_size: Examples in a forward pass.

    Returns:
        Accuracy and mean loss. One logit predicts class 1 where it is positive.

    Raises:
        ValueError: If there is no example, or a label the model has no output for.
    """
    check_examples("examples", examples)
    require_count("batch_size", batch_size)
    loss, correct = 0.0, 0
    by_length = sorted(examples, key=text_length)
    with evaluating(model), torch.no_grad():
        for start in range(0, len(by_length), batch_size):
            inputs, labels = collated(model, by_length[start : start + batch_size], collate)
            logits = model(inputs)
            loss += float(losses(logits, labels).sum())
            correct += int((_predicted(logits) == labels).sum())
    return Evaluation(accuracy=correct / len(examples), loss=loss / len(examples), n=len(examples))


def text_length(example: Example) -> int:
    """Returns what batches are sorted by."""
    return len(example.tokens)


def collated(
    model: nn.Module, examples: Sequence[Example], collate: Collate
) -> tuple[Inputs, Tensor]:
    """Returns collated inputs and labels on the model's device."""
    device = next(model.parameters()).device
    inputs, labels = collate(examples)
    if isinstance(inputs, Tensor):
        return inputs.to(device), labels.to(device)
    return {key: value.to(device) for key, value in inputs.items()}, labels.to(device)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross entropy of each example."""
    n_classes = max(2, logits.shape[1])
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(
            f"labels must lie in 0..{n_classes - 1} for this model; got "
            f"{sorted(set(labels.tolist()))}. Number the classes from 0."
        )
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), reduction="none"
        )
    return F.cross_entropy(logits, labels, reduction="none")


def _predicted(logits: Tensor) -> Tensor:
    """Returns the predicted class of each example, as the four tests predict it."""
    output = resolve_output("auto", logits.shape[1])
    return predicted_class(probabilities(logits, output), output)


def check_examples(argument: str, examples: Sequence[Example]) -> None:
    """Raises if there is no example."""
    if not examples:
        raise ValueError(f"{argument} must hold an example; got none. Check the data and split.")
