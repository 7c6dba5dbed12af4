"""What to show of an instance that is too long to show whole, and how to say it in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from faithattn.pages.document import Specimen, Track
from faithattn.pages.escaping import plain
from faithattn.pages.numbers import number

LONGEST_TOKEN = 40
_NEAR = 2  # neighbours on either side that a word is read with


def strongest_positions(weights: Sequence[float], most: int) -> list[int]:
    """Positions to show of a long text: the largest weights with their neighbours.

    Args:
        weights: One number a position, 0 or more; nan counts as 0.
        most: How many positions there may be.

    Returns:
        Positions, ascending; all where there are no more than ``most``.

    Examples:
        >>> strongest_positions([0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0], 5)
        [2, 3, 4, 5, 6]
    """
    count = len(weights)
    if count <= most:
        return list(range(count))
    known = [0.0 if math.isnan(each) else each for each in weights]
    kept: set[int] = set()
    for position in sorted(range(count), key=lambda place: (-known[place], place)):
        near = set(range(max(0, position - _NEAR), min(count, position + _NEAR + 1)))
        if len(kept | near) > most:
            break
        kept |= near
    return sorted(kept)


def shown_token(token: str) -> str:
    """A token as it is shown: on one line, not too long, and never nothing.

    Args:
        token: Its text.

    Examples:
        >>> shown_token(" "), shown_token("film")
        ('␣', 'film')
    """
    return plain(token, LONGEST_TOKEN) or "␣"


def in_words(specimen: Specimen, track: Track, most: int = 6) -> str:
    """The strongest tokens of a track with their numbers.

    Args:
        specimen: The instance.
        track: One of its tracks.
        most: How many tokens.

    Examples:
        >>> track = Track("attention", (0.1, 0.9), 0.9)
        >>> in_words(Specimen("#1", "0", ("a", "film"), (track,)), track)
        'film 0.900, a 0.100'
    """
    known = [place for place, value in enumerate(track.values) if not math.isnan(value)]
    order = sorted(known, key=lambda place: (-abs(track.values[place]), place))[:most]
    said = (f"{shown_token(specimen.tokens[each])} {number(track.values[each])}" for each in order)
    return ", ".join(said) or "undefined"
