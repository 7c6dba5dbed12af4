"""The logistic regression on words, against slow loops, closed forms and finite differences."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from scipy.special import lambertw, logsumexp

from faithattn.paper.data.examples import Example
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.log_odds import LogOdds, accuracy, fit_log_odds
from faithattn.paper.log_odds.newton import _Problem, least_loss
from faithattn.paper.log_odds.presence import word_presence

WORDS = tuple("abcdefgh")


def classified(n: int, n_classes: int, *, seed: int = 0) -> list[Example]:
    """Texts of a few letters whose class, 0 more often, nothing tells in particular."""
    rng = random.Random(seed)
    return [
        Example(rng.choices(WORDS, k=rng.randrange(1, 9)), max(0, rng.randrange(-2, n_classes)))
        for _ in range(n)
    ]


def labelled(n: int, *, seed: int = 0) -> list[Example]:
    """Texts with three labels of which some hold."""
    rng = random.Random(seed)
    return [
        Example(
            rng.choices(WORDS, k=rng.randrange(1, 9)),
            -1,
            labels=tuple(c for c in range(3) if rng.random() < (0.2, 0.5, 0.7)[c]),
        )
        for _ in range(n)
    ]


VOCABULARY = Vocabulary.build([WORDS[:7]])  # h is unknown


def slow_logits(log_odds: LogOdds, tokens: Sequence[str]) -> list[float]:
    """The sum over different words, one at a time."""
    sums = log_odds.bias.double().tolist()
    for word in set(tokens) & set(VOCABULARY.words):
        column = VOCABULARY.words.index(word)
        sums = [s + w for s, w in zip(sums, log_odds.weights[:, column].tolist(), strict=True)]
    return sums


def slow_gradient(
    examples: Sequence[Example], rows: np.ndarray, bias: np.ndarray, truth: np.ndarray, l2: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the whole objective by loops over texts, classes and words.

    One row is a binary regression on ``truth`` (N,), more a softmax on ``truth`` (N, C).
    """
    by_weight, by_bias = l2 * rows, np.zeros(len(rows))
    columns = truth[:, None] if truth.ndim == 1 else truth
    shares = columns.mean(0)
    n_classes = len(shares) if truth.ndim == 2 else 2
    for example, target in zip(examples, columns, strict=True):
        words = [VOCABULARY.words.index(w) for w in set(example.tokens) & set(VOCABULARY.words)]
        logits = bias + np.array([sum(row[word] for word in words) for row in rows])
        if truth.ndim == 1:
            p = 1 / (1 + np.exp(-logits))
            factor = 1 / (n_classes * (shares[0] if target[0] else 1 - shares[0]))
        else:
            p = np.exp(logits - logsumexp(logits))
            factor = 1 / (n_classes * shares[target.argmax()])
        for number, slope in enumerate(factor * (p - target)):
            by_bias[number] += slope
            for word in words:
                by_weight[number, word] += slope
    return by_weight, by_bias


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_two_classes_are_at_the_optimum(l2: float) -> None:
    examples = classified(60, 2)
    log_odds = fit_log_odds(examples, VOCABULARY, 2, l2=l2)
    truth = np.array([float(example.label) for example in examples])
    rows, bias = (each.double().numpy() for each in (log_odds.weights, log_odds.bias))
    for gradient in slow_gradient(examples, rows, bias, truth, l2):
        assert np.abs(gradient).max() < 2e-4
    assert not log_odds.independent
    assert np.abs(rows).max() > 0.1


@pytest.mark.parametrize("l2", [0.1, 1.0])
def test_several_classes_are_at_the_optimum_against_the_mean_of_the_others(l2: float) -> None:
    examples = classified(80, 4)
    log_odds = fit_log_odds(examples, VOCABULARY, 4, l2=l2)
    truth = np.eye(4)[[example.label for example in examples]]
    rows, bias = (each.double().numpy() for each in (log_odds.weights, log_odds.bias))
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-6)
    # z_c - (z_0 + ... - z_c) / 3 = 4/3 (z_c - mean z): the softmax has 3/4 of it.
    for gradient in slow_gradient(examples, rows * 0.75, bias * 0.75, truth, l2):
        assert np.abs(gradient).max() < 2e-4
    logits = np.array(slow_logits(log_odds, examples[0].tokens)) * 0.75
    others = np.array([np.delete(logits, c).mean() for c in range(4)])
    expected = slow_logits(log_odds, examples[0].tokens)
    np.testing.assert_allclose(logits - others, expected, atol=1e-6)


