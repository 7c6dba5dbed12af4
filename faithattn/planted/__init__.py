"""Models whose faithfulness is known, with data, and what tests must say of them."""

from faithattn.planted.case import Planted
from faithattn.planted.compensating import Compensating, compensating
from faithattn.planted.learned import contextual, deceptive, random_weights, shortcut
from faithattn.planted.toys import (
    Linear,
    Sigmoid,
    faithful,
    independent,
    indifferent,
    rows,
    suppressor,
    three_positions,
    two_positions,
    whole,
)

__all__ = [
    "Compensating",
    "Linear",
    "Planted",
    "Sigmoid",
    "compensating",
    "contextual",
    "deceptive",
    "faithful",
    "independent",
    "indifferent",
    "random_weights",
    "rows",
    "shortcut",
    "suppressor",
    "three_positions",
    "two_positions",
    "whole",
]
