"""Wrong calls of ``adapter.replay``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from odd_modules import IDS, Called, Words

from faithattn import adapt


def pooled(model: Words, ids: torch.Tensor) -> torch.Tensor:
    return model.decide(model.word(ids), ids != 0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, r"must name a site to replace; got none"),
        ((0, 3, 5), r"hold K alternatives .* with B = 3; got \{'attention': \(0, 3, 5\)\}"),
        ((3, 5), r"got \{'attention': \(3, 5\)\}\. For a single one, pass weights\[None\]"),
        ((4, 2, 5), r"got \{'attention': \(4, 2, 5\)\}"),
        ((), r"got \{'attention': \(\)\}"),
    ],
)
def test_alternatives_of_another_shape(shape: Any, message: str) -> None:
    adapter = adapt(Called(pooled))
    state = adapter.run(IDS).state
    given = {} if shape is None else {"attention": torch.ones(shape)}
    with pytest.raises(ValueError, match=message):
        adapter.replay(state, given)


def test_a_state_of_no_run() -> None:
    with pytest.raises(TypeError, match=r"state must be that of a run; got NoneType\. Use run\.st"):
        adapt(Called(pooled)).replay(None, {"attention": torch.ones(2, 3, 5)})
