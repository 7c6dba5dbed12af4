"""Planted models, and what is known of each: the answers that verdicts are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from faithattn.planted.case import Planted
from faithattn.planted.compensating import compensating
from faithattn.planted.learned import contextual, deceptive, random_weights, shortcut
from faithattn.planted.toys import Sigmoid, faithful, independent, indifferent, suppressor

YES, NO, WEAK = "yes", "no", "weak"
PLANTED = "planted importance"
_USE = ("permutation_test", "single_weight_erasure")
_RANK = ("gradient_correlation", "loo_correlation", PLANTED)
TESTS = ("permutation_test", *_RANK, "adversarial_attention", "single_weight_erasure")


@dataclass(frozen=True)
class Case:
    """A family of planted models.

    Attributes:
        name: What it is called in tables.
        make: A model with a number of texts and a seed.
        answers: What is known by test: ``"yes"`` (contradicting is wrong), ``"no"``
            (supporting is wrong) or ``"weak"`` (few texts cannot tell); tests
            that are not named have no known answer.
        deletes: Whether words can be deleted; weights are set to 0 otherwise.
    """

    name: str
    make: Callable[[int, int], Planted]
    answers: Mapping[str, str] = field(default_factory=dict)
    deletes: bool = True


def _answers(use: str = "", rank: str = "", adversary: str = "") -> dict[str, str]:
    named = dict.fromkeys(_USE, use) | dict.fromkeys(_RANK, rank)
    named["adversarial_attention"] = adversary
    return {name: answer for name, answer in named.items() if answer}


def _sigmoid(case: Planted) -> Planted:
    """The same scores as the logit of one class, so that changes are probabilities."""
    return replace(case, model=Sigmoid())


def _toy(name: str, make: Callable[[int, int], Planted], answers: Mapping[str, str]) -> Case:
    """A toy has no words to delete, and what a weight of 0 does is declined by the rule."""
    known = {test: answer for test, answer in answers.items() if test != "loo_correlation"}
    return Case(name, make, known, deletes=False)


def _toys() -> list[Case]:
    every = _answers(YES, YES, YES)
    # What a position of E does is weight times score, of which attention is one factor; the
    # planted importance is the score alone.
    factor = _answers(YES, "", YES) | {PLANTED: NO}
    return [
        *(
            _toy(f"A, {length} positions", partial(_faithful, length), every)
            for length in (3, 9, 20)
        ),
        _toy("B", lambda n, seed: indifferent(n, seed=seed), _answers(NO, NO, NO)),
        _toy("E", lambda n, seed: _sigmoid(independent(n, seed=seed)), factor),
        _toy("F", lambda n, seed: suppressor(n, seed=seed), every),
    ]


def _faithful(length: int, n: int, seed: int) -> Planted:
    return _sigmoid(faithful(n, length, seed=seed))


def _compensating(length: int, depth: int, unused: float) -> Case:
    """Used, weakly used or unused attention; after deep mixing it ranks no words, used or not."""
    if unused == 1:
        answers = _answers(NO, NO, NO)
    elif unused:
        answers = _answers(WEAK, WEAK, WEAK) if depth < 3 else {}
    else:
        answers = _answers(YES, YES if depth < 3 else "", YES)
    kind = {0.0: "used", 1.0: "unused"}.get(unused, "weakly used")
    return Case(
        f"{kind}, length {length}, depth {depth}",
        lambda n, seed: compensating(n, length, unused=unused, depth=depth, seed=seed),
        answers,
    )


def _learned() -> list[Case]:
    """Trained models; what training leaves open has no answer."""
    honest = partial(deceptive, penalty=0.0)
    bag = partial(contextual, encoder="average")
    return [
        Case("G honest", lambda n, seed: honest(n, seed=seed), _answers(YES, YES, YES)),
        Case("G deceptive", lambda n, seed: deceptive(n, seed=seed), _answers("", NO, NO)),
        Case("H bag of words", lambda n, seed: bag(n, seed=seed), _answers(YES, YES, YES)),
        Case("H BiLSTM", lambda n, seed: contextual(n, seed=seed), _answers(YES, "", YES)),
        Case("I", lambda n, seed: random_weights(n, seed=seed), _answers(NO, NO, NO)),
        Case("J", lambda n, seed: shortcut(n, seed=seed), _answers(YES, "", YES)),
    ]


CASES: tuple[Case, ...] = (
    *_toys(),
    *(
        _compensating(length, depth, unused)
        for unused in (0.0, 0.75, 1.0)
        for depth in (0, 1, 3)
        for length in (6, 16, 40)
    ),
    *_learned(),
)
