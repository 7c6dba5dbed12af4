"""Accuracy and F1, from how often each class or label is there, is predicted, and both."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.outputs import predicted_class, probabilities, resolve_output


class Tally:
    """Counts examples that have each class or label, are predicted to, and both.

    Examples:
        >>> tally = Tally()
        >>> tally.add(torch.tensor([[2.0], [-1.0], [1.0]]), torch.tensor([1, 0, 0]))
        >>> round(tally.accuracy(), 3), round(tally.macro_f1(), 3)
        (0.667, 0.667)
    """

    def __init__(self) -> None:
        self._n, self._several = 0, False
        self._counts = torch.zeros(3, 1, dtype=torch.int64)  # there, predicted, both

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch.

        Args:
            logits: Model output, shape ``(B, C)``; one logit is two classes.
            labels: Classes ``(B,)``, int64, or which of C independent labels
                hold ``(B, C)``, bool.
        """
        self._several = labels.dtype == torch.bool
        if self._several:
            truth, predicted = labels, logits > 0
        else:
            truth, predicted = (_marked(each, logits) for each in (labels, _predicted(logits)))
        each = torch.stack([truth, predicted, truth & predicted])
        self._counts = self._counts + each.sum(1).cpu()
        self._n += len(labels)

    def accuracy(self) -> float:
        """Share predicted right: of the examples, or of all labels of all examples."""
        truth, predicted, both = self._counts
        if not self._several:
            return int(both.sum()) / self._n
        total = self._n * len(truth)
        return (total - int((truth + predicted - 2 * both).sum())) / total

    def macro_f1(self) -> float:
        """Mean of ``2 both / (there + predicted)`` over classes or labels.

        One that neither occurs nor is predicted is left out; 1 if that leaves
        none, as nothing is then missed or wrong.
        """
        truth, predicted, both = self._counts
        met = truth + predicted > 0
        if not bool(met.any()):
            return 1.0
        return float((2 * both[met].double() / (truth + predicted)[met]).mean())


def _marked(classes: Tensor, logits: Tensor) -> Tensor:
    """Marks the class of each example, ``(B, C)``."""
    return classes[:, None] == torch.arange(max(2, logits.shape[1]), device=logits.device)


def _predicted(logits: Tensor) -> Tensor:
    """Returns the predicted class of each example, as the four tests predict it."""
    output = resolve_output("auto", logits.shape[1])
    return predicted_class(probabilities(logits, output), output)
