"""The models and what the tests make of them, beside a slow loop over instances and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_models import slow_logits
from small_models import (
    CLASSES,
    VOCABULARY,
    Inputs,
    alone,
    make_answerer,
    make_classes,
    make_labels,
    make_pairs,
    make_text,
    pairs,
    passage,
    questions,
    texts,
    with_passage,
)
from torch import Tensor

from faithattn import (
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.adapters.beside import beside
from faithattn.paper.models import TextClassifier

Case = tuple[Any, Callable[..., Any]]
LENGTHS = [4, 1, 7]
MAKERS = {
    "labels": (make_labels, texts),
    "classes": (make_classes, texts),
    "pairs": (make_pairs, pairs),
    "questions": (make_answerer, questions),
}


def outputs(model: Any, logits: Tensor) -> Tensor:
    return logits.sigmoid() if model.output == "sigmoid" else logits.softmax(-1)


def distance(model: Any, first: Tensor, second: Tensor) -> float:
    """Total variation of two outputs ``(C,)``; of labels, the mean over them."""
    change = [abs(a - b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return sum(change) / 2 if model.output == "softmax" else sum(change) / len(change)


@torch.no_grad()
def test_logits_are_those_of_the_slow_loop(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS, width=9)
    logits = model.run(inputs).logits
    for row in range(len(LENGTHS)):
        expected = slow_logits(model, alone(inputs, row))
        torch.testing.assert_close(logits[row], expected, atol=1e-12, rtol=0)


@torch.no_grad()
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_what_is_on_offer_is_each_instances_own(data: st.DataObject) -> None:
    model, size = make_answerer(data.draw(st.sampled_from(["bilstm", "cnn", "average"]))), 3
    inputs = questions(data.draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)))
    flags = st.lists(st.booleans(), min_size=CLASSES, max_size=CLASSES).filter(any)
    inputs["candidates"] = torch.tensor([data.draw(flags) for _ in range(size)])
    run = model.run(inputs)
    for row in range(size):
        expected = slow_logits(model, alone(inputs, row))
        torch.testing.assert_close(run.logits[row], expected, atol=1e-12, rtol=0)
    found = loo_correlation(model, inputs).predicted
    assert inputs["candidates"][torch.arange(size), found].all()


@torch.no_grad()
def test_leave_one_out_is_a_loop_over_shortened_instances(case: Case) -> None:
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    assert beside(model, inputs) is not None
    found = loo_correlation(model, inputs).importance
    for row in range(len(LENGTHS)):
        single = alone(inputs, row)
        ids = passage(single)
        whole = outputs(model, slow_logits(model, single))
        for at in range(1, ids.shape[1] - 1):
            shorter = torch.cat([ids[:, :at], ids[:, at + 1 :]], 1)
            changed = outputs(model, slow_logits(model, with_passage(single, shorter)))
            # The only word of a text cannot go.
            expected = distance(model, changed, whole) if LENGTHS[row] > 1 else torch.nan
            assert found[row, at].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_gradients_are_those_of_the_slow_loop(case: Case) -> None:
    """Of the predicted class; of labels, the sum over them; attention held."""
    model, make_inputs = case
    inputs = make_inputs(LENGTHS)
    result = gradient_correlation(model, inputs)
    several = model.output == "sigmoid" and model.decoder.out_features > 1
    for row in range(len(LENGTHS)):
        single = alone(inputs, row)
        ids = passage(single)[0]
        vectors = model.embedding.weight[ids].detach().requires_grad_()
        weights = result.explanation[row][result.mask[row]].tolist()
        found = outputs(model, slow_logits(model, single, attention=weights, features=vectors))
        chosen = [int(result.predicted[row])] if model.output == "softmax" else range(len(found))
        total = torch.zeros(len(ids), dtype=torch.float64)
        for number in chosen:
            (slope,) = torch.autograd.grad(found[number], vectors, retain_graph=True)
            total += (slope * vectors.detach()).sum(-1).abs()
        assert (result.predicted[row] == -1) == several
        torch.testing.assert_close(
            result.importance[row, 1 : len(ids) - 1], total[1:-1], atol=1e-12, rtol=0
        )


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("method", ["auto", "published"])
@torch.no_grad()
def test_adversaries_do_what_is_said_of_them(kind: str, method: str) -> None:
    make, make_inputs = MAKERS[kind]
    model, inputs = make("average"), make_inputs(LENGTHS)
    result = adversarial_attention(
        model, inputs, method=method, epsilon=0.05, n_adversaries=2, n_steps=20, seed=0
    )
    mask = model.run(inputs).mask
    for row in range(len(LENGTHS)):
        single = alone(inputs, row)
        whole = outputs(model, slow_logits(model, single))
        for weights, tvd, within in zip(
            result.attention[row], result.tvd[row], result.feasible[row], strict=True
        ):
            chosen = weights[mask[row]].tolist()
            changed = outputs(model, slow_logits(model, single, attention=chosen))
            expected = distance(model, changed, whole)
            assert tvd.item() == pytest.approx(expected, abs=1e-9)
            assert within.item() == (expected <= 0.05 + 1e-9)


@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_shuffles_change_the_output_as_the_slow_loop_says(kind: str) -> None:
    """Of three words, each of six orders is drawn; each draw gives one of their six distances."""
    make, make_inputs = MAKERS[kind]
    model, inputs = make("cnn"), make_inputs([3])
    weights = model.run(inputs).attention["attention"][0, 1:4].tolist()
    single = alone(inputs, 0)
    whole = outputs(model, slow_logits(model, single))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    expected = {
        round(distance(model, outputs(model, slow_logits(model, single, attention=each)), whole), 9)
        for each in ([weights[place] for place in order] for order in orders)
    }
    found = permutation_test(model, inputs, n_permutations=200, seed=0).tvd[0]
    assert {round(value, 9) for value in found.tolist()} == expected


def test_labels_are_independent_of_each_other() -> None:
    """Each label alone is a model of one logit with that row of the decoder."""
    model, ids = make_labels(), texts(LENGTHS)
    found = model.run(ids).logits
    for number in range(3):
        single = make_text()
        weights = model.state_dict()
        weights["decoder.weight"] = weights["decoder.weight"][number : number + 1]
        weights["decoder.bias"] = weights["decoder.bias"][number : number + 1]
        single.load_state_dict(weights)
        torch.testing.assert_close(single.run(ids).logits[:, 0], found[:, number])


def test_the_hypothesis_asks() -> None:
    for encoder in ("bilstm", "cnn", "average"):
        model, inputs = make_pairs(encoder), pairs([5])
        other: Inputs = {**inputs, "hypothesis": torch.tensor([[2, 9, 4, 10, 3]])}
        first, second = model.run(inputs), model.run(other)
        assert not torch.allclose(first.attention["attention"], second.attention["attention"])
        assert not torch.allclose(first.logits, second.logits)
        for words in ([[2, 3]], [[0, 0]]):
            assert model.run({**inputs, "hypothesis": torch.tensor(words)}).logits.isfinite().all()


def test_only_the_explained_text_loses_words() -> None:
    inputs = pairs([3, 5])
    shorter = make_pairs().remove(inputs, torch.tensor([1, 2]))
    assert shorter["premise"].shape == (2, 6)
    assert shorter["hypothesis"].equal(inputs["hypothesis"])
    gone = torch.zeros(2, 7, dtype=torch.bool)
    gone[0, 1:3] = gone[1, 2] = True
    fewer = make_pairs().remove_sets(inputs, gone)
    assert (fewer["premise"] != 0).sum(1).tolist() == [3, 6]


def test_another_hypothesis_is_not_shared() -> None:
    model, inputs = make_pairs(), pairs([3, 5])
    rows = torch.tensor([0, 1])
    with torch.no_grad():
        own = beside(model, inputs)
        assert own is not None
        assert own.with_inputs({**inputs, "hypothesis": texts([2, 2], seed=3)}, rows) is None
        assert own.with_inputs(inputs, rows) is not None


def test_fixed_attention_is_the_strength_of_the_words() -> None:
    ids = texts([3, 6])
    for encoder in ("bilstm", "cnn", "average"):
        model = make_text(encoder, "log_odds")
        weights = model.run(ids).attention["attention"]
        for row, length in enumerate((3, 6)):
            powers = [model.attention.strength[word].exp() for word in ids[row, 1 : length + 1]]
            expected = torch.stack([power / sum(powers) for power in powers])
            torch.testing.assert_close(weights[row, 1 : length + 1], expected, atol=1e-12, rtol=0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model(ids).sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        after = model.state_dict()
        assert after["attention.strength"].equal(before["attention.strength"])
        assert not after["decoder.weight"].equal(before["decoder.weight"])


def test_fixed_attention_keeps_to_the_words_whatever_their_vectors_are() -> None:
    ids = texts([3, 6])
    model = make_text("cnn", "log_odds")
    run = model.run(ids, features={"embedding": torch.randn(2, 8, 5, dtype=torch.float64)})
    assert run.attention["attention"].equal(model.run(ids).attention["attention"])


def test_no_strength_is_uniform_attention() -> None:
    weights = TextClassifier(9, attention="log_odds").run(torch.tensor([[2, 5, 6, 3]]))
    assert weights.attention["attention"].tolist() == [[0, 0.5, 0.5, 0]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "softmax"}, ValueError, "output must be 'sigmoid' for one logit; got 'soft"),
        ({"output": "identity"}, ValueError, "output must be one of auto, sigmoid, softmax; got"),
        ({"n_outputs": 0}, ValueError, "n_outputs must be at least 1; got 0"),
        ({"n_outputs": 2.5}, TypeError, "n_outputs must be a whole number; got 2.5"),
        ({"strength": torch.zeros(VOCABULARY)}, ValueError, "strength must be None where atten"),
        (
            {"attention": "log_odds", "strength": torch.zeros(3)},
            ValueError,
            r"strength must be 12 finite numbers.*; got shape \(3,\), 0 not finite",
        ),
        (
            {"attention": "log_odds", "strength": torch.full((VOCABULARY,), torch.nan)},
            ValueError,
            r"got shape \(12,\), 12 not finite",
        ),
        (
            {"attention": "log_odds", "strength": torch.zeros(VOCABULARY).long()},
            TypeError,
            "strength must be floating point",
        ),
        ({"attention": "x"}, ValueError, "one of additive, scaled_dot, log_odds; got 'x'"),
    ],
)
def test_what_does_not_go_together_is_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TextClassifier(VOCABULARY, **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hypothesis": None}, ValueError, "keys premise, hypothesis; got no hypothesis"),
        ({"premise": texts([2, 3]).int()}, TypeError, "premise must be int64"),
        (
            {"hypothesis": texts([1])},
            ValueError,
            "hypothesis must have a row for each premise; got 1 for 2",
        ),
    ],
)
def test_bad_pairs_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    inputs = {**pairs([2, 3]), **change}
    inputs = {key: value for key, value in inputs.items() if value is not None}
    with pytest.raises(error, match=message):
        make_pairs().run(inputs)
    with pytest.raises(TypeError, match=r"inputs must be a mapping with premise, .*collate_pairs"):
        make_pairs().run(texts([2]))
