"""The four tests on odd models, against slow recomputation with the parts of the models."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from odd_modules import CLOSE, FULL, IDS, REAL, SIZE, Called, Words, changes, gradients, tau
from torch import Tensor

from faithattn import (
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.measures.draws import permute_attention

VECTORS = torch.randn(3, 5, SIZE, generator=torch.Generator().manual_seed(3)).double()


def of_words(model: Words, ids: Tensor) -> Tensor:
    return model.decide(model.word(ids), ids != 0)


def of_words_in_places(model: Words, ids: Tensor) -> Tensor:
    places = torch.arange(ids.shape[1])[None]
    return model.decide(model.word(ids) + model.place(places) * 0, ids != 0)


def of_vectors(model: Words, x: Tensor) -> Tensor:
    return model.decide(x)


def reading_its_weights(model: Words, ids: Tensor) -> Tensor:
    """Cannot be recorded: a number is read from the weights."""
    states, real = model.states(model.word(ids)), ids != 0
    weights = model.weigh(states, real)
    return model.pool(weights, states) * (2.0 if weights.sum().item() > 0 else 1.0)


Measured = tuple[Callable[..., Tensor], Any, Any, float, str]
MODELS: dict[str, Measured] = {
    "ids": (of_words, IDS, lambda ids: ids, 1, "recorded"),
    "ids in a tuple": (of_words, (IDS,), lambda inputs: inputs[0], 1, "recorded"),
    "places": (of_words_in_places, {"ids": IDS}, lambda inputs: inputs["ids"], 1, "recorded"),
    "vectors": (of_vectors, VECTORS, lambda x: x, 1, "recorded"),
    "a number is read": (reading_its_weights, IDS, lambda ids: ids, 2, "whole forwards"),
    "one text": (of_words, IDS[:1], lambda ids: ids, 1, "recorded"),
}


def parts(measured: Measured) -> tuple[Called, Tensor, Tensor, Tensor, Tensor]:
    """The model, its raw inputs, its vectors, which are real, and its states."""
    function, inputs, raw, *_ = measured
    model, values = Called(function, padding=0), raw(inputs)
    if values.is_floating_point():
        return model, values, values, torch.ones(values.shape[:2]).bool(), model.states(values)
    vectors = model.word(values)
    return model, values, vectors, values != 0, model.states(vectors)


@pytest.mark.parametrize("measured", MODELS.values(), ids=MODELS)
def test_correlations(measured: Measured) -> None:
    model, values, vectors, real, states = parts(measured)
    scale, weights = measured[3], model.weigh(states, real).detach()
    found = gradient_correlation(model, measured[1], detach_attention=False)
    removed = loo_correlation(model, measured[1])
    without = changes(lambda x: model.function(model, x), values, real)
    for row, flags in enumerate(real):

        def decide(x: Tensor, flags: Tensor = flags) -> Tensor:
            return model.decide(x, flags[None]) * scale

        expected = gradients(decide, vectors[row : row + 1])[0].masked_fill(~flags, 0)
        torch.testing.assert_close(found.importance[row], expected)
        torch.testing.assert_close(removed.importance[row, flags], without[row, flags])
        for result, importance in ((found, expected), (removed, without[row])):
            torch.testing.assert_close(result.explanation[row], weights[row], **CLOSE)
            by_pairs = tau(weights[row, flags], importance[flags])
            assert result.statistic[row].item() == pytest.approx(by_pairs, abs=1e-9)


@pytest.mark.parametrize("measured", MODELS.values(), ids=MODELS)
def test_permutations(measured: Measured) -> None:
    model, _, _, real, states = parts(measured)
    scale, weights = measured[3], model.weigh(states, real).detach()
    result = permutation_test(model, measured[1], n_permutations=40, seed=5)
    drawn = permute_attention(weights, mask=real, n_permutations=40, seed=5)
    own = (model.pool(weights, states) * scale).softmax(-1)
    expected = torch.stack(
        [
            ((model.pool(drawn[:, k], states) * scale).softmax(-1) - own).abs().sum(-1) / 2
            for k in range(40)
        ],
        1,
    )
    torch.testing.assert_close(result.tvd, expected.detach(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(result.max_attention, weights.amax(1), **CLOSE)
    torch.testing.assert_close(result.mass, torch.ones(len(real)).double())
    if len(real) > 1:
        assert result.replay == measured[4]


@pytest.mark.parametrize("measured", MODELS.values(), ids=MODELS)
def test_adversaries(measured: Measured) -> None:
    model, _, _, real, states = parts(measured)
    scale, weights = measured[3], model.weigh(states, real).detach()
    result = adversarial_attention(
        model, measured[1], n_adversaries=2, n_steps=20, epsilon=0.05, seed=1
    )
    own = (model.pool(weights, states) * scale).softmax(-1)
    for k in range(2):
        given = result.attention[:, k]
        assert not given[~real].any()
        torch.testing.assert_close(given.sum(1), torch.ones(len(real)).double())
        outputs = (model.pool(given, states) * scale).softmax(-1)
        torch.testing.assert_close(
            result.probabilities[:, k], outputs.detach(), rtol=1e-6, atol=1e-8
        )
        tvd = ((outputs - own).abs().sum(-1) / 2).detach()
        torch.testing.assert_close(result.tvd[:, k], tvd, rtol=1e-6, atol=1e-8)
        middle = (given + weights) / 2
        halves = [
            torch.xlogy(p, p) - torch.xlogy(p, middle.clamp_min(1e-300)) for p in (given, weights)
        ]
        jsd = sum(half.sum(1) for half in halves) / 2
        torch.testing.assert_close(result.jsd[:, k], jsd, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("function", [of_words, reading_its_weights])
def test_a_replay_is_as_many_whole_forwards(function: Any) -> None:
    model = Called(function)
    adapter = adapt(model)
    run = adapter.run(IDS)
    noise = torch.rand(50, 3, 5, generator=torch.Generator().manual_seed(0)).double() * REAL
    given = noise / noise.sum(-1, keepdim=True)
    replayed = adapter.replay(run.state, {"attention": given})
    assert adapter.replayed_by(run.state) == (
        "recorded" if function is of_words else "whole forwards"
    )
    for one, weights in zip(replayed, given, strict=True):
        whole = adapter.run(IDS, attention={"attention": weights}).logits
        torch.testing.assert_close(one, whole, **CLOSE)


# --- other calls, other outputs -------------------------------------------------------------


def test_one_logit() -> None:
    model = Words(classes=1)
    result = permutation_test(model, IDS, n_permutations=4, seed=0)
    states = model.states(model.word(IDS))
    drawn = permute_attention(
        model.weigh(states, REAL).detach(), mask=REAL, n_permutations=4, seed=0
    )
    own = model(IDS).sigmoid()
    expected = [(model.pool(drawn[:, k], states).sigmoid() - own).abs()[:, 0] for k in range(4)]
    torch.testing.assert_close(result.tvd, torch.stack(expected, 1).detach())
    for test in (gradient_correlation, loo_correlation, adversarial_attention):
        test(model, IDS)


def test_nested_and_named_inputs() -> None:
    nested = Called(lambda model, pair, _=None: of_words(model, pair[0]))
    expected = loo_correlation(Words(), IDS).importance
    for inputs in (((IDS, None),), ([IDS, 3],), ((IDS, "text"), 2)):
        torch.testing.assert_close(loo_correlation(nested, inputs).importance, expected)
    by_call = adapt(Words(), call=lambda model, inputs: model(inputs["deep"][0]["ids"]))
    given = {"deep": [{"ids": IDS}], "more": 1}
    torch.testing.assert_close(loo_correlation(by_call, given).importance, expected)


def test_inputs_of_the_callers_own() -> None:
    adapter = adapt(Words(), call=lambda model, batch: model(batch.ids))
    batch = SimpleNamespace(ids=IDS)
    expected = gradient_correlation(Words(), IDS)
    found = gradient_correlation(adapter, batch)
    torch.testing.assert_close(found.importance, expected.importance, **CLOSE)
    for test in (permutation_test, adversarial_attention):
        test(adapter, batch)
    with pytest.raises(TypeError, match=r"got SimpleNamespace\. Give the adapter a select"):
        loo_correlation(adapter, batch)


RETURNED: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, "states"),
    "object": lambda z: SimpleNamespace(logits=z, loss=None),
    "mapping": lambda z: {"scores": z, "loss": None},
}


@pytest.mark.parametrize("wrap", RETURNED.values(), ids=RETURNED)
def test_logits_in_what_is_returned(wrap: Any) -> None:
    model = Called(lambda model, ids: wrap(of_words(model, ids)))
    logits = (lambda returned: returned["scores"]) if isinstance(wrap(1), dict) else None
    adapter = adapt(model, logits=logits)
    torch.testing.assert_close(adapter.run(FULL).logits, Words()(FULL), **CLOSE)
    for test in (gradient_correlation, loo_correlation, permutation_test, adversarial_attention):
        test(adapter, IDS)
