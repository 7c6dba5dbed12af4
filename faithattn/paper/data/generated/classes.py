"""Texts, news and long documents whose class is that of most of their planted words."""

from __future__ import annotations

import random
from typing import NamedTuple

from faithattn.paper.data.examples import Example
from faithattn.paper.data.generated.words import fillers, listed, plant


class Planted(NamedTuple):
    """The words of each class; how many of them, and at times fewer of another, a text holds."""

    terms: tuple[tuple[str, ...], ...]
    own: tuple[int, int]
    other: int
    mixed: float


def classified(planted: Planted, words: tuple[int, int], rng: random.Random) -> Example:
    """Draws a class and a text of it, in which its words outnumber those of another class."""
    label = rng.randrange(len(planted.terms))
    text = fillers(rng.randint(*words), rng)
    own = rng.choices(planted.terms[label], k=rng.randint(*planted.own))
    others: list[str] = []
    if len(own) > 1 and rng.random() < planted.mixed:
        another = rng.choice([terms for terms in planted.terms if terms != planted.terms[label]])
        others = rng.choices(another, k=rng.randint(1, min(planted.other, len(own) - 1)))
    places = plant(text, own + others, rng)
    return Example(tuple(text), label, evidence=tuple(sorted(places[: len(own)])))


TEXTS = Planted(
    terms=(
        listed(
            "awful bad boring clumsy confusing dreadful dull flat forgettable hollow lifeless "
            "messy painful pointless shallow stale tedious tiresome ugly weak"
        ),
        listed(
            "beautiful brilliant charming clever delightful excellent fresh funny gripping honest "
            "joyful lovely moving perfect rich splendid superb touching warm wonderful"
        ),
    ),
    own=(1, 3),
    other=1,
    mixed=0.3,
)
TOPICS = Planted(
    terms=(
        listed(
            "ambassador army border ceasefire coup diplomat election embassy minister militia "
            "parliament peace president protest rebels refugees sanctions summit treaty war"
        ),
        listed(
            "athlete ball coach cup defender goal innings league match medal olympics penalty "
            "pitcher playoff quarterback season stadium striker tournament victory"
        ),
        listed(
            "bank bond budget dividend dollar earnings economy exports inflation investor loan "
            "market merger oil price profit retailer shares stocks trade"
        ),
        listed(
            "battery browser chip comet computer database engine galaxy genome internet laser "
            "orbit processor robot satellite server software telescope virus website"
        ),
    ),
    own=(2, 5),
    other=2,
    mixed=0.3,
)
DOCUMENTS = Planted(
    terms=(
        ("hemoglobin", "transfusion", "ferritin", "pallor"),
        ("glucose", "insulin", "metformin", "ketones"),
    ),
    own=(12, 24),
    other=4,
    mixed=0.3,
)
