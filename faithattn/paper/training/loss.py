"""Cross entropy of a class or of several labels, and weights that make classes count alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn.paper.data.examples import Example


class ClassWeights:
    """Weights that make classes count alike, or of each label those with it and those without.

    Their mean over the examples is 1. A label that no example has, or every
    one, is not weighted.

    Args:
        examples: The examples, of one class each or of several labels each.

    Examples:
        >>> weights = ClassWeights([Example(("a",), label) for label in (0, 0, 0, 1)])
        >>> weights.of(torch.tensor([0, 1]), torch.zeros(2))
        tensor([0.6667, 2.0000])
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._n = len(examples)
        self._labels = Counter(number for each in examples for number in set(each.labels or ()))
        counts = Counter(example.label for example in examples)
        self._classes = {label: self._n / (len(counts) * count) for label, count in counts.items()}

    def of(self, labels: Tensor, like: Tensor) -> Tensor:
        """Returns a weight for each label.

        Args:
            labels: Classes ``(B,)``, int64, or which labels hold ``(B, C)``, bool.
            like: Has the dtype and device of the weights.

        Returns:
            Weights in the shape of ``labels``.
        """
        if labels.dtype != torch.bool:
            return like.new_tensor([self._classes.get(label, 1.0) for label in labels.tolist()])
        counts = [self._labels[number] for number in range(labels.shape[1])]
        weighted = [count if 0 < count < self._n else self._n / 2 for count in counts]
        held = like.new_tensor([self._n / (2 * count) for count in weighted])
        others = like.new_tensor([self._n / (2 * (self._n - count)) for count in weighted])
        return torch.where(labels, held, others)


def losses(logits: Tensor, labels: Tensor, weights: ClassWeights | None = None) -> Tensor:
    """Cross entropy of each example.

    Args:
        logits: Model output, shape ``(B, C)``.
        labels: Classes ``(B,)``, int64, 0 or 1 where C is 1; or which of C
            independent labels hold ``(B, C)``, bool.
        weights: Makes classes count alike.

    Returns:
        Losses in nats, shape ``(B,)``; of several labels the mean over labels.

    Raises:
        TypeError: If labels have another dtype.
        ValueError: If a label is out of range, or labels have another shape.

    Examples:
        >>> logits = torch.tensor([[0.0, 2.0]])
        >>> losses(logits, torch.tensor([1])), losses(logits, torch.tensor([[False, True]]))
        (tensor([0.1269]), tensor([0.4100]))
    """
    each = _each(logits, labels)
    if weights is not None:
        each = each * weights.of(labels, each)
    return each if each.ndim == 1 else each.mean(1)


def _each(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the loss of each class or label, in the shape of the labels."""
    if labels.dtype == torch.bool:
        _check_several(logits, labels)
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    _check_classes(logits, labels)
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.to(logits.dtype), reduction="none"
        )
    return F.cross_entropy(logits, labels, reduction="none")


def _check_several(logits: Tensor, labels: Tensor) -> None:
    """Raises unless there is a logit for each label."""
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels must have the shape of the logits, {tuple(logits.shape)}; got "
            f"{tuple(labels.shape)}. Make a model with one output for each label."
        )


def _check_classes(logits: Tensor, labels: Tensor) -> None:
    """Raises unless there is a class in range for each example."""
    if labels.dtype != torch.int64:
        raise TypeError(
            f"labels must be int64 classes, or bool where several hold; got {labels.dtype}. "
            "Use the functions of faithattn.paper.data.batches."
        )
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(logits)},); got {tuple(labels.shape)}. Give one class "
            "for each example, or bool where several labels may hold."
        )
    n_classes = max(2, logits.shape[1])
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(
            f"labels must lie in 0..{n_classes - 1} for this model; got "
            f"{sorted(set(labels.tolist()))}. Number the classes from 0."
        )
