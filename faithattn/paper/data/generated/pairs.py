"""Premises about one or two people, and hypotheses that follow, contradict or say more."""

from __future__ import annotations

import random
from collections.abc import Mapping

from faithattn.paper.data.examples import Example
from faithattn.paper.data.generated.words import listed

LABELS = ("entailment", "neutral", "contradiction")

_PEOPLE = ("boy", "girl", "man", "woman")
# They decide nothing; they make premises differ. None begins with a vowel: all follow "a".
_MANNERS = listed(
    "bald bashful blond bold brave brisk busy calm careful cheerful clumsy curious daring dizzy "
    "famous fearless friendly frowning gentle giggling grumpy happy heavy hungry jolly kind "
    "lazy limping little lonely loud lucky merry modest nervous noisy patient plump polite proud "
    "puzzled quick quiet rich sad serious short shy silent sleepy slender slim small smart smiling "
    "solemn strong sturdy tall tanned thin thirsty tired weary whistling wise witty young"
)
_VALUES = {
    "colour": ("black", "green", "red"),
    "thing": ("ball", "kite", "violin"),
    "action": ("drinking tea", "playing chess", "selling fruit"),
    "place": ("garden", "library", "market"),
}
_HYPOTHESES = {
    "colour": "the {person} wears {value} .",
    "thing": "the {person} has a {value} .",
    "action": "the {person} is {value} .",
    "place": "the {person} is in the {value} .",
}


def pair(rng: random.Random) -> Example:
    """Draws a premise, then a label, then a hypothesis about one of its people.

    The premise is drawn before the label. Of each person, every kind of fact is
    told equally often and every value equally likely, so that the hypothesis
    is as likely with each label: neither text tells the label alone.
    """
    people = rng.sample(_PEOPLE, 1 if rng.random() < 0.7 else 2)
    told = [_facts(2 - number, rng) for number in range(len(people))]
    tokens, places = _premise(people, told, rng)
    label = rng.choice(LABELS)
    number = rng.randrange(len(people))
    facts = told[number]
    kind = rng.choice([kind for kind in _VALUES if (kind in facts) == (label != "neutral")])
    if label == "entailment":
        value = facts[kind]
    else:
        value = rng.choice([value for value in _VALUES[kind] if value != facts.get(kind)])
    hypothesis = _HYPOTHESES[kind].format(person=people[number], value=value)
    return Example(
        tokens=tuple(tokens),
        label=LABELS.index(label),
        question=tuple(hypothesis.split()),
        evidence=places[number].get(kind, ()),
    )


def _facts(count: int, rng: random.Random) -> dict[str, str]:
    """Draws so many facts about a person, by their kind."""
    kinds = rng.sample(tuple(_VALUES), count)
    return {kind: rng.choice(_VALUES[kind]) for kind in kinds}


def _premise(
    people: list[str], told: list[dict[str, str]], rng: random.Random
) -> tuple[list[str], list[dict[str, tuple[int, ...]]]]:
    """Tells the facts, and returns where the value of each one of each person stands."""
    tokens: list[str] = []
    places: list[dict[str, tuple[int, ...]]] = []
    for person, facts in zip(people, told, strict=True):
        tokens += ["while"] if tokens else []
        found = {}
        for kind, phrase in _clause(person, facts, rng.choice(_MANNERS)):
            tokens += phrase.split()
            if kind in facts:
                length = len(facts[kind].split())
                found[kind] = tuple(range(len(tokens) - length, len(tokens)))
        places.append(found)
    return [*tokens, "."], places


def _clause(person: str, facts: Mapping[str, str], manner: str) -> list[tuple[str, str]]:
    """Tells the facts about a person in phrases that end with their values."""
    moves = "action" in facts or "place" in facts
    phrases = [("person", f"{'' if moves else 'there is '}a {manner} {person}")]
    forms = {
        "colour": "in {}",
        "thing": "with a {}",
        "action": "is {}",
        "place": "in the {}" if "action" in facts else "is in the {}",
    }
    return phrases + [
        (kind, form.format(facts[kind])) for kind, form in forms.items() if kind in facts
    ]
