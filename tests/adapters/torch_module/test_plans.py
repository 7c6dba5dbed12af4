"""What is learned of a model on one batch does not mislead on the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from odd_modules import CLOSE, FULL, IDS, REAL, SIZE, Called, Words
from torch import Tensor, nn

from faithattn import AdapterError, AttentionView, adapt, gradient_correlation, permutation_test
from faithattn.adapters.torch_module import passes

QUICK: dict[str, Any] = {"n_permutations": 3, "seed": 0}


class Pool(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.score = nn.Linear(SIZE, 1).double()

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        scores = self.score(states).squeeze(-1).masked_fill(~real, -1e9)
        return (scores.softmax(-1)[..., None] * states).sum(1)


class Stack(Words):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Pool(seed) for seed in range(layers))

    def forward(self, ids: Tensor) -> Tensor:
        states = self.word(ids)
        return self.out(sum(layer(states, ids != 0) for layer in self.layers))


def test_a_layer_that_is_added_or_taken_away() -> None:
    model = Stack()
    assert permutation_test(model, IDS, **QUICK).view == "layers.0"
    model.layers.append(Pool(5))
    with pytest.raises(AdapterError, match=r"the model has 'layers.0' .*, 'layers.1' "):
        permutation_test(model, IDS, **QUICK)
    mean = permutation_test(model, IDS, view=AttentionView.mean(), **QUICK)
    assert mean.view == "layers.0 and layers.1"
    del model.layers[0]
    assert permutation_test(model, IDS, view=AttentionView.mean(), **QUICK).view == "layers.0"


def test_calls_that_exist_for_some_lengths_only() -> None:
    def function(model: Words, ids: Tensor) -> Tensor:
        vectors, real = model.word(ids), ids != 0
        first = model.decide(vectors, real)
        return first if ids.shape[1] < 5 else first + model.decide(vectors * 2, real)

    model = Called(function)
    short, long = FULL[:, :4], IDS
    for _ in range(2):
        assert permutation_test(model, short, **QUICK).view == "attention"
        with pytest.raises(AdapterError, match=r"'attention' \(3, 5\), 'attention#1' \(3, 5\)"):
            permutation_test(model, long, **QUICK)
        for test in (permutation_test, gradient_correlation):
            options = QUICK if test is permutation_test else {}
            assert test(model, short, view=AttentionView.mean(), **options).view == "attention"
            both = test(model, long, view=AttentionView.mean(), **options)
            assert both.view == "attention and attention#1"
        last = AttentionView(-1)
        assert permutation_test(model, short, view=last, **QUICK).view == "attention"
        assert permutation_test(model, long, view=last, **QUICK).view == "attention#1"
    second = adapt(model, site="attention#1")
    assert list(second.run(long).attention) == ["attention#1"]
    with pytest.raises(AdapterError, match="must compute attention named 'attention#1'"):
        second.run(short)


def test_a_switch_that_adds_a_call() -> None:
    """The same modules, and another number of calls of them."""

    def function(model: Any, ids: Tensor) -> Tensor:
        logits = model.decide(model.word(ids), ids != 0)
        return logits + (model.decide(model.word(ids) * 3, ids != 0) if model.twice else 0)

    model: Any = Called(function)
    model.twice = False
    assert permutation_test(model, IDS, **QUICK).view == "attention"
    model.twice = True
    with pytest.raises(AdapterError, match="'attention#1'"):
        permutation_test(model, IDS, **QUICK)


class Heads(Words):
    """As many heads as the caller likes; time first inside if asked."""

    def __init__(self, heads: int, *, time_first: bool = False) -> None:
        super().__init__()
        self.heads, self.time_first = heads, time_first

    def forward(self, ids: Tensor) -> Tensor:
        states = self.word(ids)
        split = states.unflatten(-1, (self.heads, -1)).permute(2, 0, 1, 3)  # (H, B, L, d)
        scores = (split @ split.transpose(-1, -2) * 3).masked_fill((ids == 0)[:, None], -1e9)
        if self.time_first:
            mixed = scores.permute(3, 1, 0, 2).softmax(0).permute(2, 1, 3, 0) @ split
        else:
            mixed = scores.softmax(-1) @ split
        return self.out(mixed.permute(1, 2, 0, 3).flatten(2).mean(1))

    def weights(self, ids: Tensor) -> Tensor:
        split = self.word(ids).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        scores = split @ split.transpose(-1, -2) * 3
        return scores.masked_fill((ids == 0)[:, None, None], -1e9).softmax(-1)


ORDERS = [[(2, 5), (3, 5), (5, 5), (1, 3)], [(3, 3), (2, 3), (1, 5)], [(1, 3), (3, 3), (3, 5)]]


@pytest.mark.parametrize("order", ORDERS, ids=["apart first", "the same first", "one first"])
@pytest.mark.parametrize("time_first", [False, True])
def test_layouts_whatever_batch_came_first(order: list[Any], time_first: bool) -> None:
    """B == H, B == L and H == L, before and after batches where they differ."""
    model = Heads(3, time_first=time_first)
    for size, length in order:
        ids = FULL.repeat(2, 1)[:size, :length]
        run = adapt(model).run(ids)
        assert list(run.attention) == ["attention"]
        torch.testing.assert_close(run.attention["attention"], model.weights(ids), **CLOSE)
        torch.testing.assert_close(run.logits, model(ids), **CLOSE)
        given = model.weights(ids).flip(-1).detach()
        changed = adapt(model).run(ids, attention={"attention": given})
        torch.testing.assert_close(changed.attention["attention"], given, **CLOSE)


def test_adapters_of_one_module_with_other_options() -> None:
    model = Stack(2)
    first, second = adapt(model, site="layers.0"), adapt(model, site="layers.1", mask=9)
    everything, places = adapt(model), adapt(model, embedding="word")
    for _ in range(2):
        assert list(first.run(IDS).attention) == ["layers.0"]
        run = second.run(IDS)
        assert list(run.attention) == ["layers.1"] and torch.equal(run.mask, IDS != 9)
        assert list(everything.run(IDS).attention) == ["layers.0", "layers.1"]
        assert list(places.run(IDS).features) == ["word"]
    assert torch.equal(first.run(IDS).mask, REAL)


def test_removal_from_inputs_of_another_kind_than_were_run() -> None:
    class Named(Words):
        def forward(self, ids: Tensor | None = None, other: Tensor | None = None) -> Tensor:
            given = ids if other is None else other
            assert given is not None
            return super().forward(given)

    adapter = adapt(Named())
    adapter.run(IDS)
    expected = IDS[:, 1:]
    for inputs in ({"ids": IDS}, (IDS,), {"other": IDS}, IDS):
        shorter = adapter.remove(inputs, torch.zeros(3, dtype=torch.int64))
        found = next(iter(shorter.values())) if isinstance(shorter, dict) else shorter
        found = found[0] if isinstance(found, tuple) else found
        assert torch.equal(found, expected[:, : found.shape[1]]) and found.shape[1] == 4


def test_images_of_other_sizes() -> None:
    """The first result with a row for every key, however many come before it."""

    class Resized(Words):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, SIZE, 4, 4).double()

        def tokens(self, pixels: Tensor) -> Tensor:
            if pixels.shape[-1] > 8:
                pixels = F.avg_pool2d(pixels * 1.0, 2)
            return self.patches(pixels).flatten(2).transpose(1, 2)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.decide(self.tokens(pixels))

    model = Resized()
    generator = torch.Generator().manual_seed(0)
    for width in (8, 16, 24, 8):
        pixels = torch.randn(2, 3, width, width, generator=generator).double()
        run = adapt(model).run(pixels)
        ((_, found),) = run.features.items()
        torch.testing.assert_close(found, model.tokens(pixels), **CLOSE)


def test_a_recording_that_is_too_long_is_tried_once_a_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int | None] = []

    class Counted(passes.Recorder):
        def __init__(self, limit: int | None = None) -> None:
            limits.append(limit)
            super().__init__(limit)

    def function(model: Words, ids: Tensor) -> Tensor:
        logits = model.decide(model.word(ids), ids != 0)
        for _ in range(60):
            logits = logits * 1.01
        return logits

    monkeypatch.setattr(passes, "Recorder", Counted)
    model, few = Called(function), {"n_permutations": 40, "seed": 0}
    for _ in range(2):
        assert permutation_test(model, IDS, **few).replay == "whole forwards"
    assert len(limits) == 1 and limits[0] is not None and 10 <= limits[0] < 60
    permutation_test(model, IDS[:, :4], **few)
    assert len(limits) == 2
    assert permutation_test(model, IDS, n_permutations=1000, seed=0).replay == "recorded"
