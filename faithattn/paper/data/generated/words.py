"""Words that mean nothing, as frequent as words are, and others planted among them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from itertools import accumulate


def listed(words: str) -> tuple[str, ...]:
    """Returns the words of a text."""
    return tuple(words.split())


_COMMON = listed(
    "the of and to in a that is was for on with as it at by he she they his her this be from or an "
    "are but not were had have which their its been has when who will more if out so up said about "
    "into than them only some"
)
_ONSETS = listed("b br d dr f fl g gr k kl l m n p pl r s st t tr v w z")
_ENDS = listed("a an e el i in o or u un")
_COUNT = 2000


def fillers(count: int, rng: random.Random) -> list[str]:
    """Draws words by Zipf's law: common English ones first, then made-up ones."""
    words, totals = _vocabulary()
    return rng.choices(words, cum_weights=totals, k=count)


def plant(words: list[str], terms: Sequence[str], rng: random.Random) -> list[int]:
    """Puts each term in place of a word drawn at random; returns the places, in their order."""
    places = rng.sample(range(len(words)), len(terms))
    for place, term in zip(places, terms, strict=True):
        words[place] = term
    return places


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    """Returns the words, the most frequent first, and their running total of frequency."""
    syllables = [onset + end for onset in _ONSETS for end in _ENDS]
    pairs = [first + second for first in syllables for second in syllables]
    made = random.Random("fillers").sample(sorted(set(pairs)), _COUNT - len(_COMMON))
    return [*_COMMON, *made], list(accumulate(1 / (rank + 2.7) for rank in range(_COUNT)))
