"""Runs compose with autocast, torch.func, inference mode, Captum and functional calls."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_evaluating import IDS, Reader, deep, surroundings
from torch import Tensor, nn
from watching import Calling, Notes, halved, noise, watched

from faithattn import AdapterError, adapt
from faithattn.adapters.interception.tap import Tap
from faithattn.adapters.parts import parts_of


class Fused(nn.Module):
    """Self attention by torch's kernel, in single precision."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.embed, self.out = nn.Embedding(12, 8, padding_idx=0), nn.Linear(8, 2)
            self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k, v = (
            each.unflatten(-1, (2, 4)).transpose(1, 2) for each in (self.query(x), self.key(x), x)
        )
        mask = (ids != 0)[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2)[:, 0])


@pytest.mark.parametrize("model", [Fused(), Reader().float().eval()], ids=["kernel", "softmax"])
def test_bf16_autocast(model: nn.Module) -> None:
    adapter = adapt(model)
    single = adapter.run(IDS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(IDS)
        run = adapter.run(IDS)
        same = adapter.run(IDS, attention={"attention": run.attention["attention"]})
    assert run.logits.dtype == expected.dtype
    torch.testing.assert_close(run.logits, expected, rtol=0, atol=0.02)
    torch.testing.assert_close(same.logits, run.logits, rtol=0, atol=0)
    torch.testing.assert_close(
        run.attention["attention"].float(), single.attention["attention"], rtol=0, atol=0.02
    )
    (slope,) = torch.autograd.grad(run.logits.float().sum(), run.attention["attention"])
    assert slope.abs().sum() > 0


def test_scores_under_autocast_are_as_exact_as_the_kernels() -> None:
    query, key, value = (3 * noise(1, 1, 6, 8, seed=n).float() for n in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = F.scaled_dot_product_attention(query, key, value)
        out, notes = watched(Calling(lambda: F.scaled_dot_product_attention(query, key, value)))
    exact = (query.bfloat16().double() @ key.bfloat16().double().mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(notes.found[0].double(), exact, rtol=0, atol=1e-4)
    assert out.dtype == expected.dtype
    torch.testing.assert_close(out.float(), expected.float(), rtol=0.02, atol=0.3)


def test_a_half_model() -> None:
    model = Fused().to(torch.bfloat16)
    run = adapt(model).run(IDS)
    torch.testing.assert_close(run.logits, model(IDS), rtol=0, atol=0.02)
    same = adapt(model).run(IDS, attention=run.attention)
    torch.testing.assert_close(same.logits, run.logits, rtol=0, atol=0)


@pytest.mark.parametrize("model", [Fused().double(), Reader().eval()], ids=["kernel", "softmax"])
def test_torch_func(model: nn.Module) -> None:
    adapter = adapt(model)
    run = adapter.run(IDS)
    weights, features = run.attention["attention"].detach(), run.features["embed"].detach()

    def of_weights(given: Tensor) -> Tensor:
        return adapter.run(IDS, attention={"attention": given}).logits.sum()

    def of_features(given: Tensor) -> Tensor:
        return adapter.run(IDS, features={"embed": given}).logits.sum()

    def of_parameters(given: dict[str, Tensor]) -> Tensor:
        call = adapt(model, call=lambda m, ids: torch.func.functional_call(m, given, (ids,)))
        return call.run(IDS).logits.sum()

    (expected,) = torch.autograd.grad(
        run.logits.sum(), run.attention["attention"], retain_graph=True
    )
    torch.testing.assert_close(torch.func.grad(of_weights)(weights), expected)
    (expected,) = torch.autograd.grad(run.logits.sum(), run.features["embed"], retain_graph=True)
    torch.testing.assert_close(torch.func.grad(of_features)(features), expected)
    parameters = {name: each.detach() for name, each in model.named_parameters()}
    slopes = torch.func.grad(of_parameters)(parameters)
    torch.testing.assert_close(
        slopes["out.weight"], torch.autograd.grad(run.logits.sum(), model.out.weight)[0]
    )

    many = torch.stack([weights, halved(weights), weights.roll(1, -1)])
    batched = torch.vmap(lambda w: adapter.run(IDS, attention={"attention": w}).logits)(many)
    looped = [adapter.run(IDS, attention={"attention": each}).logits for each in many]
    torch.testing.assert_close(batched, torch.stack(looped))
    copies = torch.stack([features, features * 2])
    batched = torch.vmap(lambda x: adapter.run(IDS, features={"embed": x}).logits)(copies)
    looped = [adapter.run(IDS, features={"embed": each}).logits for each in copies]
    torch.testing.assert_close(batched, torch.stack(looped))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its derivatives in forward mode
        _, tangent = torch.func.jvp(of_weights, (weights,), (halved(weights) - weights,))
    difference = of_weights(halved(weights)) - of_weights(weights)
    torch.testing.assert_close(tangent, difference)  # the logits are affine in the weights


def test_weights_of_a_submodule_under_torch_func() -> None:
    class Pair(nn.Module):
        def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
            raised = scores.exp()
            return scores, raised / raised.sum(-1, keepdim=True)

    class Paired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, scores: Tensor) -> Tensor:
            return self.pair(scores)[1].square()

    scores, model = noise(4, 2, 3), Paired()

    def changed(given: Tensor) -> Tensor:
        notes = Notes(halved)
        with Tap(parts_of(model), notes, outputs=["pair"]):
            out: Tensor = model(given)
        assert len(notes.found) == 1
        return out

    expected = halved(scores.softmax(-1)).square()
    torch.testing.assert_close(torch.vmap(changed)(scores), expected)
    slope = torch.func.grad(lambda given: torch.vmap(changed)(given).sum())(scores)
    leaf = scores.clone().requires_grad_()
    by_hand = halved(leaf.softmax(-1)).square().sum()
    torch.testing.assert_close(slope, torch.autograd.grad(by_hand, leaf)[0])
    closed = scores.clone()
    closed[1, 0] = -torch.inf  # one of the instances has a row that may use no key
    rows = torch.vmap(lambda given: watched(Calling(lambda: given.softmax(-1)))[0])(closed)
    expected = closed.softmax(-1)
    expected[1, 0] = 0
    torch.testing.assert_close(rows, expected)


def test_functional_calls_on_other_weights() -> None:
    model = Reader()
    other = {name: 2 * each.detach() for name, each in model.named_parameters()}
    adapter = adapt(model, call=lambda m, ids: torch.func.functional_call(m, other, (ids,)))
    before = deep(model)
    run = adapter.run(IDS)
    assert deep(model) == before
    plain = Reader()
    with torch.no_grad():
        for weight in plain.parameters():
            weight.mul_(2)
    torch.testing.assert_close(run.logits, adapt(plain).run(IDS).logits)


def test_inference_mode() -> None:
    adapter = adapt(Reader())
    expected = adapter.run(IDS, attention={"attention": halved})
    with torch.inference_mode():
        run = adapter.run(IDS, attention={"attention": halved})
        assert run.logits.is_inference()
    torch.testing.assert_close(run.logits, expected.logits)
    given = run.attention["attention"].clone()  # not an inference tensor
    torch.testing.assert_close(
        adapter.run(IDS, attention={"attention": given}).logits, run.logits, rtol=0, atol=0
    )


def test_other_modes_of_torch() -> None:
    adapter = adapt(Reader())
    expected = adapter.run(IDS)
    with torch.device("cpu"):  # a function mode, too
        torch.testing.assert_close(adapter.run(IDS).logits, expected.logits, rtol=0, atol=0)
    with torch.device("meta"):  # what a model makes on its way lands elsewhere than its weights
        torch.testing.assert_close(adapter.run(IDS).logits, expected.logits, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            torch.testing.assert_close(adapter.run(IDS).logits, expected.logits, rtol=0, atol=0)
    assert counter.get_total_flops() > 0
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        run = adapter.run(IDS)
        torch.autograd.grad(run.logits.sum(), run.attention["attention"])


def test_a_model_that_uses_a_mode_itself() -> None:
    class Moding(Reader):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            with torch.device("cpu"), torch.autocast("cpu", enabled=False):
                return super().weigh(states, ids)

    torch.testing.assert_close(adapt(Moding()).run(IDS).logits, adapt(Reader()).run(IDS).logits)


def test_layer_methods_of_captum() -> None:
    from captum.attr import LayerGradientXActivation, LayerIntegratedGradients

    model = Reader().eval()
    adapter = adapt(model)
    before = deep(model), surroundings()

    def logits(ids: Tensor) -> Tensor:
        return adapter.run(ids).logits[:, 1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in (LayerIntegratedGradients, LayerGradientXActivation):
            options: dict[str, Any] = {}
            if method is LayerIntegratedGradients:
                options = {"baselines": torch.zeros_like(IDS), "n_steps": 8}
            ours = method(logits, model.embed).attribute(IDS, **options)
            theirs = method(lambda ids: model(ids)[:, 1], model.embed).attribute(IDS, **options)
            torch.testing.assert_close(ours, theirs)
    assert (deep(model), surroundings()) == before


def test_an_identity_moves_nothing_where_scores_are_used_elsewhere() -> None:
    """The scores also reach the logits past the weights: an override leaves that path alone."""

    class Pointing(Reader):
        def forward(self, ids: Tensor) -> Tensor:
            states = self.embed(ids)
            scores = self.score(states).squeeze(-1)
            pooled = (scores.softmax(-1)[..., None] * states).sum(1)
            return self.out(pooled) + scores.logsumexp(-1, keepdim=True)

    model = Pointing()
    adapter = adapt(model)
    run = adapter.run(IDS)
    same = adapter.run(IDS, attention=run.attention)
    torch.testing.assert_close(same.logits, run.logits, rtol=0, atol=0)
    changed = adapter.run(IDS, attention={"attention": halved})
    states = model.embed(IDS)
    scores = model.score(states).squeeze(-1)
    pooled = (halved(scores.softmax(-1))[..., None] * states).sum(1)
    by_hand = model.out(pooled) + scores.logsumexp(-1, keepdim=True)
    torch.testing.assert_close(changed.logits, by_hand)


def test_an_override_that_is_never_reached() -> None:
    adapter = adapt(Reader())
    for name in ("nowhere", "attention#1", "score"):
        with pytest.raises(AdapterError, match=r"never reached|must compute attention"):
            adapter.run(IDS, attention={name: halved})

    class Sometimes(Reader):
        def weigh(self, states: Tensor, ids: Tensor) -> Tensor:
            if len(ids) == 1:
                return torch.ones_like(ids) / ids.shape[1]
            return super().weigh(states, ids)

    adapter = adapt(Sometimes())
    adapter.run(IDS)
    with pytest.raises(AdapterError):
        adapter.run(IDS[:1], attention={"attention": torch.full((1, 4), 0.25).double()})


def test_flex_attention_with_gradients_says_so() -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention")

    class Flexed(Fused):
        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            q, k, v = (
                each.unflatten(-1, (2, 4)).transpose(1, 2)
                for each in (self.query(x), self.key(x), x)
            )
            return self.out(flex.flex_attention(q, k, v).transpose(1, 2).flatten(2)[:, 0])

    adapter = adapt(Flexed())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Flexed()(IDS)
    except NotImplementedError:  # newer versions of torch say so, older ones run
        with pytest.raises(AdapterError, match="does not support backward on CPU"):
            adapter.run(IDS)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        run = adapter.run(IDS)
        changed = adapter.run(IDS, attention={"attention": halved})
    assert run.attention["attention"].shape == (3, 2, 4, 4)
    assert (changed.logits - run.logits).abs().max() > 1e-6
