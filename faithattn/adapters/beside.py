"""Models that can go on from what a run of theirs found, for inputs that differ in places."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run

BESIDE = "beside"  # where a reading keeps what it knows of this


class Beside(Protocol):
    """Gives what ``run`` gives, but for rounding, on changed rows of inputs that were run.

    What did not change at all gets the logits of the run itself.

    Attributes:
        run: The run of the inputs as they are.
    """

    run: Run

    def with_inputs(self, inputs: Any, rows: Tensor, gone: Tensor | None = None) -> Tensor | None:
        """Logits ``(n, C)`` of inputs that were made from the given rows ``(n,)``.

        None where they differ in a way that this knows nothing of or, if that
        is given, elsewhere than at ``gone`` (n, L), and where running them is
        no slower.
        """
        ...

    def with_features(self, rows: Tensor, gone: Tensor, values: Tensor) -> Tensor | None:
        """Logits ``(n, C)`` of rows with other features where ``gone`` (n, L).

        One for all, ``(1, E)``, or one for each of those places, row by row.
        None where running them is no slower.
        """
        ...


def is_plain() -> bool:
    """Whether a run is no more than its values: no gradient, no other precision."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))


def beside(model: object, inputs: Any, run: Run | None = None) -> Beside | None:
    """What a model offers beside a run, or beside one that it does itself.

    Only if the class says so: something around a model that hands on what it
    does not know may do more to a run.
    """
    make = getattr(type(model), "beside", None)
    if make is None or not is_plain():
        return None
    found: Beside | None = make(model, inputs, run)
    return found
