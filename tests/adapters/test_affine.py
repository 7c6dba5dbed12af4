"""Logits that are affine in attention are found, others are not taken for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from adapter_models import FEATURE, IDS, SITE, Adapter, Full, Model
from torch import Tensor

from faithattn import AttentionView, Run, adapt
from faithattn.adapters.affine import find_affine
from faithattn.adapters.reading import Reading, read
from faithattn.paper.models import QuestionAnswerer, TextClassifier


def reading_of(model: object, inputs: Any = IDS, view: AttentionView | None = None) -> Reading:
    with torch.no_grad():
        return read(model, inputs, view)


def random_rows(reading: Reading, count: int = 5) -> Tensor:
    """Rows (B, K, R, L) of the simplex over valid positions."""
    valid = reading.rows.valid
    generator = torch.Generator().manual_seed(0)
    shape = (len(valid), count, *valid.shape[1:])
    noise = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    rows = noise.masked_fill(~valid[:, None], -torch.inf).softmax(-1).nan_to_num(0)
    return rows.to(reading.rows.conditional.dtype)


class Tanh(Full):
    """A bend between pooling and logits."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return super().logits(weights, states).mul(3).tanh()


class Rectified(Full):
    """Two straight pieces, of which the scattered rows see one: they meet near a corner."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        logits = super().logits(weights, states)
        return logits - 9 * (logits - self.corner(states)).relu()

    def corner(self, states: Tensor) -> Tensor:
        alone = self.model.out(states)
        return alone.amax(1) - 1e-3 * (alone.amax(1) - alone.amin(1))


class Clamped(Rectified):
    """A clamp on the logits that only the farthest corner meets."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return torch.minimum(super(Rectified, self).logits(weights, states), self.corner(states))


class RectifiedStates(Full):
    """A rectifier before the pooling: the logits are affine in the attention all the same."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return super().logits(weights, states.relu())


class Excluding(Tanh):
    """The same with a class that cannot be: its constant is the lowest finite number."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        logits = super().logits(weights, states)
        return torch.cat([logits, torch.full_like(logits, torch.finfo(logits.dtype).min)], -1)


class ExcludingLinear(Full):
    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        logits = super().logits(weights, states)
        return torch.cat([logits, torch.full_like(logits, torch.finfo(logits.dtype).min)], -1)


class Irrelevant(Full):
    """Attention reaches nothing."""

    def logits(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.model.out(states.mean(1)).expand(*weights.shape[:-1], -1)


class Heads(Adapter):
    """Two heads of two queries, (B, 2, 2, L); the logits use every row, as ``bend`` says."""

    def __init__(self, bend: str = "linear") -> None:
        super().__init__()
        self.bend = bend

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        x = self.embed(inputs, features)
        states = self.encode(x, inputs)
        rows = torch.stack([self.attend(states * k, inputs) for k in (1, 2, -1, -2)], 1)
        used = attention[SITE] if attention else rows.unflatten(1, (2, 2))
        pooled = torch.einsum("bhqk,bkd->bhqd", used, states).flatten(1, 2)
        if self.bend == "linear":
            logits = self.model.out(pooled.cumsum(1)).sum(1)
        elif self.bend == "difference":
            logits = self.model.out((pooled[:, 0] - pooled[:, 3]).square() * 9)
        else:
            logits = self.model.out(pooled[:, 0] * pooled[:, 1] * 9)
        return Run(logits, {SITE: used}, inputs != 0, {FEATURE: x})


LINEAR = {
    "one logit": (Full(), None),
    "three classes": (Full(Model(3)), None),
    "sixteen classes": (Full(Model(16)), None),
    "without replay": (Adapter(Model(2)), None),
    "adapted": (adapt(Model(2)), None),
    "an excluded class": (ExcludingLinear(Model(2)), None),
    "irrelevant attention": (Irrelevant(Model(2)), None),
    "all heads": (Heads(), AttentionView(SITE)),
    "one head": (Heads(), AttentionView(SITE, heads=1)),
    "a query per instance": (Heads(), AttentionView(SITE, query=torch.tensor([0, 1, 0]))),
    "rectified states": (RectifiedStates(), None),
    "one row of a product": (Heads("product"), AttentionView(SITE, heads=0, query=0)),
}


@pytest.mark.parametrize(("model", "view"), LINEAR.values(), ids=LINEAR)
def test_an_affine_model_is_found_and_foretold(model: object, view: AttentionView | None) -> None:
    reading = reading_of(model, view=view)
    affine = find_affine(reading)
    assert affine is not None
    rows = random_rows(reading)
    with torch.no_grad():
        overrides = reading.rows.override(rows.transpose(0, 1))
        expected = reading.replay_override(overrides).transpose(0, 1)
    torch.testing.assert_close(affine.logits(rows), expected)
    own = affine.logits(reading.rows.conditional[:, None])[:, 0]
    torch.testing.assert_close(own, reading.run.logits)


BENT = {
    "tanh": (Tanh(), None),
    "tanh of three classes": (Tanh(Model(3)), None),
    "tanh and an excluded class": (Excluding(Model(2)), None),
    "a rectifier near a corner": (Rectified(), None),
    "product of rows": (Heads("product"), AttentionView(SITE)),
    "difference of rows": (Heads("difference"), AttentionView(SITE)),
    "too many classes": (Full(Model(17)), None),
}


@pytest.mark.parametrize(("model", "view"), BENT.values(), ids=BENT)
def test_another_model_is_refused(model: object, view: AttentionView | None) -> None:
    assert find_affine(reading_of(model, view=view)) is None


def test_a_bend_that_shows_only_where_rows_differ() -> None:
    """The model's own rows are alike, and so is its value there: zero, with slope zero."""

    class Alike(Heads):
        def attend(self, states: Tensor, inputs: Tensor) -> Tensor:
            return super().attend(states * 0, inputs)

    assert find_affine(reading_of(Alike("difference"), view=AttentionView(SITE))) is None


def test_a_replay_without_gradient_is_refused() -> None:
    class Detached(Full):
        def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
            return super().replay(state, attention).detach()

    assert find_affine(reading_of(Detached())) is None


def test_a_clamp_that_only_a_corner_meets_is_refused() -> None:
    assert find_affine(reading_of(Full(Model()))) is not None
    assert find_affine(reading_of(Clamped(Model()))) is None


def test_a_text_without_positions_stays_finite() -> None:
    class Special(Full):
        def mask(self, inputs: Tensor) -> Tensor:
            return (inputs != 0) & (inputs != 4) & (inputs != 9)

    affine = find_affine(reading_of(Special()))
    assert affine is not None
    assert affine.scores.isfinite().all() and affine.constant.isfinite().all()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("encoder", ["bilstm", "cnn", "average"])
def test_published_models(encoder: str, double: bool) -> None:
    ids = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 4, 8, 3, 0, 0]])
    question = {
        "passage": ids,
        "question": torch.tensor([[2, 5, 3], [2, 6, 3]]),
        "candidates": torch.tensor([[True, True, False], [True, False, True]]),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = TextClassifier(10, encoder=encoder)
        answerer = QuestionAnswerer(10, 3, encoder=encoder)
    if double:
        text, answerer = text.double(), answerer.double()
    assert find_affine(reading_of(text, ids)) is not None
    assert find_affine(reading_of(answerer, question)) is None


def test_nothing_is_left_on_the_weights() -> None:
    adapter = Full()
    find_affine(reading_of(adapter))
    assert all(weight.grad is None for weight in adapter.model.parameters())
