"""An explanation as a metric is given it: by name, or as scores of one's own."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating
from faithattn.adapters.reading import Reading

Explanation: TypeAlias = "str | Tensor"


def scores_of(
    reading: Reading,
    explanation: Explanation,
    *,
    target: int | Tensor | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> Tensor:
    """Scores ``(B, L)`` of the positions of a reading, 0 outside the mask.

    A nan at a position of the mask stays: it makes what is computed from the
    row undefined.
    """
    if isinstance(explanation, str):
        if explanation != "attention":
            raise ValueError(
                f"explanation must be 'attention' or scores (B, L); got {explanation!r}. "
                "Compute the scores and pass them."
            )
        return reading.rows.explanation
    mask = reading.rows.mask
    scores = require_floating("explanation", explanation).detach()
    if scores.shape != mask.shape:
        raise ValueError(
            f"explanation must have one score a position, shape {tuple(mask.shape)}; "
            f"got {tuple(scores.shape)}. Scores outside the mask are not looked at."
        )
    require_device("explanation", scores, "the mask", mask)
    wide = scores if scores.dtype == torch.float64 else scores.float()
    return wide.masked_fill(~mask, 0)


def name_of_explanation(explanation: Explanation) -> str:
    """What an explanation is called in results."""
    return explanation if isinstance(explanation, str) else "given scores"
