"""Rollout, flow and relevance of models: which layers, which rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_transformer import IDS, LAYERS, REAL, VIEWS, ByHand, adapted, attention_of
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    adapt,
    attention_flow,
    attention_relevance,
    attention_rollout,
    explain,
)


def queries_of(view: AttentionView, row: int) -> list[int]:
    return [0] if view.query == 0 else REAL[row].nonzero()[:, 0].tolist()


def layers_of(view: AttentionView) -> list[int]:
    return [1] if view.query == 0 else [0] if view.names == LAYERS[:1] else [0, 1]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("kind", ["rollout", "flow"])
def test_rows_of_the_whole_product_or_flow(kind: str, view: AttentionView, causal: bool) -> None:
    adapter = adapted(causal=causal)
    weights = list(attention_of(adapter).values())
    rule = {"rollout": attention_rollout, "flow": attention_flow}[kind]
    found = explain(adapter, IDS, kind=kind, view=view)
    for b in range(len(IDS)):
        kept = REAL[b]
        alone = [layer[b : b + 1][:, :, kept][..., kept] for layer in weights]
        whole = [rule(alone[: n + 1])[0] for n in range(2)]
        rows = [whole[n][q] for n in layers_of(view) for q in queries_of(view, b)]
        expected = torch.stack(rows).mean(0)
        expected[0] = 0
        torch.testing.assert_close(found[b, kept], expected, atol=1e-7, rtol=0)
        assert (found[b, ~kept] == 0).all()


def test_a_pooling_row_is_led_through_the_layers_below() -> None:
    adapter = adapted(pooling=True)
    *layers, row = attention_of(adapter).values()
    view = AttentionView("attention")
    for kind, rule in (("rollout", attention_rollout), ("flow", attention_flow)):
        expected = rule(layers, rows=row[:, None])[:, 0].masked_fill(IDS < 2, 0)
        torch.testing.assert_close(explain(adapter, IDS, kind=kind, view=view), expected)


def slow_slopes(adapter: Any, view: AttentionView, target: Tensor) -> dict[str, Tensor]:
    """Central differences of the target's logit by every weight."""
    attention = attention_of(adapter)
    slopes = {name: torch.zeros_like(weights) for name, weights in attention.items()}
    for name, weights in attention.items():
        for place in range(weights[0].numel()):
            step = torch.zeros_like(weights)
            step.flatten(1)[:, place] = 1e-5
            with torch.no_grad():
                up, down = (
                    adapter.run(IDS, attention={name: lambda w, s=s: w + s}).logits
                    for s in (step, -step)
                )
            change = (up - down).gather(1, target[:, None])[:, 0] / 2e-5
            slopes[name].flatten(1)[:, place] = change
    return slopes


@pytest.mark.parametrize("pooling", [False, True])
def test_relevance_accumulates_differences(pooling: bool) -> None:
    adapter = adapted(pooling=pooling)
    view = AttentionView("attention") if pooling else AttentionView.cls()
    target = torch.tensor([2, 0, 1])
    weights, slopes = attention_of(adapter), slow_slopes(adapter, view, target)
    stack_of = [weights[name] for name in LAYERS], [slopes[name] for name in LAYERS]
    if pooling:
        row = (weights["attention"] * slopes["attention"]).clamp_min(0)
        expected = attention_relevance(*stack_of, rows=row[:, None])[:, 0]
    else:
        expected = attention_relevance(*stack_of)[:, 0]
        expected[:, 0] -= 1
    expected = expected.masked_fill(IDS < 2, 0)
    found = explain(adapter, IDS, kind="relevance", view=view, target=target)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
    assert (found > 0).any()


