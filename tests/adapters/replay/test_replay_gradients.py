"""Gradients of replays, in the alternatives and in what the model was recorded with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from replay_models import Attender, Encoder, TwoSites, after, context, ids
from replay_tap import Tap, random_alternatives, record, whole
from torch import Tensor, nn

from faithattn.adapters.replay.recorder import Recorder
from faithattn.adapters.replay.refusal import Unrecordable

MODELS: dict[str, Any] = {
    "bmm": Attender,
    "sum": lambda: after(lambda m, h, w: m.head((w[..., None] * h).sum(1))),
    "matrix times weights": lambda: after(lambda m, h, w: m.head((h.mT @ w[..., None])[..., 0])),
    "tanh": lambda: after(lambda m, h, w: m.head(torch.tanh(context(h, w)))),
    "two sites": TwoSites,
    "encoder": Encoder,
    "fused attention": lambda: after(_fused),
    "stop": lambda: after(lambda m, h, w: m.head(context(h, w.detach()) + context(h, w))),
    "written": lambda: after(
        lambda m, h, w: m.head(torch.cat([context(h, w).relu_(), h[:, 0]], 0)[2:].mul_(2))
    ),
    "no gradient inside": lambda: after(_no_gradient_inside),
}


def _fused(m: Any, h: Tensor, w: Tensor) -> Tensor:
    x = (h * w[..., None]).unflatten(-1, (2, 2)).transpose(1, 2)
    return m.head(F.scaled_dot_product_attention(x, x.tanh(), x).transpose(1, 2).flatten(2)[:, 0])


def _no_gradient_inside(m: Any, h: Tensor, w: Tensor) -> Tensor:
    with torch.no_grad():
        gate = torch.sigmoid(context(h, w))
    return m.head(context(h, w) * gate)


def _leaves(model: Any) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_those_of_whole_forwards(name: str) -> None:
    model = MODELS[name]()
    for stack in (True, False):
        alternatives = random_alternatives(model, ids(), count=8 if stack else 1)
        for row in alternatives.values():
            row.requires_grad_()
        at = [*alternatives.values(), *_leaves(model)]
        loss = whole(model, ids(), alternatives=alternatives).sin().sum()
        expected = torch.autograd.grad(loss, at, allow_unused=True)
        program = record(model, ids())
        actual = torch.autograd.grad(program(alternatives).sin().sum(), at, allow_unused=True)
        for one, two in zip(expected, actual, strict=True):
            one, two = (torch.zeros(()) if g is None else g for g in (one, two))
            torch.testing.assert_close(
                two.double(), one.double().expand_as(two), atol=1e-10, rtol=0
            )


def test_gradients_with_weights_held_fixed() -> None:
    model = Attender()
    leaf = model.embedding(ids()).detach().requires_grad_()
    recorder = Recorder()
    with Tap(recorder) as tap:
        h, _ = model.encoder(leaf)
        weights = torch.softmax(model.score(torch.tanh(h)).squeeze(-1), -1)
        logits = model.after(h, weights)
    program = recorder.finish(logits)
    held = tap.seen["a0"].detach()
    (fixed,) = torch.autograd.grad(program({"a0": held[None]}).sum(), leaf, retain_graph=True)
    h, _ = model.encoder(leaf)
    (expected,) = torch.autograd.grad(model.after(h, held).sum(), leaf)
    torch.testing.assert_close(fixed, expected)
    (through,) = torch.autograd.grad(logits.sum(), leaf)  # the run itself stays attached
    assert not torch.allclose(through, fixed)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_recorded_without_gradients_differentiates_alternatives_only(mode: Any) -> None:
    model = Encoder()
    with mode():
        program = record(model, ids(), at=("a1",))
    alternatives = random_alternatives(model, ids(), at=("a1",))
    alternatives["a1"].requires_grad_()
    loss = program(alternatives).sin().sum()
    expected = whole(model, ids(), alternatives=alternatives).sin().sum()
    (one,) = torch.autograd.grad(loss, alternatives["a1"], retain_graph=True)
    (two,) = torch.autograd.grad(expected, alternatives["a1"])
    torch.testing.assert_close(one, two)
    parameters = list(model.parameters())
    grads = torch.autograd.grad(loss + 0 * parameters[0].sum(), parameters, allow_unused=True)
    assert all(g is None or not g.any() for g in grads)


def test_gradients_turned_off_inside_are_not_guessed() -> None:
    model = after(_no_gradient_inside)
    with torch.no_grad():
        program = record(model, ids())
        alternatives = random_alternatives(model, ids())
        torch.testing.assert_close(
            program(alternatives), whole(model, ids(), alternatives=alternatives)
        )
    alternatives["a0"].requires_grad_()
    with pytest.raises(Unrecordable, match="gradients on or off"):
        program(alternatives)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return grad


def test_a_function_with_a_gradient_of_its_own_is_refused() -> None:
    model = after(lambda m, h, w: m.head(_Straight.apply(10 * context(h, w))))
    with pytest.raises(Unrecordable, match="custom autograd"):
        record(model, ids())


def test_under_torch_func() -> None:
    model = Attender()
    with torch.no_grad():
        program = record(model, ids())
        alternatives = random_alternatives(model, ids())
    leaf = alternatives["a0"].requires_grad_()
    (expected,) = torch.autograd.grad(program(alternatives).sum(), leaf)
    actual = torch.func.grad(lambda a: program({"a0": a}).sum())(leaf.detach())
    torch.testing.assert_close(actual, expected)
    with pytest.raises(Unrecordable, match=r"torch\.func"):
        torch.func.grad(lambda e: _recorded_inside(model, e))(torch.zeros(3, 6, 4).double())


def _recorded_inside(model: Any, embedded: Tensor) -> Tensor:
    recorder = Recorder()
    with Tap(recorder):
        h, _ = model.encoder(embedded)
        logits = model.after(h, torch.softmax(model.score(h).squeeze(-1), -1))
    recorder.finish(logits)
    return logits.sum()


def test_an_lstm_after_the_attention() -> None:
    def recurrent(m: Any, h: Tensor, w: Tensor) -> Tensor:
        return m.head(m.rnn(h * w[..., None])[1][0][0])

    model = after(recurrent, rnn=lambda: nn.LSTM(4, 4, batch_first=True))
    alternatives = random_alternatives(model, ids())
    alternatives["a0"].requires_grad_()
    loss = record(model, ids())(alternatives).pow(2).sum()
    expected = whole(model, ids(), alternatives=alternatives).pow(2).sum()
    (one,) = torch.autograd.grad(loss, alternatives["a0"])
    (two,) = torch.autograd.grad(expected, alternatives["a0"])
    torch.testing.assert_close(one, two)
