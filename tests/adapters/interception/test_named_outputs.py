"""Attention that a named submodule returns, by itself or among other things."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_evaluating import IDS, Reader, deep
from torch import Tensor, nn
from watching import halved, noise

from faithattn import AdapterError, AttentionView, adapt
from faithattn.adapters.reading import read

Pair = namedtuple("Pair", "context weights")


@dataclass(frozen=True)
class Output:
    context: Tensor
    weights: Tensor
    name: str = "output"


class Mirrored(OrderedDict[str, Any]):
    """Items that are attributes, too, as Transformers' outputs are."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


def mirrored(context: Tensor, weights: Tensor) -> Mirrored:
    output = Mirrored()
    output["context"], output["weights"] = context, weights
    return output


class Normalise(nn.Module):
    """Weights by hand, which no tap can see, and something to carry them."""

    def __init__(self, carry: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.carry = carry

    def forward(self, scores: Tensor) -> Any:
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        return self.carry(scores.sum(-1, keepdim=True), raised / raised.sum(-1, keepdim=True))


class Carrying(Reader):
    def __init__(
        self, carry: Callable[[Tensor, Tensor], Any], take: Callable[[Any], Tensor]
    ) -> None:
        super().__init__()
        self.normalise, self.take = Normalise(carry), take

    def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9)
        return self.take(self.normalise(scores))


