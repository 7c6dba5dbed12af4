"""Accuracy, F1 and loss of the published models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from faithattn._checks import require_count
from faithattn.adapters.state import evaluating
from faithattn.paper.data.examples import Example
from faithattn.paper.data.portions import portions
from faithattn.paper.training.loss import losses
from faithattn.paper.training.tally import Tally

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
Collate: TypeAlias = Callable[[Sequence[Example]], tuple[Inputs, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on examples.

    Attributes:
        accuracy: Share of examples predicted right, 0..1; of several labels,
            the share of all labels of all examples. Where labels are rare it is
            high whatever the model does: look at ``macro_f1``.
        loss: Mean cross entropy, in nats, every example counted once; of several
            labels the mean over labels.
        n: Number of examples.
        macro_f1: Mean F1 over classes or labels, 0..1. Those that neither occur
            nor are predicted are left out; 1 if that leaves none.
    """

    accuracy: float
    loss: float
    n: int
    macro_f1: float


def evaluate(
    model: nn.Module, examples: Sequence[Example], *, collate: Collate, batch_size: int = 128
) -> Evaluation:
    """Measures accuracy, F1 and loss in eval mode, without gradients.

    Args:
        model: Maps collated inputs to logits ``(B, C)``.
        examples: Examples with labels.
        collate: Maps examples to the model's inputs and classes ``(B,)``, int64,
            or which labels hold ``(B, C)``, bool.
        batch_size: Examples in a forward pass at most; fewer where texts are so
            long that they would leave the memory budget.

    Returns:
        Accuracy, macro F1 and mean loss. One logit predicts class 1 where it is
        positive, and each of several labels holds where its logit is.

    Raises:
        TypeError: If labels are neither int64 nor bool.
        ValueError: If there is no example, or a label the model has no output
            for, or the model's output does not go with such labels.
    """
    check_examples("examples", examples)
    require_count("batch_size", batch_size)
    loss, tally = 0.0, Tally()
    by_length = sorted(examples, key=text_length)
    with evaluating(model), torch.no_grad():
        for part in portions([text_length(each) for each in by_length], batch_size):
            inputs, labels = collated(model, by_length[part.start : part.stop], collate)
            logits = model(inputs)
            check_output(model, logits, labels)
            loss += float(losses(logits, labels).sum())
            tally.add(logits, labels)
    return Evaluation(
        accuracy=tally.accuracy(),
        loss=loss / len(examples),
        n=len(examples),
        macro_f1=tally.macro_f1(),
    )


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


def check_examples(argument: str, examples: Sequence[Example]) -> None:
    """Raises if there is no example."""
    if not examples:
        raise ValueError(f"{argument} must hold an example; got none. Check the data and split.")


def check_output(model: nn.Module, logits: Tensor, labels: Tensor) -> None:
    """Raises if a model of several logits says they mean something else than the labels."""
    given = getattr(model, "output", "auto")
    wanted, what = ("sigmoid", "labels") if labels.dtype == torch.bool else ("softmax", "classes")
    if logits.shape[1] > 1 and given in ("sigmoid", "softmax") and given != wanted:
        raise ValueError(
            f"model must have the output {wanted!r} for several {what}; got {given!r}. Make it "
            "with that output."
        )