def test_a_querys_own_start_is_no_relevance() -> None:
    adapter, target = adapted(), torch.tensor([2, 0, 1])
    weights, slopes = attention_of(adapter), slow_slopes(adapter, AttentionView.cls(), target)
    whole = attention_relevance(*([each[name] for name in LAYERS] for each in (weights, slopes)))
    expected = whole[:, 1] - torch.eye(6).double()[1]
    view = AttentionView(LAYERS[1], query=1)
    found = explain(adapter, IDS, kind="relevance", view=view, target=target)
    torch.testing.assert_close(found, expected.masked_fill(IDS < 2, 0), atol=1e-7, rtol=1e-6)


class Single(nn.Module):
    """One logit, that of class 1, or its opposite."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.inner, self.sign = adapted().model, sign

    def forward(self, ids: Tensor) -> Tensor:
        return self.sign * self.inner(ids)[:, :1]


def test_relevance_for_class_0_of_one_sigmoid_is_that_of_the_opposite_logit() -> None:
    def of(sign: int, target: int | Tensor | None) -> Tensor:
        adapter = adapt(Single(sign), mask=lambda ids: ids > 1)
        return explain(adapter, IDS, kind="relevance", view=AttentionView.cls(), target=target)

    torch.testing.assert_close(of(1, 0), of(-1, 1))
    assert not torch.allclose(of(1, 0), of(1, 1))
    predicted = (adapted().run(IDS).logits[:, 0] > 0).long()
    for sign, classes in ((1, predicted), (-1, 1 - predicted)):
        torch.testing.assert_close(of(sign, None), of(sign, classes))


class Translator(nn.Module):
    """Source and target of one length: the same keys, but other positions."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed = nn.Embedding(12, 6)
            self.body = nn.Transformer(6, 2, 1, 2, 8, batch_first=True)
            self.out = nn.Linear(6, 2)
        self.double()

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.out(self.body(self.embed(source), self.embed(target))[:, -1])


def test_a_decoders_own_attention_is_over_other_positions() -> None:
    adapter, inputs = adapt(Translator()), (IDS[:, :4], IDS[:, 1:5])
    with torch.no_grad():
        weights = adapter.run(inputs).attention
    encoder = weights["body.encoder.layers.0.self_attn"]
    row = weights["body.decoder.layers.1.multihead_attn"][:, :, -1].mean(1)
    expected = attention_rollout([encoder], rows=row[:, None])[:, 0]
    found = explain(adapter, inputs, kind="rollout", view=AttentionView.cross())
    torch.testing.assert_close(found, expected)
    decoder = [weights[f"body.decoder.layers.{n}.self_attn"] for n in range(2)]
    own = AttentionView("body.decoder.layers.1.self_attn", query=-1)
    found = explain(adapter, inputs, kind="rollout", view=own)
    torch.testing.assert_close(found, attention_rollout(decoder)[:, -1])


class Shortened(nn.Module):
    """The second layer sees every other state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 6), nn.Linear(6, 2)
        self.first, self.second = (nn.MultiheadAttention(6, 2, batch_first=True) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = self.first(x, x, x)[0][:, ::2]
        return self.out(self.second(x, x, x)[0][:, 0])


def test_layers_over_other_positions_are_refused() -> None:
    adapter = adapt(Shortened(), site="second")
    view = AttentionView("second", query=0)
    explain(adapter, IDS, kind="rollout", view=view)  # told to look at one layer only
    adapter = adapt(Shortened(), mask=lambda ids: {"first": ids > 0, "second": ids[:, ::2] > 0})
    with pytest.raises(AdapterError, match=r"same positions in every layer.*'first' \(3, 2, 6"):
        explain(adapter, IDS, kind="rollout", view=view)


@pytest.mark.parametrize("kind", ["rollout", "relevance"])
@pytest.mark.parametrize("detached", [False, True])
def test_an_adapter_written_by_hand(kind: str, detached: bool) -> None:
    """Its weights may be copies, from which no logits come."""
    view, own = AttentionView(LAYERS[1], query=0), adapted()
    found = explain(ByHand(own, detached=detached), IDS, kind=kind, view=view)
    torch.testing.assert_close(found, explain(own, IDS, kind=kind, view=view))