CARRIERS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor]]] = {
    "tensor": (lambda _, w: w, lambda out: out),
    "column": (lambda _, w: w[..., None], lambda out: out[..., 0]),
    "row": (lambda _, w: w[:, None], lambda out: out[:, 0]),
    "tuple": (lambda c, w: (c, w), lambda out: out[1]),
    "weights first": (lambda c, w: (w, c, None), lambda out: out[0]),
    "list": (lambda c, w: [c, w], lambda out: out[1]),
    "tuple with a column": (lambda c, w: (c, w[..., None]), lambda out: out[1][..., 0]),
    "named tuple": (Pair, lambda out: out.weights),
    "dict": (lambda c, w: {"context": c, "weights": w}, lambda out: out["weights"]),
    "dataclass": (Output, lambda out: out.weights),
    "mapping with attributes": (mirrored, lambda out: out.weights),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_weights_in_any_output(carrier: str) -> None:
    model = Carrying(*CARRIERS[carrier])
    adapter, oracle = adapt(model, site="normalise"), adapt(Reader())
    adapter.run(IDS)
    before = deep(model)
    run, expected = adapter.run(IDS), oracle.run(IDS)
    weights = expected.attention["attention"]
    torch.testing.assert_close(run.attention["normalise"].view_as(weights), weights)
    torch.testing.assert_close(run.logits, expected.logits)
    changed = adapter.run(IDS, attention={"normalise": halved})
    other = oracle.run(IDS, attention={"attention": halved})
    torch.testing.assert_close(changed.logits, other.logits)
    (slope,) = torch.autograd.grad(run.logits.sum(), run.attention["normalise"])
    (theirs,) = torch.autograd.grad(expected.logits.sum(), weights)
    torch.testing.assert_close(slope.view_as(theirs), theirs)
    assert deep(model) == before


def test_an_output_without_weights_is_an_error() -> None:
    for carry, take in (
        (lambda c, w: (c, w * 2), lambda out: out[1] / 2),
        (lambda c, _: {"context": c}, lambda out: out["context"].expand(3, 4)),
        (lambda *_: None, lambda _: torch.zeros(3, 4).double()),
    ):
        model = Carrying(carry, take)
        with pytest.raises(AdapterError, match="must compute attention named 'normalise'"):
            adapt(model, site="normalise").run(IDS)


def test_a_submodule_that_is_called_twice() -> None:
    class Twice(Carrying):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            return (super().weigh(states, ids) + super().weigh(-states, ids)) / 2

    model = Twice(*CARRIERS["tuple"])
    for site in ("normalise", "normalise#1"):
        try:
            run = adapt(model, site=site).run(IDS)
        except AdapterError:
            assert site == "normalise#1"  # only the first call of a submodule can be named
            continue
        changed = adapt(model, site=site).run(IDS, attention={site: halved})
        assert list(run.attention) == [site]
        assert (changed.logits - run.logits).abs().max() > 1e-6


class Writing(Reader):
    """Writes into its embeddings and into its weights."""

    def forward(self, ids: Tensor) -> Tensor:
        states = self.embed(ids)
        states += 1.0
        weights = self.score(states).squeeze(-1).softmax(-1)
        weights *= 0.5
        weights[:, 0] = 0
        return self.out((weights[..., None] * states).sum(1))


@pytest.mark.parametrize("grad", [True, False])
def test_what_a_model_writes_into_is_not_what_is_shown(grad: bool) -> None:
    model = Writing()
    adapter = adapt(model)
    with torch.set_grad_enabled(grad):
        run = adapter.run(IDS)
        words = model.embed(IDS)
        torch.testing.assert_close(run.features["embed"], words, rtol=0, atol=0)
        expected = model.score(words + 1)[..., 0].softmax(-1)
        torch.testing.assert_close(run.attention["attention"], expected)
        torch.testing.assert_close(run.logits, model(IDS))
        same = adapter.run(IDS, attention=run.attention, features=run.features)
        torch.testing.assert_close(same.logits, run.logits)
        row, feature = noise(3, 4).softmax(-1), noise(3, 4, 4)
        copies = row.clone(), feature.clone()
        adapter.run(IDS, attention={"attention": row}, features={"embed": feature})
    assert torch.equal(row, copies[0])
    assert torch.equal(feature, copies[1])


def test_a_reused_buffer_is_not_what_is_shown() -> None:
    class Reusing(Reader):
        def forward(self, ids: Tensor) -> Tensor:
            states = self.embed(ids)
            buffer = torch.empty(ids.shape, dtype=torch.float64)
            total = 0
            for sign in (1, -1):
                torch.softmax(sign * self.score(states).squeeze(-1), -1, out=buffer)
                total = total + sign * (buffer[..., None] * states).sum(1)
            return self.out(total)

    model = Reusing()
    with torch.no_grad():
        scores = model.score(model.embed(IDS)).squeeze(-1)
        run = adapt(model).run(IDS)
        assert list(run.attention) == ["attention", "attention#1"]
        torch.testing.assert_close(run.attention["attention"], scores.softmax(-1))
        torch.testing.assert_close(run.attention["attention#1"], (-scores).softmax(-1))
        changed = adapt(model).run(IDS, attention={"attention": lambda w: w.flip(-1)})
        rows = scores.softmax(-1).flip(-1), (-scores).softmax(-1)
        by_hand = model.out(((rows[0] - rows[1])[..., None] * model.embed(IDS)).sum(1))
        torch.testing.assert_close(changed.logits, by_hand)


def test_an_override_of_an_output_may_run_anything() -> None:
    model = Carrying(*CARRIERS["tuple"])
    adapter = adapt(model, site="normalise")
    plain = adapter.run(IDS)
    inside: list[Tensor] = []

    def override(weights: Tensor) -> Tensor:
        inside.append(adapter.run(IDS).logits)
        model(IDS)
        return (3 * weights).softmax(-1)

    run = adapter.run(IDS, attention={"normalise": override})
    assert list(run.attention) == ["normalise"]
    torch.testing.assert_close(inside[0], plain.logits, rtol=0, atol=0)
    given = (3 * plain.attention["normalise"]).softmax(-1)
    expected = adapter.run(IDS, attention={"normalise": given})
    torch.testing.assert_close(run.logits, expected.logits)


@pytest.mark.parametrize("carrier", ["tensor", "tuple", "dict"])
def test_a_site_by_name_is_recorded_for_replay(carrier: str) -> None:
    """What the tap itself looks at is nothing that the model reads."""

    class Deep(Carrying):
        def forward(self, ids: Tensor) -> Tensor:
            states = self.embed(ids)
            for _ in range(2):  # the second depends on the first
                weights = self.weigh(states, ids)
                states = states + (weights[..., None] * states).sum(1, keepdim=True)
            return self.out(states.sum(1))

    adapter = adapt(Deep(*CARRIERS[carrier]), site="normalise")
    with torch.no_grad():
        rows = noise(2, *adapter.run(IDS).attention["normalise"].shape).softmax(-1)
        reading = read(adapter, IDS, AttentionView("normalise"), replay=100_000)
        replayed = reading.replay_override({"normalise": rows})
        runs = [adapter.run(IDS, attention={"normalise": each}).logits for each in rows]
    assert reading.replayed == "recorded"
    torch.testing.assert_close(replayed, torch.stack(runs))
