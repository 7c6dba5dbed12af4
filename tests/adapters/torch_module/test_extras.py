"""Sinks and null keys: keys that are no positions, before the positions or behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)

VIEW = AttentionView("layers.0", query=0)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 0, 0], [8, 9, 7, 9, 3, 2]])


class Layer(nn.Module):
    """Two heads with learned scores beside those of the positions, whose values are 0."""

    def __init__(self, lead: int, tail: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.lead, self.tail = (nn.Parameter(torch.randn(2, count)) for count in (lead, tail))

    def weights(self, x: Tensor, real: Tensor) -> Tensor:
        query, key = (self.split(part(x)) for part in (self.query, self.key))
        scores = (query @ key.transpose(-1, -2)).masked_fill(~real[:, None, None], -1e9)
        lead, tail = (
            each[None, :, None].expand(*scores.shape[:-1], -1) for each in (self.lead, self.tail)
        )
        return torch.cat([lead, scores, tail], -1)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        weights = self.weights(x, real).softmax(-1)
        return self.read(
            weights[..., self.lead.shape[1] : weights.shape[-1] - self.tail.shape[1]], x
        )

    def read(self, weights: Tensor, x: Tensor) -> Tensor:
        return (weights @ self.split(self.value(x))).transpose(1, 2).reshape(x.shape)

    @staticmethod
    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 4)).transpose(1, 2)


class Sinks(nn.Module):
    """Layers with extra keys; ``gate`` adds a choice among as many experts as there are keys."""

    def __init__(self, lead: int, tail: int, *, layers: int = 1, gate: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(10, 8, padding_idx=0)
            self.layers = nn.ModuleList([Layer(lead, tail) for _ in range(layers)])
            self.choose = nn.Linear(8, gate) if gate else None
            self.out = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x, real = self.embed(ids), ids != 0
        if self.choose is not None:
            x = x * self.choose(x).softmax(-1)[..., :1]
        for layer in self.layers:
            x = x + layer(x, real)
        return self.out(x[:, 0])


@pytest.mark.parametrize(("lead", "tail"), [(0, 1), (1, 0), (1, 1), (2, 0), (0, 2)])
@torch.no_grad()
def test_extra_keys_are_shown_behind_the_positions(lead: int, tail: int) -> None:
    model = Sinks(lead, tail)
    adapter, layer, x = adapt(model), model.layers[0], model.embed(IDS)
    run = adapter.run(IDS)
    own = layer.weights(x, IDS != 0).softmax(-1)
    positions, before, behind = (
        own.split([lead, 6, tail], -1)[1],
        own[..., :lead],
        own[..., lead + 6 :],
    )
    torch.testing.assert_close(
        run.attention["layers.0"], torch.cat([positions, before, behind], -1)
    )
    assert torch.equal(run.mask, torch.nn.functional.pad(IDS != 0, (0, lead + tail)))
    again = adapter.run(IDS, attention=dict(run.attention))
    torch.testing.assert_close(again.logits, model(IDS), rtol=0, atol=0)
    other = torch.rand(own.shape, generator=torch.Generator().manual_seed(0)).softmax(-1)
    changed = adapter.run(IDS, attention={"layers.0": other})
    expected = model.out((x + layer.read(other[..., :6], x))[:, 0])
    torch.testing.assert_close(changed.logits, expected)


@pytest.mark.parametrize(("lead", "tail"), [(0, 1), (1, 0)])
def test_the_four_tests(lead: int, tail: int) -> None:
    model = Sinks(lead, tail)
    dropped = loo_correlation(model, IDS, view=VIEW).importance
    assert dropped.shape == (3, 6 + lead + tail)
    whole = model(IDS[:1]).softmax(-1)
    for place in range(6):
        kept = [at for at in range(6) if at != place]
        change = (model(IDS[:1, kept]).softmax(-1) - whole).abs().sum() / 2
        torch.testing.assert_close(dropped[0, place], change, atol=1e-6, rtol=0)
    gradient = gradient_correlation(model, IDS, view=VIEW)
    assert gradient.statistic.isfinite().all() and (gradient.mass < 1).all()
    shuffled = permutation_test(model, IDS, view=VIEW, n_permutations=20, seed=0)
    assert (shuffled.median_tvd > 0).all()
    found = adversarial_attention(model, IDS, view=VIEW, n_steps=20, seed=0)
    assert (found.max_jsd > 0).all()


@torch.no_grad()
def test_deeper_layers_are_taken_to_be_like_the_first() -> None:
    model = Sinks(1, 0, layers=3)
    attention = adapt(model).run(IDS).attention
    x = model.embed(IDS)
    for number, layer in enumerate(model.layers):
        own = layer.weights(x, IDS != 0).softmax(-1).roll(-1, -1)
        torch.testing.assert_close(attention[f"layers.{number}"], own)
        x = x + layer(x, IDS != 0)


@torch.no_grad()
def test_a_gate_with_as_many_choices_is_none() -> None:
    adapter = adapt(Sinks(0, 1, gate=7))
    roles = {site.name: site.used for site in adapter.sites(IDS)}
    assert roles == {"attention": False, "layers.0": True}


@torch.no_grad()
def test_nothing_is_guessed_where_no_row_ends_in_a_real_position() -> None:
    ids = torch.nn.functional.pad(IDS[:, :4], (0, 2))
    with pytest.raises(AdapterError, match="keys are no positions"):
        adapt(Sinks(1, 0)).run(ids)
    adapter = adapt(Sinks(1, 0))
    adapter.run(IDS)
    assert adapter.run(ids).attention["layers.0"].shape == (3, 2, 6, 7)


class ClassToken(nn.Module):
    """A learned vector before the words or behind them, which the classifier reads."""

    def __init__(self, *, behind: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.embed, self.token = nn.Embedding(10, 8, padding_idx=0), nn.Parameter(torch.rand(8))
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(8, 2)
        self.behind = behind

    def forward(self, ids: Tensor) -> Tensor:
        parts = [self.token.expand(len(ids), 1, -1), self.embed(ids)]
        closed = [torch.zeros(len(ids), 1, dtype=torch.bool), ids == 0]
        if self.behind:
            parts, closed = parts[::-1], closed[::-1]
        states = self.layers(torch.cat(parts, 1), src_key_padding_mask=torch.cat(closed, 1))
        return self.out(states[:, -1 if self.behind else 0])


@pytest.mark.parametrize("behind", [False, True])
def test_a_class_token_is_not_taken_for_a_word(behind: bool) -> None:
    model = ClassToken(behind=behind).eval()
    adapter = adapt(model)
    run = adapter.run(IDS)
    real = IDS != 0
    assert torch.equal(run.mask, torch.nn.functional.pad(real, (0, 1)))
    queries = [torch.ones(3, 1, dtype=torch.bool), real]
    for site, weights in run.attention.items():
        assert weights.shape == (3, 2, 7, 7)
        assert torch.equal(run.state.real[site], torch.cat(queries[::-1] if behind else queries, 1))
    view = AttentionView("layers.layers.1.self_attn", query=-1 if behind else 0)
    dropped = loo_correlation(adapter, IDS, view=view)
    whole = model(IDS[:1]).softmax(-1)
    for place in range(6):
        kept = [at for at in range(6) if at != place]
        change = (model(IDS[:1, kept]).softmax(-1) - whole).abs().sum() / 2
        torch.testing.assert_close(dropped.importance[0, place], change, atol=1e-6, rtol=0)
    # What is put in for the words moves nothing else: the token's own weight stays.
    found = permutation_test(adapter, IDS, view=view, n_permutations=5, seed=0)
    own = run.attention[view.site][:, :, view.query, 6].mean(1)
    torch.testing.assert_close(found.mass, (1 - own).detach(), atol=1e-6, rtol=0)
