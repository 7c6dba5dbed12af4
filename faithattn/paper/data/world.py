"""The small world of the bAbI-style stories: who acts, what can happen, how it is told."""

from __future__ import annotations

import random
from typing import NamedTuple

ACTORS = ("daniel", "john", "mary", "sandra")
LOCATIONS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")

_PHRASES = {
    "move": ("went to", "moved to", "journeyed to", "travelled to", "went back to"),
    "take": ("took", "got", "grabbed", "picked up"),
    "drop": ("dropped", "left", "discarded", "put down"),
}


class Event(NamedTuple):
    """What one sentence tells: the target is a location for a move, else an object."""

    kind: str
    actor: str
    target: str


def sentence(event: Event, rng: random.Random) -> list[str]:
    """Tells an event in one of several wordings."""
    return f"{event.actor} {rng.choice(_PHRASES[event.kind])} the {event.target} .".split()


def simulate(length: int, handling: float, rng: random.Random) -> list[Event]:
    """Lets random actors act; each one moves before doing anything else.

    An object that nobody has touched may lie anywhere, so any actor may find it.
    """
    events: list[Event] = []
    places: dict[str, str] = {}
    lying: dict[str, str | None] = dict.fromkeys(OBJECTS)
    holders: dict[str, str] = {}
    for _ in range(length):
        actor = rng.choice(ACTORS)
        place = places.get(actor)
        options = [] if place is None else _options(actor, place, lying, holders)
        if options and rng.random() < handling:
            event = rng.choice(options)
        else:
            event = Event("move", actor, rng.choice([p for p in LOCATIONS if p != place]))
        if event.kind == "move":
            places[actor] = event.target
        elif event.kind == "take":
            holders[event.target] = actor
            del lying[event.target]
        else:
            del holders[event.target]
            lying[event.target] = place
        events.append(event)
    return events


def _options(
    actor: str, place: str, lying: dict[str, str | None], holders: dict[str, str]
) -> list[Event]:
    """Returns what an actor can take or drop."""
    takes = [Event("take", actor, o) for o, where in lying.items() if where in (None, place)]
    return takes + [Event("drop", actor, o) for o, holder in holders.items() if holder == actor]
