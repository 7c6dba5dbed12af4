from __future__ import annotations

from collections.abc import Callable

import pytest
from small_models import CASES, Inputs, Model


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__[5:]}-{case[2]}-{case[3]}")
def case(request: pytest.FixtureRequest) -> tuple[Model, Callable[..., Inputs]]:
    """Every kind of model, and what makes inputs for it from a list of lengths."""
    make, inputs, encoder, attention = request.param
    return make(encoder, attention), inputs
