"""The models of the matrix, built once each."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

from .entry import REGISTRY, Architecture, Entry

MODULES = (
    "recurrent",
    "custom",
    "fused",
    "torch_layers",
    "text_encoders",
    "text_decoders",
    "text_pairs",
    "vision",
    "waves",
)
for _module in MODULES:
    importlib.import_module(f".{_module}", __name__)

__all__ = ["CASES", "REGISTRY", "Case", "build"]


class Case(NamedTuple):
    """One architecture with its attention computed one way."""

    name: str
    variant: str

    def __str__(self) -> str:
        return f"{self.name}, {self.variant}" if self.variant else self.name

    @property
    def architecture(self) -> Architecture:
        return REGISTRY[self.name]

    @property
    def available(self) -> bool:
        """Whether the package that it needs is installed."""
        needs = self.architecture.needs
        return not needs or find_spec(needs) is not None


CASES = tuple(Case(name, variant) for name, found in REGISTRY.items() for variant in found.variants)


@cache
def build(case: Case) -> Entry:
    """The entry of a case, made once."""
    return case.architecture.build(case.variant)
