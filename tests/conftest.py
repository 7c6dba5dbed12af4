from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CASES, PAPER_CASES, Case, make_case

from faithattn import Correlation


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Any:
    """Small tensors: more threads than one only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """A model that reads, replays and removes, with a padded batch."""
    return make_case(request.param)


@pytest.fixture(params=PAPER_CASES)
def paper_case(request: pytest.FixtureRequest) -> Case:
    """Each of the published models, with a padded batch."""
    return make_case(request.param)


@pytest.fixture
def text_case() -> Case:
    """The published text classifier, with a padded batch."""
    return make_case("text-bilstm-additive")


@pytest.fixture
def correlation() -> Correlation:
    """A result of three instances, the second undefined."""
    nan = torch.nan
    return Correlation(
        predicted=torch.tensor([0, 1, 1]),
        max_attention=torch.tensor([0.25, nan, 0.8]),
        mass=torch.tensor([1.0, 0.0, 1.0]),
        view="attention",
        output="sigmoid",
        statistic=torch.tensor([0.5, nan, -0.25]),
        pvalue=torch.tensor([0.05, nan, 0.4]),
        explanation=torch.rand(3, 4),
        importance=torch.rand(3, 4),
        mask=torch.ones(3, 4, dtype=torch.bool),
        measure="gradient_correlation",
        removal=None,
        detached=True,
        tie_tolerance="auto",
    )
