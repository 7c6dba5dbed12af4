"""A module that is adapted measures as one whose adapter is written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from adapter_models import IDS, SITE, Full, Model
from torch import Tensor, nn

from faithattn import (
    AttentionView,
    Run,
    adapt,
    adversarial_attention,
    check_adapter,
    gradient_correlation,
    gradient_importance,
    leave_one_out_importance,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.models import QuestionAnswerer, TextClassifier

TEXTS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 4, 1, 9, 3, 0], [2, 7, 3, 0, 0, 0]])
QUESTION = {
    "passage": TEXTS,
    "question": torch.tensor([[2, 5, 3, 0], [2, 6, 7, 3], [2, 4, 3, 0]]),
    "candidates": torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 1]]).bool(),
}
SMALL = {"embedding_size": 5, "hidden_size": 4}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def words(ids: Tensor) -> Tensor:
    return (ids > 3) | (ids == 1)


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model.double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.7, generator=generator)
    return model


def published(kind: str, encoder: str, attention: str) -> tuple[Any, Any, Any]:
    """A published model, its inputs, and the same model adapted as a plain module."""
    names = {"encoder": encoder, "attention": attention}
    if kind == "text":
        model: Any = seeded(TextClassifier(10, **names, **SMALL))
        return model, TEXTS, adapt(model, mask=words, output="sigmoid")
    model = seeded(QuestionAnswerer(10, 3, **names, **SMALL))
    adapter = adapt(
        model,
        call=lambda module, inputs: module(inputs),
        mask=lambda inputs: words(inputs["passage"]),
        embedding="embedding",
        output="softmax",
    )
    return model, QUESTION, adapter


def first_of(mapping: Mapping[str, Tensor]) -> Tensor:
    ((_, value),) = mapping.items()
    return value


@pytest.mark.parametrize("attention", ["additive", "scaled_dot"])
@pytest.mark.parametrize("encoder", ["bilstm", "cnn", "average"])
@pytest.mark.parametrize("kind", ["text", "question"])
def test_published_models_adapted(kind: str, encoder: str, attention: str) -> None:
    model, inputs, adapter = published(kind, encoder, attention)
    own, adapted = model.run(inputs), adapter.run(inputs)
    torch.testing.assert_close(adapted.logits, own.logits, **CLOSE)
    assert torch.equal(adapted.mask, own.mask)
    weights = first_of(own.attention)
    torch.testing.assert_close(first_of(adapted.attention), weights, **CLOSE)
    ((site, _),) = adapted.attention.items()
    alternatives = torch.stack([weights.flip(-1), weights**2, weights]).detach().requires_grad_()
    results = []
    for each, run, name in ((model, own, "attention"), (adapter, adapted, site)):
        replayed = each.replay(run.state, {name: alternatives})
        total = replayed.clamp_min(-1e9).sigmoid().sum()
        leaves = [alternatives, first_of(run.features)]
        results.append([replayed, *torch.autograd.grad(total, leaves)])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, **CLOSE)


@pytest.mark.parametrize("kind", ["text", "question"])
def test_published_models_adapted_in_the_metrics(kind: str) -> None:
    model, inputs, adapter = published(kind, "bilstm", "additive")
    for detach in (True, False):
        own = gradient_importance(model, inputs, detach_attention=detach)
        adapted = gradient_importance(adapter, inputs, detach_attention=detach)
        torch.testing.assert_close(adapted, own, **CLOSE)
    for removal in ("mask_attention", "zero_embedding"):
        own = leave_one_out_importance(model, inputs, removal=removal)
        adapted = leave_one_out_importance(adapter, inputs, removal=removal)
        torch.testing.assert_close(adapted, own, **CLOSE)
    if kind == "text":  # the question is as an adapter cannot know not to be shortened
        own = leave_one_out_importance(model, inputs)
        adapted = leave_one_out_importance(adapter, inputs)
        torch.testing.assert_close(adapted, own, equal_nan=True, **CLOSE)


def test_published_classifier_adapted_keeps_the_contract() -> None:
    check_adapter(published("text", "bilstm", "additive")[2], TEXTS)


class TwoRows(Model):
    """Two heads of one query, (B, 2, 1, L), by an inline softmax."""

    def forward(self, ids: Tensor) -> Tensor:
        states = self.encode(self.embedding(ids), ids != 0)
        scores = self.score(states).squeeze(-1)
        heads = torch.stack([scores, -2 * scores], 1).unsqueeze(2)
        weights = heads.masked_fill(~(ids != 0)[:, None, None], -1e9).softmax(-1)
        return self.pool(weights, states)

    def pool(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.out(torch.einsum("bhqk,bkd->bhqd", weights, states).cumsum(1).sum((1, 2)))


class TwoRowsByHand(Full):
    def attend(self, states: Tensor, inputs: Tensor) -> Tensor:
        scores = self.model.score(states).squeeze(-1)
        heads = torch.stack([scores, -2 * scores], 1).unsqueeze(2)
        return heads.masked_fill(~(inputs != 0)[:, None, None], -1e9).softmax(-1)

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        if weights.ndim == 4:
            return self.model.pool(weights, states)
        return torch.stack([self.model.pool(each, states) for each in weights])


PAIRS: dict[str, tuple[nn.Module, Full, int | tuple[int, ...] | None]] = {
    "one logit": (Model(), Full(Model()), None),
    "three classes": (Model(3), Full(Model(3)), None),
    "two heads": (TwoRows(), TwoRowsByHand(TwoRows()), (0, 1)),
    "one of two heads": (TwoRows(2), TwoRowsByHand(TwoRows(2)), 1),
}


@pytest.mark.parametrize(("module", "adapter", "heads"), PAIRS.values(), ids=PAIRS)
def test_four_tests_of_a_plain_module(module: nn.Module, adapter: Full, heads: Any) -> None:
    check_adapter(module, IDS)
    check_adapter(adapter, IDS)

    def both(test: Any, **options: Any) -> tuple[Any, Any]:
        views = [
            None if heads is None else AttentionView(name, heads) for name in ("attention", SITE)
        ]
        return (
            test(module, IDS, view=views[0], **options),
            test(adapter, IDS, view=views[1], **options),
        )

    compare(*both(gradient_correlation), "statistic", "pvalue", "explanation", "importance")
    compare(*both(gradient_correlation, detach_attention=False), "statistic", "importance")
    compare(*both(loo_correlation), "statistic", "pvalue", "explanation", "importance", "mask")
    compare(
        *both(permutation_test, n_permutations=9, seed=3),
        *("tvd", "jsd", "max_attention", "mass", "predicted"),
    )
    compare(  # enough for the module to be recorded: then both are seen to be affine
        *both(permutation_test, n_permutations=100, seed=3),
        *("tvd", "median_tvd", "pvalue", "exact", "effect", "effect_spread"),
    )
    compare(
        *both(adversarial_attention, n_adversaries=2, n_steps=12, seed=3, epsilon=0.05),
        *("attention", "probabilities", "tvd", "jsd", "max_jsd", "upper_bound", "feasible"),
    )


def compare(adapted: Any, own: Any, *names: str) -> None:
    for name in names:
        value, expected = getattr(adapted, name), getattr(own, name)
        torch.testing.assert_close(
            value, expected, rtol=1e-6, atol=1e-8, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_gradient_of_an_adapted_model_is_that_of_a_whole_run() -> None:
    """Detached: with the attention held as it is, worked out here by hand."""
    model = Model()
    run: Run = adapt(model).run(IDS)
    leaf = model.embedding(IDS).detach().requires_grad_()
    weights = run.attention["attention"].detach()
    probability = model.decode(weights, model.encode(leaf, IDS != 0)).sigmoid()
    (gradient,) = torch.autograd.grad(probability.sum(), leaf)
    expected = (gradient * leaf).sum(-1).abs().masked_fill(IDS == 0, 0).detach()
    torch.testing.assert_close(gradient_importance(model, IDS), expected)
