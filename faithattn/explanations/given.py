"""An explanation as a metric is given it: by name, or as scores of one's own."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from faithattn._checks import require_device, require_floating
from faithattn.adapters.reading import Reading
from faithattn.explanations.asked import Asked
from faithattn.explanations.kinds import kind_of

Explanation: TypeAlias = "str | Tensor"


def scores_of(
    reading: Reading,
    explanation: Explanation,
    *,
    target: int | Tensor | None = None,
    seed: int | None = 0,
    instances: Tensor | None = None,
) -> Tensor:
    """Scores ``(B, L)`` of the positions of a reading, 0 outside the mask.

    Names are those of :func:`explain`. A nan at a position of the mask stays:
    it makes what is computed from the row undefined.

    Args:
        reading: The model, run.
        explanation: A name, or scores ``(B, L)``.
        target: Class to explain; None is the prediction.
        seed: Of random scores and of methods that draw.
        instances: Ids of the rows, ``(B,)``.

    Raises:
        AdapterError: If the model cannot be explained this way.
        TypeError: If scores are no floating-point tensor.
        ValueError: If the name is unknown or the scores have another shape.
    """
    if isinstance(explanation, str):
        asked = Asked(reading, target, seed, instances)
        return kind_of(explanation)(asked).detach()
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