def test_labels_have_a_regression_each() -> None:
    examples = labelled(60)
    log_odds = fit_log_odds(examples, VOCABULARY, 3, kind="labels")
    assert log_odds.independent and log_odds.weights.shape == (3, len(VOCABULARY))
    for number in range(3):
        alone = [Example(e.tokens, int(number in (e.labels or ()))) for e in examples]
        single = fit_log_odds(alone, VOCABULARY, 2)
        torch.testing.assert_close(log_odds.weights[number], single.weights[0])
        torch.testing.assert_close(log_odds.bias[number], single.bias[0])


@pytest.mark.parametrize("l2", [0.25, 1.0, 3.0])
def test_one_word_a_class_has_a_closed_form(l2: float) -> None:
    # By symmetry w_good = -w_bad = w and the bias is 0: n s(-w) = 2 l2 w, with n texts a class
    # half of the sum. In the limit of rare mistakes s(-w) ~ exp(-w), hence Lambert's W.
    n = 50
    examples = [Example(("a",), 1), Example(("b",), 0)] * n
    weights = fit_log_odds(examples, VOCABULARY, 2, l2=l2).weights[0]
    w = weights[VOCABULARY.words.index("a")].item()
    assert weights[VOCABULARY.words.index("b")].item() == pytest.approx(-w, abs=1e-5)
    assert n / (1 + np.exp(w)) == pytest.approx(l2 * w, rel=1e-4)
    assert w == pytest.approx(lambertw(n / l2).real, abs=0.1)


def test_gradient_and_bend_are_those_of_the_value() -> None:
    rng = np.random.default_rng(0)
    for n_classes in (2, 3):
        examples = classified(30, n_classes)
        problem = captured(examples, n_classes)
        point = rng.normal(size=(len(VOCABULARY) + 1) * (1 if n_classes == 2 else n_classes))
        assert check_grad(problem.value, problem.gradient, point) < 1e-4
        direction = rng.normal(size=point.shape)
        ahead, behind = (problem.gradient(point + s * direction) for s in (1e-5, -1e-5))
        bent = problem.product(point, direction)
        np.testing.assert_allclose(bent, (ahead - behind) / 2e-5, atol=1e-5, rtol=1e-5)


