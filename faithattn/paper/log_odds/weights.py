"""The log-odds that a logistic regression gives to words, and attention made of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from faithattn.paper.data.ids import word_mask
from faithattn.paper.models.attention import masked_softmax


@dataclass(frozen=True, eq=False)
class LogOdds:
    """Weights of a logistic regression on which words a text holds.

    Attributes:
        weights: By how much a word's presence raises the log-odds, shape
            ``(R, V)``: of class 1 against class 0 where R is 1, else of each
            class or label against the others; zero for special tokens and
            unknown words.
        bias: Log-odds of a text without known words, shape ``(R,)``.
    """

    weights: Tensor
    bias: Tensor

    def towards(self, number: int) -> Tensor:
        """Log-odds ``(V,)`` that words give to one class or label."""
        if len(self.weights) == 1:
            return self.weights[0] if number == 1 else -self.weights[0]
        return self.weights[number]

    def strength(self) -> Tensor:
        """Largest absolute log-odds of each word over the classes, ``(V,)``."""
        return self.weights.abs().amax(0)

    def attention(self, ids: Tensor) -> Tensor:
        """Attention ``(B, L)`` in proportion to the exponential of each word's strength."""
        return masked_softmax(self.strength()[ids], word_mask(ids))
