"""News passages about numbered entities, and questions made from one of their sentences."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import NamedTuple

from faithattn.paper.data.examples import Example
from faithattn.paper.data.generated.words import fillers, listed

ENTITIES = tuple(f"@entity{number}" for number in range(30))
_VERBS = listed(
    "accused advised arrested beat blamed defended elected hired joined married met praised "
    "replaced sued thanked warned"
)
_KEPT = frozenset((*ENTITIES, *_VERBS))
_SENTENCE = (8, 16)


class _Sentence(NamedTuple):
    """The tokens of one sentence; where its verb stands, between two entities, if it has one."""

    tokens: list[str]
    verb: int | None


def asked(words: tuple[int, int], rng: random.Random) -> Example:
    """Draws a passage and asks for one of the two entities of a sentence with a verb."""
    sentences = _passage(_lengths(rng.randint(*words), rng), rng)
    tokens = tuple(token for sentence in sentences for token in sentence.tokens)
    # Whom a passage names most is asked for most, as in the news.
    gaps = [
        (number, gap, tokens.count(sentence.tokens[gap]))
        for number, sentence in enumerate(sentences)
        if sentence.verb is not None
        for gap in (sentence.verb - 1, sentence.verb + 1)
    ]
    number, gap, _ = rng.choices(gaps, [count for _, _, count in gaps])[0]
    sentence = sentences[number].tokens
    starts = [0, *accumulate(len(sentence.tokens) for sentence in sentences)]
    held = set(tokens)
    return Example(
        tokens=tokens,
        label=ENTITIES.index(sentence[gap]),
        question=_question(sentence, gap, rng),
        candidates=tuple(n for n, entity in enumerate(ENTITIES) if entity in held),
        evidence=tuple(range(starts[number], starts[number + 1])),
    )


def _lengths(total: int, rng: random.Random) -> list[int]:
    """Draws the lengths of sentences that add up to a total."""
    low, high = _SENTENCE
    lengths = []
    while total > low + high:
        lengths.append(rng.randint(low, high))
        total -= lengths[-1]
    return [*lengths, total] if total <= high else [*lengths, total // 2, total - total // 2]


def _passage(lengths: list[int], rng: random.Random) -> list[_Sentence]:
    """Draws sentences: half with a verb that no other has, between two entities."""
    verbs: list[str] = rng.sample(_VERBS, min(8, (len(lengths) + 1) // 2))
    plans = [*verbs, *[""] * (len(lengths) - len(verbs))]
    rng.shuffle(plans)
    mentions = _mentions([2 if verb else rng.randint(0, 2) for verb in plans], rng)
    return [
        _sentence(length, verb, entities, rng)
        for length, verb, entities in zip(lengths, plans, mentions, strict=True)
    ]


def _mentions(counts: list[int], rng: random.Random) -> list[list[str]]:
    """Draws different entities for each sentence, some of them much more often than others."""
    total = sum(counts)
    cast = rng.sample(
        ENTITIES, min(rng.randint(10, max(10, min(len(ENTITIES), total // 2))), total)
    )
    weights = [1 / (rank + 1) ** 2 for rank in range(len(cast))]
    # Everybody is mentioned once, the first of the cast again and again.
    once = rng.sample(cast, len(cast))
    mentions: list[list[str]] = [[] for _ in counts]
    for number in rng.sample(range(len(counts)), len(counts)):
        chosen = mentions[number]
        while len(chosen) < counts[number]:
            new = once.pop() if once else rng.choices(cast, weights)[0]
            chosen += [] if new in chosen else [new]
    return mentions


def _sentence(length: int, verb: str, entities: list[str], rng: random.Random) -> _Sentence:
    """Tells that one entity did something to another, or only mentions entities."""
    tokens = fillers(length - 1 - len(entities) - bool(verb), rng)
    if verb:
        place = rng.randint(0, len(tokens))
        tokens[place:place] = [entities[0], verb, entities[1]]
        return _Sentence([*tokens, "."], place + 1)
    for entity in entities:
        tokens.insert(rng.randint(0, len(tokens)), entity)
    return _Sentence([*tokens, "."], None)


def _question(sentence: list[str], gap: int, rng: random.Random) -> tuple[str, ...]:
    """Leaves one entity of a sentence open; drops some of the other words, replaces some."""
    question = []
    for place, word in enumerate(sentence[:-1]):
        if place == gap:
            question.append("@placeholder")
        elif word in _KEPT:
            question.append(word)
        elif rng.random() < 0.5:
            question.append(word if rng.random() < 0.7 else fillers(1, rng)[0])
    return tuple(question)
