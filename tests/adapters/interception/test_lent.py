"""Models that write into their attention or embeddings: what is shown is what was there before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from faithattn import adapt

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def multiplied(weights: Tensor) -> Tensor:
    return weights.mul_(2)


def through_a_view(weights: Tensor) -> Tensor:
    weights[:, 0].zero_()
    return weights


def through_data(weights: Tensor) -> Tensor:
    weights.data.mul_(2)
    return weights


def through_numpy(weights: Tensor) -> Tensor:
    weights.detach().numpy()[:] *= 2
    return weights


def filled(weights: Tensor) -> Tensor:
    return weights.masked_fill_(weights < 0.3, 0)


WRITES = [multiplied, through_a_view, through_data, through_numpy, filled]


class Writer(nn.Module):
    """Writes into its weights before it uses them, or into its embeddings."""

    def __init__(self, write: Callable[[Tensor], Tensor], *, embeddings: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)
        self.write, self.embeddings, self.calls = write, embeddings, 0

    def forward(self, ids: Tensor) -> Tensor:
        self.calls += 1
        x = self.embed(ids)
        weights = x.sum(-1).softmax(-1)
        if self.embeddings:
            x = self.write(x)
        else:
            weights = self.write(weights)
        return self.out((weights[..., None] * x).sum(1))


@pytest.mark.parametrize("write", WRITES)
@torch.no_grad()
def test_weights_are_shown_as_they_were(write: Callable[[Tensor], Tensor]) -> None:
    model = Writer(write)
    expected, own = model(IDS), model.embed(IDS).sum(-1).softmax(-1)
    adapter = adapt(model)
    for _ in range(2):
        model.calls = 0
        run = adapter.run(IDS)
        torch.testing.assert_close(run.attention["attention"], own, rtol=0, atol=0)
        torch.testing.assert_close(run.logits, expected, rtol=0, atol=0)
    assert model.calls == 1  # the first run was made again, with copies; the next one knows


@pytest.mark.parametrize("write", [multiplied, through_a_view, filled])
def test_gradients_where_weights_are_written(write: Callable[[Tensor], Tensor]) -> None:
    model = Writer(write)
    run = adapt(model).run(IDS)
    x = model.embed(IDS).detach().requires_grad_()
    weights = x.sum(-1).softmax(-1)
    logits = model.out((write(weights.clone())[..., None] * x).sum(1))
    torch.testing.assert_close(run.logits, logits)
    for target, own in ((run.attention["attention"], weights), (run.features["embed"], x)):
        (found,) = torch.autograd.grad(run.logits.sum(), target, retain_graph=True)
        (expected,) = torch.autograd.grad(logits.sum(), own, retain_graph=True)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("write", WRITES)
@torch.no_grad()
def test_what_is_put_in_stays_the_callers(write: Callable[[Tensor], Tensor]) -> None:
    adapter = adapt(Writer(write))
    given = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    before = given.clone()
    for attention in ({"attention": given}, {"attention": lambda _: given}):
        adapter.run(IDS, attention=attention)
        assert torch.equal(given, before)


@pytest.mark.parametrize("write", WRITES)
@torch.no_grad()
def test_embeddings_are_shown_as_they_were(write: Callable[[Tensor], Tensor]) -> None:
    model = Writer(write, embeddings=True)
    expected, given = model(IDS), torch.rand(2, 3, 4)
    before, adapter = given.clone(), adapt(model)
    run = adapter.run(IDS)
    torch.testing.assert_close(run.features["embed"], model.embed(IDS), rtol=0, atol=0)
    torch.testing.assert_close(run.logits, expected, rtol=0, atol=0)
    adapter.run(IDS, features={"embed": given})
    assert torch.equal(given, before)


@torch.no_grad()
def test_nothing_is_copied_where_nothing_is_written() -> None:
    places = []

    def keep(weights: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            places.append(weights.data_ptr())
        return weights * 1

    adapter = adapt(Writer(keep))
    adapter.run(IDS)
    places.clear()
    run = adapter.run(IDS)
    assert places == [run.attention["attention"].data_ptr()]


@pytest.mark.parametrize("kept", [lambda w: w, Tensor.detach, lambda w: w[:, 1:]])
@pytest.mark.parametrize("grad", [True, False])
def test_weights_that_a_model_keeps_and_writes_later(
    kept: Callable[[Tensor], Tensor], grad: bool
) -> None:
    usage: list[Tensor] = []

    def collect(weights: Tensor) -> Tensor:
        if usage:
            with torch.no_grad():
                usage.pop().mul_(0.9)
        usage.append(kept(weights))
        return weights * 1

    model = Writer(collect)
    adapter, own = adapt(model), model.embed(IDS).sum(-1).softmax(-1)
    with torch.set_grad_enabled(grad):
        runs = [adapter.run(IDS) for _ in range(3)]
        model(IDS)
    for run in runs:
        torch.testing.assert_close(run.attention["attention"], own)
