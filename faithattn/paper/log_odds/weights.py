"""The log-odds that a logistic regression gives to words, and attention made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from faithattn._checks import require_count, require_floating
from faithattn.paper.data.ids import END, PADDING, word_mask
from faithattn.paper.models.attention import masked_softmax


@dataclass(frozen=True, eq=False)
class LogOdds:
    """Weights of a logistic regression on which words a text holds.

    How often a word occurs, and where, makes no difference to the regression.

    Attributes:
        weights: By how much a word's presence raises the log-odds, in nats,
            shape ``(R, V)``. Of class 1 against class 0 where R is 1; of several
            labels, of each against its absence; of C classes, of each against
            the others: its log-probability less the mean of theirs. Zero for
            special tokens and unknown words.
        bias: The same of a text without known words, shape ``(R,)``; infinite
            for a class or label that none, or every, example of the fit had.
        independent: Whether the rows are labels that hold independently,
            rather than classes of which one does.

    Raises:
        TypeError: If ``weights`` or ``bias`` is not a floating-point tensor.
        ValueError: If their shapes do not fit.

    Examples:
        >>> import torch
        >>> log_odds = LogOdds(torch.tensor([[0.0, 0, 0, 0, 2.0, -1.0]]), torch.tensor([-0.5]))
        >>> ids = torch.tensor([[2, 4, 5, 4, 3], [2, 5, 3, 0, 0]])
        >>> log_odds.logits(ids)
        tensor([[ 0.5000],
                [-1.5000]])
        >>> log_odds.predict(ids)
        tensor([1, 0])
        >>> log_odds.attention(ids)
        tensor([[0.0000, 0.4223, 0.1554, 0.4223, 0.0000],
                [0.0000, 1.0000, 0.0000, 0.0000, 0.0000]])
    """

    weights: Tensor
    bias: Tensor
    independent: bool = False

    def __post_init__(self) -> None:
        require_floating("weights", self.weights)
        require_floating("bias", self.bias)
        if self.weights.ndim != 2 or self.weights.shape[1] <= END or not len(self.weights):
            raise ValueError(
                "weights must have shape (classes, vocabulary), special tokens included; got "
                f"{tuple(self.weights.shape)}. Give one row for two classes."
            )
        if self.bias.shape != self.weights.shape[:1]:
            raise ValueError(
                f"bias must have shape ({len(self.weights)},), as weights have rows; got "
                f"{tuple(self.bias.shape)}. Give one number a row."
            )

    @property
    def n_classes(self) -> int:
        """How many classes or labels there are."""
        return 2 if self._two_classes else len(self.weights)

    def towards(self, number: int) -> Tensor:
        """Log-odds ``(V,)`` that words give to one class or label.

        Args:
            number: Index of the class or label.

        Returns:
            A row of ``weights``; of two classes, the negative row for class 0.

        Raises:
            TypeError: If ``number`` is not a whole number.
            ValueError: If there is no such class.
        """
        if require_count("number", number, least=0) >= self.n_classes:
            raise ValueError(
                f"number must lie in 0..{self.n_classes - 1}; got {number}. "
                "Number the classes from 0."
            )
        if self._two_classes:
            return self.weights[0] if number == 1 else -self.weights[0]
        return self.weights[number]

    def strength(self) -> Tensor:
        """Largest absolute log-odds of each word over the classes or labels, ``(V,)``."""
        return self.weights.abs().amax(0)

    def attention(self, ids: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Attention in proportion to the exponential of each word's strength.

        At temperature 1 a word of log-odds s gets ``exp(s)`` times the weight
        of a word that says nothing. In a sentence the strongest word then has
        two to four times its share; over thousands of words this is close to
        uniform, and a lower temperature is needed for attention to single words.

        Args:
            ids: Token ids, shape ``(B, L)``, int64.
            temperature: Strengths are divided by it: towards 0 only the
                strongest word is attended to, towards infinity all alike.

        Returns:
            Weights, shape ``(B, L)``; each row sums to 1 over its words, known
            or not, or to 0 where it has none.

        Raises:
            ValueError: If the temperature is not positive.
        """
        if not 0 < temperature < math.inf:
            raise ValueError(
                f"temperature must be positive and finite; got {temperature}. Use 1, the default."
            )
        strength = (self.strength() / temperature).to(ids.device)
        return masked_softmax(strength[ids], word_mask(ids))

    def logits(self, ids: Tensor) -> Tensor:
        """Sums the log-odds of the words a text holds, each counted once.

        Args:
            ids: Token ids, shape ``(B, L)``, int64.

        Returns:
            Log-odds in the sense of ``weights``, shape ``(B, R)``.
        """
        ordered = ids.sort(1).values
        again = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
        counted = ordered.masked_fill(again | (ordered <= END), PADDING)
        table, bias = self.weights.T.contiguous().to(ids.device), self.bias.to(ids.device)
        return F.embedding_bag(counted, table, mode="sum", padding_idx=PADDING) + bias

    def predict(self, ids: Tensor) -> Tensor:
        """What the regression makes of texts.

        Args:
            ids: Token ids, shape ``(B, L)``, int64.

        Returns:
            The class of each text, ``(B,)``, int64; of independent labels which
            hold, ``(B, R)``, bool. A class or label needs log-odds above 0; of
            several classes the first of the likeliest is taken.
        """
        logits = self.logits(ids)
        if self.independent:
            return logits > 0
        return (logits[:, 0] > 0).long() if self._two_classes else logits.argmax(1)

    @property
    def _two_classes(self) -> bool:
        """Whether one row stands for two classes."""
        return len(self.weights) == 1 and not self.independent
