"""What an audit is given to work on: inputs, and what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of a model with what is known about each instance; only the inputs are needed.

    Attributes:
        inputs: What the model takes, B instances.
        labels: Gold classes ``(B,)``, whole numbers from 0; used to group, never to
            measure. A negative one is that of an instance whose class is unknown.
        tokens: The text of each position, a list for each instance as long as
            its row of the mask; shown in reports.
        clusters: What instances have in common, such as the document they come
            from, one name or whole number each: intervals then draw whole clusters.
            Instances of batches without are clusters of their own.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        rationale: What people hold to be the reason, ``(B, L)`` bool, for the
            metrics of plausibility.

    Examples:
        >>> import torch
        >>> batch = Batch(torch.tensor([[2, 5, 6, 3]]), tokens=[["<s>", "good", "film", "</s>"]])
        >>> batch.labels is None
        True
    """

    inputs: Any
    labels: Tensor | Sequence[int] | None = None
    tokens: Sequence[Sequence[str]] | None = None
    clusters: Sequence[Any] | Tensor | None = None
    target: int | Tensor | None = None
    rationale: Tensor | None = None
