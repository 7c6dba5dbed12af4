from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest
import torch

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Dataset, Example

PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
SENTENCE = re.compile(
    r"(?P<actor>daniel|john|mary|sandra) (?:"
    r"(?P<move>went to|went back to|moved to|journeyed to|travelled to)|"
    r"(?P<take>took|got|grabbed|picked up)|(?P<drop>dropped|left|discarded|put down)"
    r") the (?P<target>\w+) \."
)


@pytest.fixture(scope="module", params=[1, 2, 3])
def data(request: pytest.FixtureRequest) -> Dataset:
    return generate_babi(request.param, seed=5, n_train=600, n_dev=60, n_test=60)


def sentences(tokens: tuple[str, ...]) -> list[dict[str, str]]:
    """Reads a story back; nothing but known sentences may be in it."""
    text = " ".join(tokens)
    matches = list(SENTENCE.finditer(text))
    assert " ".join(match.group() for match in matches) == text
    return [match.groupdict() for match in matches]


def answer(tokens: tuple[str, ...], question: tuple[str, ...]) -> str:
    """Plays a story back from its words alone and answers, refusing impossible steps."""
    place: dict[str, str] = {}
    holder: dict[str, str | None] = {}
    history: dict[str, list[str]] = {}
    for s in sentences(tokens):
        actor, target = s["actor"], s["target"]
        if s["move"]:
            assert target in PLACES
            assert place.get(actor) != target
            place[actor] = target
            for thing in [o for o, who in holder.items() if who == actor]:
                history[thing].append(target)
        elif s["take"]:
            trail = history.setdefault(target, [place[actor]])
            assert holder.get(target) is None
            assert trail[-1] == place[actor]
            holder[target] = actor
        else:
            assert holder[target] == actor
            holder[target] = None
    words = list(question)
    if "before" in words:
        trail = history[words[3]]
        assert trail.count(words[-2]) == 1
        assert trail.index(words[-2]) > 0
        return trail[trail.index(words[-2]) - 1]
    return place[words[2]] if words[2] in place else history[words[-2]][-1]


def answer_from_evidence(facts: list[dict[str, str]], question: tuple[str, ...]) -> str:
    """Answers from the supporting sentences alone, for one actor who acts in all of them."""
    assert len({fact["actor"] for fact in facts}) == 1
    places = [fact["target"] for fact in facts if fact["move"]]
    if "before" in question:
        assert [bool(fact["take"]) for fact in facts].count(True) == 1
        assert places[1] == question[-2]
        return places[0]
    if len(facts) == 1:
        assert facts[0]["actor"] == question[2]
    else:
        assert [f["target"] for f in facts if not f["move"]] == [question[-2]]
    assert len(places) == 1
    return places[0]


def n_facts(example: Example) -> int:
    return [example.tokens[position] for position in example.evidence].count(".")


def test_stories_replay_to_their_labels(data: Dataset) -> None:
    for example in data.train:
        assert answer(example.tokens, example.question) == data.labels[example.label]


def test_evidence_alone_gives_the_label(data: Dataset) -> None:
    task = int(data.name[-1])
    for example in data.train:
        facts = sentences(tuple(example.tokens[position] for position in example.evidence))
        assert len(facts) == task
        assert answer_from_evidence(facts, example.question) == data.labels[example.label]


def test_evidence_is_whole_sentences_in_order(data: Dataset) -> None:
    for example in data.train:
        assert list(example.evidence) == sorted(set(example.evidence))
        for position in example.evidence:
            if example.tokens[position] != ".":
                assert position + 1 in example.evidence
            first = position == 0 or example.tokens[position - 1] == "."
            assert first or position - 1 in example.evidence


def test_shape_of_a_data_set(data: Dataset) -> None:
    assert data.labels == PLACES
    assert [len(data.train), len(data.dev), len(data.test)] == [600, 60, 60]
    for example in data.train:
        assert example.candidates == tuple(range(6))
        assert example.question[-1] == "?"
        assert all(token == token.lower() for token in example.tokens)


def test_stories_are_distinct_within_and_between_splits() -> None:
    data = generate_babi(1, n_train=4000, n_dev=500, n_test=500)
    stories = [example.tokens for part in (data.train, data.dev, data.test) for example in part]
    assert len(set(stories)) == len(stories) == 5000


@pytest.mark.parametrize(("task", "low", "high"), [(1, 2, 10), (2, 4, 24), (3, 8, 36)])
def test_story_lengths(task: int, low: int, high: int) -> None:
    data = generate_babi(task, n_train=800, n_dev=1, n_test=1)
    lengths = Counter(example.tokens.count(".") for example in data.train)
    assert (min(lengths), max(lengths)) == (low, high)


def test_answers_are_balanced_and_not_given_by_position() -> None:
    for task in (1, 2, 3):
        data = generate_babi(task, n_train=3000, n_dev=1, n_test=1)
        counts = np.bincount([example.label for example in data.train], minlength=6)
        # Six standard deviations of a binomial with p = 1/6.
        assert abs(counts - 500).max() < 6 * np.sqrt(3000 * 5 / 36)
        last = [example.evidence[-1] == len(example.tokens) - 1 for example in data.train]
        assert 0.05 < np.mean(last) < 0.5
        guess = [
            next(word for word in reversed(example.tokens) if word in PLACES)
            == data.labels[example.label]
            for example in data.train
        ]
        assert np.mean(guess) < 0.55


def test_objects_are_also_dropped_in_what_is_asked() -> None:
    data = generate_babi(2, n_train=500, n_dev=1, n_test=1)
    kinds = Counter(
        "drop" if any(s["drop"] for s in sentences(support)) else "take"
        for example in data.train
        for support in [tuple(example.tokens[p] for p in example.evidence)]
    )
    assert min(kinds["drop"], kinds["take"]) > 50


def test_seed_decides_the_stories_and_no_global_generator_moves() -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    first = generate_babi(2, seed=3, n_train=20, n_dev=5, n_test=5)
    assert first == generate_babi(2, seed=3, n_train=20, n_dev=5, n_test=5)
    assert first.test != generate_babi(2, seed=4, n_train=20, n_dev=5, n_test=5).test
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == str(states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_test_split_does_not_depend_on_the_others() -> None:
    small = generate_babi(1, n_train=5, n_dev=5, n_test=30)
    large = generate_babi(1, n_train=50, n_dev=20, n_test=30)
    assert small.test == large.test


@pytest.mark.parametrize("task", [0, 4, 20])
def test_unknown_task(task: int) -> None:
    with pytest.raises(ValueError, match=r"task must be"):
        generate_babi(task)


def test_bad_counts() -> None:
    with pytest.raises(ValueError, match=r"n_dev must be at least 1; got 0"):
        generate_babi(1, n_dev=0)
    with pytest.raises(TypeError, match=r"n_train must be a whole number"):
        generate_babi(1, n_train=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"task must be a whole number"):
        generate_babi("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"seed must be at least 0"):
        generate_babi(1, seed=-1)
