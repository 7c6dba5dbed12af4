"""The kinds of data that can be generated, and the splits of each."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from faithattn._checks import require_count
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.generated import labels, news, pairs
from faithattn.paper.data.generated.classes import DOCUMENTS, TEXTS, TOPICS, classified

_Words = tuple[int, int]


class _Kind(NamedTuple):
    """How an example is drawn, the names of its labels, words a text, examples a split."""

    draw: Callable[[_Words, random.Random], Example]
    labels: tuple[str, ...]
    words: _Words | None
    least: int
    sizes: tuple[int, int, int]


def _pair(_: _Words, rng: random.Random) -> Example:
    """Draws a pair, whose grammar decides the length."""
    return pairs.pair(rng)


_KINDS = {
    "texts": _Kind(
        partial(classified, TEXTS), ("negative", "positive"), (8, 40), 8, (3000, 400, 400)
    ),
    "topics": _Kind(
        partial(classified, TOPICS),
        ("World", "Sports", "Business", "Sci/Tech"),
        (20, 60),
        8,
        (2000, 400, 400),
    ),
    "labels": _Kind(labels.note, labels.LABELS, (60, 200), 20, (1200, 200, 200)),
    "pairs": _Kind(_pair, pairs.LABELS, None, 0, (6000, 600, 600)),
    "questions": _Kind(news.asked, news.ENTITIES, (100, 400), 20, (1000, 200, 200)),
    "documents": _Kind(
        partial(classified, DOCUMENTS), ("anemia", "diabetes"), (1500, 4000), 30, (400, 30, 30)
    ),
}
KINDS = tuple(_KINDS)
# So many draws in a row that repeat what was drawn: nearly nothing new is left.
_PATIENCE = 1000


def generate(
    kind: str,
    *,
    seed: int = 0,
    n_train: int | None = None,
    n_dev: int | None = None,
    n_test: int | None = None,
    words: tuple[int, int] | None = None,
) -> Dataset:
    """Generates a data set of the shape of a task, with a signal that can be found.

    Words are drawn by Zipf's law and mean nothing, but for those planted:

    ==============  =========  ==========================================================
    kind            words      what decides
    ==============  =========  ==========================================================
    ``texts``       8-40       two classes: 1 to 3 words of 20 of the class; of texts with
                               more than one, three in ten hold one of the other class
    ``topics``      20-60      four classes: 2 to 5 words of 20 of the class; three texts
                               in ten hold fewer of another class
    ``labels``      60-200     five labels that hold in 40, 25, 15, 10 and 5 % of notes,
                               independently: 1 to 3 of 6 terms of each that holds
    ``pairs``       8-20       a premise about one or two people; the hypothesis states a
                               fact of it, the same with another value, or one that the
                               premise does not mention. Neither text alone tells
    ``questions``   100-400    a passage about 10 to 30 of 30 entities, a few of them named
                               often; the question is one of its sentences in other words,
                               one entity left open. No two sentences have the same verb
    ``documents``   1500-4000  two classes: 12 to 24 mentions of 4 terms of the class;
                               three in ten hold some of the other class, 4 at most
    ==============  =========  ==========================================================

    The evidence is the planted words of the class or labels, the words of the
    premise that state or contradict (none where it does not mention the fact),
    and the sentence that is asked about.

    Args:
        kind: One of the above.
        seed: Seed of the examples. The test split depends on nothing but
            ``kind``, ``seed``, ``words`` and ``n_test``; the global generators
            are not touched.
        n_train: Number of training examples; None for some that suffice.
        n_dev: Number of development examples; None for some.
        n_test: Number of test examples; None for some.
        words: Least and most words of a text or passage; None for the above.
            Pairs are as long as their grammar makes them.

    Returns:
        The data set ``generated-`` and the kind. No text, premise or passage
        occurs twice, in one split or in two.

    Raises:
        TypeError: If a number is not whole.
        ValueError: If the kind is unknown, a number is out of range, or there
            are not so many different texts.

    Examples:
        >>> data = generate("pairs", seed=1, n_train=8, n_dev=2, n_test=2)
        >>> example = data.test[0]
        >>> " ".join(example.tokens)
        'a dizzy woman with a violin is in the library .'
        >>> " ".join(example.question), data.labels[example.label]
        ('the woman has a violin .', 'entailment')
        >>> " ".join(example.tokens[position] for position in example.evidence)
        'violin'
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}. Choose one.")
    chosen = _KINDS[kind]
    require_count("seed", seed, least=0)
    sizes = {
        split: default if given is None else require_count(f"n_{split}", given)
        for split, given, default in zip(
            ("train", "dev", "test"), (n_train, n_dev, n_test), chosen.sizes, strict=True
        )
    }
    length = _length(kind, words)
    seen: set[tuple[str, ...]] = set()
    # The test split comes first, so that the sizes of the others do not change it.
    test, dev, train = (
        _examples(chosen, length, sizes[split], f"{kind} {seed} {split}", seen)
        for split in ("test", "dev", "train")
    )
    return Dataset(f"generated-{kind}", train, dev, test, chosen.labels)


def _length(kind: str, words: _Words | None) -> _Words:
    """Returns the least and most words of a text, as given or by default."""
    default, least = _KINDS[kind].words, _KINDS[kind].least
    if words is None:
        return default or (0, 0)
    if default is None:
        raise ValueError(f"words must be left out for {kind}; got {words!r}. Leave it out.")
    numbers = [require_count("words", number) for number in words]
    if len(numbers) != 2 or not least <= numbers[0] <= numbers[1]:
        raise ValueError(
            f"words must be two numbers of {least} or more for {kind}, ascending; got {words!r}. "
            f"The default is {default}."
        )
    return numbers[0], numbers[1]


def _examples(
    kind: _Kind, words: _Words, size: int, name: str, seen: set[tuple[str, ...]]
) -> tuple[Example, ...]:
    """Draws examples whose texts are not in ``seen``, and adds them to it."""
    rng = random.Random(name)
    examples: list[Example] = []
    repeats = 0
    while len(examples) < size:
        example = kind.draw(words, rng)
        text = tuple(example.tokens)
        repeats = repeats + 1 if text in seen else 0
        if repeats > _PATIENCE:
            raise ValueError(
                f"n_{name.split()[-1]} must leave texts that differ; got {size}, and about "
                f"{len(seen)} are all there are. Ask for fewer."
            )
        if not repeats:
            seen.add(text)
            examples.append(example)
    return tuple(examples)
