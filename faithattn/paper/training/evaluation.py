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
from faithattn.paper.data.portions import portions

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
Collate: TypeAlias = Callable[[Sequence[Example]], tuple[Inputs, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on examples.

    Attributes:
        accuracy: Share of examples predicted right, 0..1; of several labels,
            the share of labels.
        loss: Mean cross entropy, in nats, every example counted once; of
            several labels, their mean.
        n: Number of examples.
        macro_f1: Mean of F1 = 2 TP / (2 TP + FP + FN) over classes or labels,
            0..1; those that no example has and none is given are left out; nan
            where nothing is left.
    """

    accuracy: float
    loss: float
    n: int
    macro_f1: float = math.nan


def evaluate(
    model: nn.Module, examples: Sequence[Example], *, collate: Collate, batch_size: int = 128
) -> Evaluation:
    """Measures accuracy, F1 and loss in eval mode, without gradients.

    Args:
        model: Maps collated inputs to logits ``(B, C)``.
        examples: Examples with labels.
        collate: Maps examples to the model's inputs and their classes ``(B,)``,
            int64, or labels ``(B, C)``, bool.
        batch_size: Examples in a forward pass at most; fewer where texts are so
            long that they would leave the memory budget.

    Returns:
        What was measured. One logit predicts class 1 where it is positive; so
        does each of several labels.

    Raises:
        ValueError: If there is no example, or a label the model has no output for.
    """
    check_examples("examples", examples)
    require_count("batch_size", batch_size)
    loss, right, counts = 0.0, 0.0, _Counts()
    by_length = sorted(examples, key=text_length)
    with evaluating(model), torch.no_grad():
        for part in portions([text_length(each) for each in by_length], batch_size):
            inputs, labels = collated(model, by_length[part.start : part.stop], collate)
            logits = model(inputs)
            each = losses(logits, labels)
            loss += float(each.mean(-1).sum() if each.ndim == 2 else each.sum())
            found = _predicted(logits, labels)
            same = found == labels
            right += float(same.double().mean(-1).sum()) if same.ndim == 2 else int(same.sum())
            counts.add(found, labels, max(2, logits.shape[1]))
    n = len(examples)
    return Evaluation(accuracy=right / n, loss=loss / n, n=n, macro_f1=counts.macro_f1())


class _Counts:
    """True and false positives and false negatives of each class or label."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def add(self, found: Tensor, labels: Tensor, n_classes: int) -> None:
        """Counts a batch of classes ``(B,)`` or labels ``(B, C)``."""
        if labels.ndim == 1:
            found, labels = F.one_hot(found, n_classes).bool(), F.one_hot(labels, n_classes).bool()
        each = [found & labels, found & ~labels, ~found & labels]
        counts = torch.stack([flags.sum(0) for flags in each])
        self.counts = counts if self.counts is None else self.counts + counts

    def macro_f1(self) -> float:
        """The mean of F1 over classes that some example has or is given."""
        if self.counts is None:
            return math.nan
        hits, wrong, missed = self.counts.double()
        total = 2 * hits + wrong + missed
        return float((2 * hits / total)[total > 0].mean())


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
    """Returns the cross entropy of each example ``(B,)``, or of each label ``(B, C)``."""
    if labels.dtype == torch.bool:
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels must have a column for each of the model's {logits.shape[1]} outputs; got "
                f"{tuple(labels.shape)}. Make the model with as many labels."
            )
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
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


def _predicted(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the predicted class of each example, as the four tests do, or its labels."""
    if labels.dtype == torch.bool:
        return logits > 0
    output = resolve_output("auto", logits.shape[1])
    return predicted_class(probabilities(logits, output), output)


def check_examples(argument: str, examples: Sequence[Example]) -> None:
    """Raises if there is no example."""
    if not examples:
        raise ValueError(f"{argument} must hold an example; got none. Check the data and split.")
