"""A metric whose values are given, and a model that it can be asked of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from faithattn import Score, planted


def given(values: Sequence[float], *, larger_is_faithful: bool = True) -> Score:
    """A metric with these values, by instance."""
    table = torch.tensor(values, dtype=torch.float64)
    return Score(
        "given", "number", larger_is_faithful, compute=lambda question: table[question.instances]
    )


def texts(*sizes: int) -> tuple[Any, list[Any]]:
    """A model, and batches of these sizes."""
    cases = [planted.indifferent(size=size, seed=seed) for seed, size in enumerate(sizes)]
    return cases[0].model, [case.inputs for case in cases]