def captured(examples: Sequence[Example], n_classes: int) -> _Problem:
    """The function that a fit minimises."""
    found: list[_Problem] = []

    def watch(held: Any, loss: Any, n_rows: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
        found.append(_Problem(held, loss, n_rows, l2))
        return least_loss(held, loss, n_rows, l2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faithattn.paper.log_odds.regression.least_loss", watch)
        fit_log_odds(examples, VOCABULARY, n_classes)
    return found[0]


def test_separable_texts_stay_finite() -> None:
    examples = [Example(("a", "c"), 1), Example(("b", "c"), 0)] * 20
    weak = fit_log_odds(examples, VOCABULARY, 2, l2=1e-4)
    assert weak.weights.isfinite().all() and weak.bias.isfinite().all()
    assert 8 < weak.strength().max() < 20
    assert accuracy(weak, examples, VOCABULARY) == 1


@pytest.mark.parametrize(
    ("make", "n_classes", "kind"),
    [(lambda: classified(50, 2), 2, "texts"), (lambda: classified(50, 3), 3, "texts"),
     (lambda: labelled(50), 3, "labels")],
)  # fmt: skip
def test_order_of_examples_and_repeated_words_do_not_matter(
    make: Any, n_classes: int, kind: str
) -> None:
    examples = make()
    first = fit_log_odds(examples, VOCABULARY, n_classes, kind=kind)
    random.Random(1).shuffle(examples)
    doubled = [
        Example((*e.tokens, *e.tokens[::-1]), e.label, labels=e.labels) for e in examples
    ]  # fmt: skip
    second = fit_log_odds(doubled, VOCABULARY, n_classes, kind=kind)
    torch.testing.assert_close(first.weights, second.weights, atol=2e-4, rtol=0)


def test_classes_count_alike() -> None:
    # Nine of ten are 0, and a text without known words says nothing about it.
    examples = [Example(("h",), int(number % 10 == 0)) for number in range(50)]
    log_odds = fit_log_odds(examples, VOCABULARY, 2)
    assert abs(log_odds.bias.item()) < 1e-5
    assert not log_odds.weights.any()


def test_special_and_unknown_words_have_no_weight() -> None:
    examples = [Example(("h", "a", "<s>", "<unk>"), 1), Example(("b", "</s>"), 0)] * 5
    log_odds = fit_log_odds(examples, VOCABULARY, 2)
    assert not log_odds.weights[:, :4].any()
    held = word_presence(examples[:2], VOCABULARY)
    assert held.sum(1).tolist() == [1, 1]


def test_special_and_unknown_words_count_nothing_whatever_they_weigh() -> None:
    weights = torch.zeros(1, len(VOCABULARY))
    weights[0, :4], weights[0, 4] = 5.0, -1.0
    found = LogOdds(weights, torch.zeros(1)).logits(
        torch.tensor([[2, 4, 1, 3, 0], [2, 3, 0, 0, 0]])
    )
    assert found.tolist() == [[-1.0], [0.0]]


def test_classes_and_labels_without_a_choice_lie_at_infinity() -> None:
    inf = torch.inf
    one = fit_log_odds([Example(("a",), 1)] * 3, VOCABULARY, 2)
    assert one.bias.tolist() == [inf] and not one.weights.any()
    assert one.predict(torch.tensor([[2, 4, 3]])).tolist() == [1]

    three = [Example(example.tokens, (0, 2)[example.label]) for example in classified(40, 2)]
    missing = fit_log_odds(three, VOCABULARY, 3)
    assert missing.bias[1] == -inf and not missing.weights[1].any()
    torch.testing.assert_close(missing.weights[0], -missing.weights[2])
    assert set(missing.predict(torch.arange(4, 11)[:, None]).tolist()) <= {0, 2}
    only = fit_log_odds([Example(("a",), 2)], VOCABULARY, 3)
    assert only.bias.tolist() == [-inf, -inf, inf]
    assert accuracy(only, [Example(("b",), 2)], VOCABULARY) == 1

    labels = fit_log_odds([Example(("a",), -1, labels=(1,))] * 2, VOCABULARY, 2, kind="labels")
    assert labels.bias.tolist() == [-inf, inf]
    assert labels.predict(torch.tensor([[2, 4, 3]])).tolist() == [[False, True]]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predictions_and_accuracy_are_slow_loops(n_classes: int) -> None:
    train, test = classified(60, n_classes), classified(40, n_classes, seed=1)
    log_odds = fit_log_odds(train, VOCABULARY, n_classes)
    right = 0
    for example in test:
        sums = slow_logits(log_odds, example.tokens)
        expected = int(np.argmax([0, sums[0]] if n_classes == 2 else sums))
        ids = torch.tensor([[*VOCABULARY.encode(example.tokens), 0, 0]])
        assert log_odds.logits(ids)[0].tolist() == pytest.approx(sums, abs=1e-5)
        assert log_odds.predict(ids).item() == expected
        right += expected == example.label
    assert accuracy(log_odds, test, VOCABULARY) == right / 40


def test_accuracy_of_labels_counts_each_label() -> None:
    train, test = labelled(60), labelled(30, seed=1)
    log_odds = fit_log_odds(train, VOCABULARY, 3, kind="labels")
    right = 0
    for example in test:
        sums = slow_logits(log_odds, example.tokens)
        right += sum((sums[c] > 0) == (c in (example.labels or ())) for c in range(3))
    assert accuracy(log_odds, test, VOCABULARY) == pytest.approx(right / 90)


def test_attention_is_a_softmax_over_words() -> None:
    log_odds = fit_log_odds(classified(60, 3), VOCABULARY, 3)
    ids = torch.tensor([[2, 4, 1, 5, 4, 3], [2, 3, 0, 0, 0, 0]])
    strength = [0.0] * len(VOCABULARY)
    for column in range(len(VOCABULARY)):
        strength[column] = max(abs(row[column]) for row in log_odds.weights.tolist())
    raised = [np.exp(strength[number] / 0.5) for number in (4, 1, 5, 4)]
    found = log_odds.attention(ids, temperature=0.5)
    expected = [0, *(each / sum(raised) for each in raised), 0]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert not found[1].any()


def test_towards() -> None:
    two = LogOdds(torch.randn(1, 6), torch.zeros(1))
    assert two.n_classes == 2
    assert two.towards(1).equal(two.weights[0]) and two.towards(0).equal(-two.weights[0])
    one_label = LogOdds(two.weights, torch.zeros(1), independent=True)
    assert one_label.n_classes == 1
    assert one_label.towards(0).equal(two.weights[0])
    with pytest.raises(ValueError, match=r"number must lie in 0\.\.0; got 1"):
        one_label.towards(1)
    with pytest.raises(TypeError, match="number must be a whole number"):
        two.towards(0.5)  # type: ignore[arg-type]


def test_planted_words_are_found() -> None:
    rng = random.Random(0)
    fillers = [f"w{number}" for number in range(300)]
    examples = []
    for number in range(600):
        label = number % 3
        examples.append(
            Example([*rng.choices(fillers, k=15), f"c{label}{rng.randrange(4)}"], label)
        )
    vocabulary = Vocabulary.build([example.tokens for example in examples])
    log_odds = fit_log_odds(examples[:400], vocabulary, 3)
    assert accuracy(log_odds, examples[400:], vocabulary) > 0.98
    for label in range(3):
        top = log_odds.towards(label).topk(4).indices.tolist()
        assert {vocabulary.words[number] for number in top} == {f"c{label}{n}" for n in range(4)}


def test_long_documents_are_streamed() -> None:
    words = [f"w{number}" for number in range(50_000)]
    rng = random.Random(0)
    examples = [Example(rng.choices(words, k=4000), number % 2) for number in range(20)]
    vocabulary = Vocabulary.build([words])
    tracemalloc.start()
    held = word_presence(examples, vocabulary)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A word of a text takes 4 bytes, twice for a moment, and 8 for its number; one text is encoded
    # at a time, in less than 1 MB. A matrix with the zeros would be 8 MB.
    assert held.nnz > 70_000
    assert peak < 20 * held.nnz + 1e6 < 3e6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"examples": []}, ValueError, "examples must hold an example; got none"),
        ({"kind": "pairs"}, ValueError, "kind must be texts or labels; got 'pairs'"),
        ({"kind": "labels"}, ValueError, "examples must have several labels each; got something"),
        ({"n_classes": 1}, ValueError, "n_classes must be at least 2; got 1"),
        ({"n_classes": 2.0}, TypeError, "n_classes must be a whole number"),
        ({"l2": 0.0}, ValueError, "l2 must be positive and finite; got 0.0"),
        ({"l2": float("inf")}, ValueError, "l2 must be positive and finite; got inf"),
        ({"examples": [Example(("a",), 2)]}, ValueError, r"labels must lie in 0\.\.1; got 2 in"),
        ({"examples": [Example(("a",), -1)]}, ValueError, r"labels must lie in 0\.\.1; got -1 in"),
        ({"examples": [Example(("a",), -1, labels=(0,))]}, ValueError, "must have one class each"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"examples": classified(4, 2), "n_classes": 2, **change}
    with pytest.raises(error, match=message):
        fit_log_odds(given.pop("examples"), VOCABULARY, given.pop("n_classes"), **given)


def test_what_does_not_converge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faithattn.paper.log_odds.newton._STEPS", 1)
    with pytest.raises(ValueError, match=r"l2 must let the regression converge; got 1\.0, and a"):
        fit_log_odds(classified(40, 2), VOCABULARY, 2)


def test_what_does_not_fit_is_named() -> None:
    log_odds = fit_log_odds(classified(10, 2), VOCABULARY, 2)
    with pytest.raises(ValueError, match="vocabulary must have the 11 words of the regression"):
        accuracy(log_odds, classified(4, 2), Vocabulary.build([["a"]]))
    with pytest.raises(ValueError, match="temperature must be positive and finite; got 0"):
        log_odds.attention(torch.tensor([[4]]), temperature=0)
    with pytest.raises(ValueError, match=r"weights must have shape \(classes, vocabulary\)"):
        LogOdds(torch.zeros(6), torch.zeros(1))
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\)"):
        LogOdds(torch.zeros(2, 6), torch.zeros(1))
    with pytest.raises(TypeError, match="weights must be"):
        LogOdds(torch.zeros(2, 6, dtype=torch.int64), torch.zeros(2))
