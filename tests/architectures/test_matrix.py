from __future__ import annotations

import pytest

from .checks import CHECKS
from .page import PAGE
from .zoo import CASES, REGISTRY, Case


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_architecture(case: Case, check: str) -> None:
    needs = case.architecture.needs
    if not case.available:
        pytest.skip(f"{needs} is an optional extra: pip install faithattn[transformers]")
    CHECKS[check](case)


def test_the_page_names_every_architecture() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [name for name in REGISTRY if f"| {name} |" not in page]
    assert not missing, f"{missing} not in {PAGE.name}; run python -m tests.architectures --write"


def test_there_are_enough_architectures() -> None:
    assert len(REGISTRY) >= 25
