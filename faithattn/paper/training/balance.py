"""Weights that make classes count alike in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn.paper.data.examples import Example


class Balance:
    """Weights by inverse frequency, whose mean over the examples is 1.

    Of one class an example, those of the classes. Of several labels, those of
    the examples with and without each label; a label that all examples have, or
    none, is not weighted.

    Args:
        examples: What the model is trained on.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        several = examples[0].labels is not None
        self._weights = _of_labels(examples) if several else _of_classes(examples)

    def factors(self, labels: Tensor) -> Tensor:
        """Weights in the shape of classes ``(B,)`` or labels ``(B, C)``."""
        weights = self._weights.to(labels.device)
        if labels.dtype != torch.bool:
            found: Tensor = weights[labels]
            return found
        # Labels that no example of training has may come last.
        without, held = F.pad(weights, (0, labels.shape[1] - weights.shape[1]), value=1.0)
        chosen: Tensor = held.where(labels, without)
        return chosen


def _of_classes(examples: Sequence[Example]) -> Tensor:
    """The weight of each class, 1 for those without examples."""
    counts = Counter(example.label for example in examples)
    weights = torch.ones(max(counts) + 1)
    for label, count in counts.items():
        weights[label] = len(examples) / (len(counts) * count)
    return weights


def _of_labels(examples: Sequence[Example]) -> Tensor:
    """Weights ``(2, C)`` of examples without and with each label."""
    counts = Counter(label for example in examples for label in example.labels or ())
    weights = torch.ones(2, max(counts, default=-1) + 1)
    n = len(examples)
    for label, count in counts.items():
        if count < n:
            weights[0, label], weights[1, label] = n / (2 * (n - count)), n / (2 * count)
    return weights
