"""What a planted model comes with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Planted:
    """A model whose faithfulness is known, with data; it unpacks to model and inputs.

    Attributes:
        name: What it is called, such as ``"faithful"``.
        model: The model, ready for every metric.
        inputs: What it takes, B instances.
        expected: What tests must say of it, in words.
        truth: What each position does to the output, ``(B, L)``, 0 outside the
            mask; positive towards the predicted class where it has a sign.
            None where it was not planted.
        evidence: True at the positions that the output depends on, ``(B, L)``;
            None where every position counts.

    Examples:
        >>> from faithattn import permutation_test, planted
        >>> case = planted.indifferent()
        >>> permutation_test(*case, seed=0).median_tvd.max().item() < 1e-12
        True
    """

    name: str
    model: Any
    inputs: Any
    expected: str
    truth: Tensor | None = None
    evidence: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.inputs))
