"""What is generated, against the rule that each kind states, read back from the words alone."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.generated import KINDS, generate, kinds, pairs
from faithattn.paper.data.generated.classes import DOCUMENTS, TEXTS, TOPICS
from faithattn.paper.data.generated.words import _vocabulary

CLASSES = {"texts": TEXTS.terms, "topics": TOPICS.terms, "documents": DOCUMENTS.terms}
LENGTHS = {
    "texts": (8, 40),
    "topics": (20, 60),
    "labels": (60, 200),
    "pairs": (8, 20),
    "questions": (100, 400),
    "documents": (1500, 4000),
}
CONDITIONS = {
    "heart failure": ("orthopnea", "edema", "cardiomegaly", "ejection", "furosemide", "lasix"),
    "pneumonia": ("infiltrate", "sputum", "crackles", "azithromycin", "consolidation", "cough"),
    "renal failure": ("creatinine", "dialysis", "oliguria", "nephrology", "uremia", "fistula"),
    "stroke": ("hemiparesis", "aphasia", "infarct", "droop", "dysarthria", "thrombolysis"),
    "sepsis": ("bacteremia", "lactate", "vasopressors", "hypotension", "rigors", "vancomycin"),
}
VERBS = (
    "accused|advised|arrested|beat|blamed|defended|elected|hired|joined|married|met|praised|"
    "replaced|sued|thanked|warned"
)
CLAUSE = re.compile(
    r"(?:there is )?a (?:\w+ )?(?P<person>boy|girl|man|woman)(?: in (?P<colour>\w+))?"
    r"(?: with a (?P<thing>\w+))?(?: is (?P<action>\w+ing \w+))?(?:(?: is)? in the (?P<place>\w+))?"
)
HYPOTHESIS = re.compile(
    r"the (?P<person>\w+) (?:wears (?P<colour>\w+)|has a (?P<thing>\w+)|"
    r"is in the (?P<place>\w+)|is (?P<action>\w+ing \w+)) \."
)
SIZES = {"documents": (60, 10, 10), "questions": (300, 40, 40)}


def made(kind: str, seed: int = 3) -> Dataset:
    n_train, n_dev, n_test = SIZES.get(kind, (900, 100, 100))
    return generate(kind, seed=seed, n_train=n_train, n_dev=n_dev, n_test=n_test)


def every(data: Dataset) -> list[Example]:
    return [example for part in data.splits for example in part]


def at(example: Example) -> list[str]:
    return [example.tokens[position] for position in example.evidence]


@pytest.mark.parametrize("kind", list(CLASSES))
def test_class_is_that_of_most_planted_words(kind: str) -> None:
    terms = CLASSES[kind]
    mixed = 0
    for example in every(made(kind)):
        votes = [sum(word in of_class for word in example.tokens) for of_class in terms]
        others = sum(votes) - votes[example.label]
        assert votes[example.label] > others
        assert sum(vote > 0 for vote in votes) <= 2
        own = [p for p, word in enumerate(example.tokens) if word in terms[example.label]]
        assert list(example.evidence) == own
        mixed += others > 0
    assert 0.1 < mixed / len(every(made(kind))) < 0.45


def test_labels_are_those_whose_terms_are_in_the_note() -> None:
    data = generate("labels", n_train=2000, n_dev=1, n_test=1)
    assert data.labels == tuple(CONDITIONS) and data.kind == "labels"
    for example in data.train:
        counts = [sum(word in terms for word in example.tokens) for terms in CONDITIONS.values()]
        assert example.label == -1 and max(counts) <= 3
        assert example.labels == tuple(number for number, count in enumerate(counts) if count)
        planted = sum(CONDITIONS.values(), ())
        assert list(example.evidence) == [
            p for p, word in enumerate(example.tokens) if word in planted
        ]
    for number, share in enumerate((0.4, 0.25, 0.15, 0.1, 0.05)):
        held = sum(number in (example.labels or ()) for example in data.train)
        # Five standard deviations of a binomial.
        assert abs(held - 2000 * share) < 5 * np.sqrt(2000 * share * (1 - share))
    nothing = sum(not example.labels for example in data.train)
    assert abs(nothing / 2000 - 0.6 * 0.75 * 0.85 * 0.9 * 0.95) < 5 * np.sqrt(0.33 * 0.67 / 2000)


def facts(match: re.Match[str] | None) -> dict[str, str]:
    assert match is not None
    return {kind: value for kind, value in match.groupdict().items() if value}


def judged(example: Example) -> tuple[str, list[str]]:
    """Parses both texts; returns what the one says of the other, and the words that decide."""
    *words, last = example.tokens
    assert last == "."
    told = [facts(CLAUSE.fullmatch(clause)) for clause in " ".join(words).split(" while ")]
    claim = facts(HYPOTHESIS.fullmatch(" ".join(example.question)))
    person = claim.pop("person")
    ((kind, value),) = claim.items()
    (known,) = [each for each in told if each["person"] == person]
    if kind not in known:
        return "neutral", []
    decisive = known[kind].split()
    return ("entailment" if known[kind] == value else "contradiction"), decisive


def test_pairs_parse_to_their_labels() -> None:
    data = made("pairs")
    assert data.kind == "pairs" and data.labels == ("entailment", "neutral", "contradiction")
    for example in every(data):
        verdict, decisive = judged(example)
        assert verdict == data.labels[example.label]
        assert at(example) == decisive
        assert all(second == first + 1 for first, second in pairwise(example.evidence))
        assert 4 <= len(example.question) <= 10
        for article, word in pairwise(example.tokens):
            assert article != "a" or word[0] not in "aeiou"
    two = [example for example in every(data) if "while" in example.tokens]
    assert 0.2 < len(two) / len(every(data)) < 0.45
    for example in two:  # the evidence lies in the clause about the one who is meant
        border = example.tokens.index("while")
        second = example.tokens.index(example.question[1]) > border
        assert all((position > border) == second for position in example.evidence)


def test_questions_are_answered_by_the_sentence_with_their_verb() -> None:
    data = made("questions")
    assert data.kind == "questions" and data.labels == tuple(f"@entity{n}" for n in range(30))
    event = re.compile(rf"(@\w+) ({VERBS}) (@\w+)")
    counted: Counter[str] = Counter()
    for example in every(data):
        assert example.tokens[-1] == "."
        sentences = " ".join(example.tokens).split(" .")[:-1]
        asked = event.search(" ".join(example.question))
        assert asked is not None and len(event.findall(" ".join(example.question))) == 1
        found = [s for sentence in sentences for s in event.finditer(sentence) if s[2] == asked[2]]
        (said,) = found
        gap = 1 if asked[1] == "@placeholder" else 3
        assert asked[gap] == "@placeholder" and asked[4 - gap] == said[4 - gap] != said[gap]
        assert data.labels[example.label] == said[gap]
        assert " ".join(at(example)) == f"{said.string.strip()} ."
        entities = {word for word in example.tokens if word[0] == "@"}
        assert [data.labels[number] for number in example.candidates] == sorted(
            entities, key=lambda entity: int(entity[7:])
        )
        assert 10 <= len(entities) <= 30
        assert len(example.question) < len(at(example))
        mentions = Counter(word for word in example.tokens if word[0] == "@")
        counted["subject" if gap == 1 else "object"] += 1
        counted["named most"] += said[gap] == mentions.most_common(1)[0][0]
    assert min(counted["subject"], counted["object"]) > 100
    # The entity named most is asked for far more often than one in ten, but not always.
    assert 0.4 < counted["named most"] / len(every(data)) < 0.85


@pytest.mark.parametrize("kind", KINDS)
def test_shape_of_each_kind(kind: str) -> None:
    data = made(kind)
    low, high = LENGTHS[kind]
    assert data.name == f"generated-{kind}" and data.kind == {
        "topics": "texts", "documents": "texts"
    }.get(kind, kind)  # fmt: skip
    assert [len(part) for part in data.splits] == list(SIZES.get(kind, (900, 100, 100)))
    lengths = [len(example.tokens) for example in data.train]
    assert low <= min(lengths) < low + (high - low) / 4
    assert high - (high - low) / 4 < max(lengths) <= high
    for example in every(data):
        assert all(word == word.lower() and word.strip() for word in example.tokens)
        assert list(example.evidence) == sorted(set(example.evidence))
    texts = [tuple(example.tokens) for example in every(data)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("kind", ["texts", "topics", "pairs", "documents"])
def test_labels_are_balanced(kind: str) -> None:
    n = 200 if kind == "documents" else 2000
    words = (30, 40) if kind == "documents" else None
    data = generate(kind, n_train=n, n_dev=1, n_test=1, words=words)
    classes = len(data.labels)
    counts = np.bincount([example.label for example in data.train], minlength=classes)
    # Five standard deviations of a binomial.
    assert abs(counts - n / classes).max() < 5 * np.sqrt(n * (classes - 1)) / classes


def test_words_that_mean_nothing_are_none_of_the_planted() -> None:
    words, totals = _vocabulary()
    planted = [term for terms in CLASSES.values() for each in terms for term in each]
    planted += [*sum(CONDITIONS.values(), ()), *VERBS.split("|")]
    assert len(set(words)) == len(words) == len(totals) == 2000
    assert not set(words) & set(planted)
    for terms in CLASSES.values():
        assert len({term for each in terms for term in each}) == sum(map(len, terms))
    share = np.diff([0, *totals]) * (np.arange(2000) + 2.7)
    np.testing.assert_allclose(share, 1, rtol=1e-9)  # Zipf's law


def test_equal_words_are_one_object() -> None:
    data = generate("documents", n_train=3, n_dev=1, n_test=1)
    words = [word for example in every(data) for word in example.tokens]
    assert len(set(map(id, words))) == len(set(words))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_and_other_sizes_do_not_change_the_test_split(kind: str) -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    small = generate(kind, seed=4, n_train=2, n_dev=2, n_test=5)
    assert small == generate(kind, seed=4, n_train=2, n_dev=2, n_test=5)
    assert small.test == generate(kind, seed=4, n_train=9, n_dev=3, n_test=5).test
    assert small.test != generate(kind, seed=5, n_train=2, n_dev=2, n_test=5).test
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == str(states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_the_test_split_gives_way_to_no_other() -> None:
    """Of so many premises some are drawn twice; those of the test split are drawn first."""
    few, many = (generate("pairs", n_train=n, n_dev=1, n_test=300) for n in (1, 6000))
    assert few.test == many.test


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pairs"])
def test_length_on_demand(kind: str) -> None:
    data = generate(kind, n_train=2, n_dev=1, n_test=1, words=(4000, 4000))
    assert [len(example.tokens) for example in every(data)] == [4000] * 4
    short = generate(kind, n_train=20, n_dev=1, n_test=1, words=(30, 30))
    assert {len(example.tokens) for example in every(short)} == {30}


def test_sizes_by_default() -> None:
    assert [len(part) for part in generate("texts").splits] == [3000, 400, 400]


def test_what_cannot_be_generated() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of texts, .*, documents; got 'news'"):
        generate("news")
    with pytest.raises(ValueError, match=r"n_dev must be at least 1; got 0"):
        generate("texts", n_dev=0)
    with pytest.raises(TypeError, match=r"n_test must be a whole number"):
        generate("texts", n_test=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"seed must be at least 0"):
        generate("texts", seed=-1)
    with pytest.raises(ValueError, match=r"words must be left out for pairs; got \(8, 9\)"):
        generate("pairs", words=(8, 9))
    for words in ((7, 9), (30, 20), (30,), (30, 40, 50)):
        with pytest.raises(ValueError, match=r"two numbers of 8 or more for texts, ascending"):
            generate("texts", words=words)
    with pytest.raises(ValueError, match=r"words must be two numbers of 30 or more for documents"):
        generate("documents", words=(29, 40))


def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_PATIENCE", 20)
    monkeypatch.setattr(pairs, "_MANNERS", ("tall",))
    with pytest.raises(ValueError, match=r"n_train must leave texts that differ; got 9\d+, and"):
        generate("pairs", n_train=90_000, n_dev=1, n_test=1)
