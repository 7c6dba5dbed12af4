"""Clinical notes with several independent labels, each named by terms of its own."""

from __future__ import annotations

import random
from typing import NamedTuple

from faithattn.paper.data.examples import Example
from faithattn.paper.data.generated.words import fillers, plant


class _Condition(NamedTuple):
    """A label: how often it holds, and the terms that then stand in the note."""

    name: str
    prevalence: float
    terms: tuple[str, ...]


_CONDITIONS = (
    _Condition(
        "heart failure",
        0.4,
        ("furosemide", "orthopnea", "edema", "cardiomegaly", "ejection", "lasix"),
    ),
    _Condition(
        "pneumonia",
        0.25,
        ("infiltrate", "sputum", "crackles", "azithromycin", "consolidation", "cough"),
    ),
    _Condition(
        "renal failure",
        0.15,
        ("creatinine", "dialysis", "oliguria", "nephrology", "uremia", "fistula"),
    ),
    _Condition(
        "stroke",
        0.1,
        ("hemiparesis", "aphasia", "infarct", "droop", "dysarthria", "thrombolysis"),
    ),
    _Condition(
        "sepsis",
        0.05,
        ("bacteremia", "lactate", "vasopressors", "hypotension", "rigors", "vancomycin"),
    ),
)
LABELS = tuple(condition.name for condition in _CONDITIONS)


def note(words: tuple[int, int], rng: random.Random) -> Example:
    """Draws which labels hold, and a note with one to three terms of each of them."""
    held = [rng.random() < condition.prevalence for condition in _CONDITIONS]
    labels = tuple(number for number, holds in enumerate(held) if holds)
    text = fillers(rng.randint(*words), rng)
    terms = [
        term
        for number in labels
        for term in rng.choices(_CONDITIONS[number].terms, k=rng.randint(1, 3))
    ]
    places = plant(text, terms, rng)
    return Example(tuple(text), -1, evidence=tuple(sorted(places)), labels=labels)
