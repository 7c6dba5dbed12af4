"""Explanations of single rows against differences and loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import Case
from small_transformer import (
    IDS,
    LAYERS,
    REAL,
    SIZE,
    VIEWS,
    ByHand,
    adapted,
    attention_of,
)
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    Run,
    adapt,
    effective_attention,
    explain,
)
from faithattn.adapters.reading import read
from faithattn.measures.outputs import class_probability, probabilities


def probability(logits: Tensor, target: Tensor, output: str) -> Tensor:
    return class_probability(probabilities(logits, output), target, output)


def test_gradients_of_a_row_are_differences(case: Case) -> None:
    reading = read(case.model, case.inputs)
    ((site, row),) = reading.rows.attention.items()
    target, slopes = reading.predicted.clamp_min(0), torch.zeros_like(row)
    if reading.output == "sigmoid" and (reading.predicted < 0).any():
        target = torch.zeros_like(target)
    for place in range(row.shape[1]):
        step = torch.zeros_like(row)
        step[:, place] = 1e-5
        up, down = (
            probability(
                reading.model.run(case.inputs, attention={site: row + s}).logits,
                target,
                reading.output,
            )
            for s in (step, -step)
        )
        slopes[:, place] = ((up - down) / 2e-5).detach()
    slopes = slopes.masked_fill(~reading.rows.mask, 0)
    found = explain(case.model, case.inputs, kind="attention_gradient")
    torch.testing.assert_close(found, slopes.to(found), atol=1e-7, rtol=1e-5)
    both = explain(case.model, case.inputs, kind="gradient_attention")
    weighted = (slopes * row).masked_fill(~reading.rows.mask, 0)
    torch.testing.assert_close(both, weighted.to(both), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_gradients_follow_the_layers_above(view: AttentionView) -> None:
    """The slope along all chosen rows at once, each weight raised in proportion to itself."""
    adapter, target = adapted(), torch.tensor([1, 2, 0])
    found = explain(adapter, IDS, kind="gradient_attention", view=view, target=target)
    rows = read(adapter, IDS, view).rows
    for place in range(1, 4):
        total = torch.zeros(len(IDS)).double()
        for name, weights in rows.attention.items():
            own = torch.zeros_like(weights)
            heads = slice(1, 2) if view.heads == 1 else slice(None)
            queries = slice(0, 1) if view.query == 0 else slice(None)
            own[:, heads, queries, place] = 1
            step = own * weights * REAL[:, None, :, None] * 1e-5
            up, down = (
                adapter.run(IDS, attention={name: lambda w, s=s: w + s}).logits
                for s in (step, -step)
            )
            change = probability(up, target, "softmax") - probability(down, target, "softmax")
            total += change.detach() / 2e-5
        total = total.masked_fill(IDS[:, place] < 2, 0)
        torch.testing.assert_close(found[:, place], total, atol=1e-7, rtol=1e-5)


def test_keys_that_a_row_may_not_use_have_no_gradient() -> None:
    """A later key of a causal row has a derivative, if ever it had weight; it never has."""
    view = AttentionView(LAYERS[0], query=2)
    found = explain(adapted(causal=True), IDS, kind="attention_gradient", view=view)
    assert (found[:, 3:] == 0).all() and (found[:, 1:3] != 0).any()
    free = explain(adapted(), IDS, kind="attention_gradient", view=view)
    assert (free[0, 3:] != 0).all()


@pytest.mark.parametrize("kind", ["gradient_attention", "attention_gradient"])
def test_weights_that_an_adapter_returns_may_be_copies(kind: str) -> None:
    view, own = AttentionView(LAYERS[0], query=0), adapted()
    by_hand = explain(ByHand(own, detached=True), IDS, kind=kind, view=view)
    torch.testing.assert_close(by_hand, explain(own, IDS, kind=kind, view=view))


def slow_norms(values: Tensor, weights: Tensor, heads: list[int], query: int) -> Tensor:
    """|| sum_h a_h f_h(x_j) || of one instance, values (H, L, E) and weights (H, L, L)."""
    moved = [sum(weights[h, query, j] * values[h, j] for h in heads) for j in range(6)]
    return torch.stack([each.norm() for each in moved])


def values_of_first_layer(adapter: Any) -> Tensor:
    """The first layer's transformed values (B, H, L, E), from its parameters."""
    model = adapter.model
    attention = model.encoder.layers[0].self_attn
    x = model.embed(IDS)
    value = x @ attention.in_proj_weight[2 * SIZE :].T + attention.in_proj_bias[2 * SIZE :]
    parts = [slice(0, 3), slice(3, 6)]
    mixed = [value[..., part] @ attention.out_proj.weight[:, part].T for part in parts]
    return torch.stack(mixed, 1).detach()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [None, 0, (1, 0)])
@pytest.mark.parametrize("query", [None, 0])
def test_value_norms_and_effective_attention(
    causal: bool, heads: int | tuple[int, ...] | None, query: int | None
) -> None:
    adapter = adapted(causal=causal)
    values, weights = values_of_first_layer(adapter), attention_of(adapter)[LAYERS[0]]
    view = AttentionView(LAYERS[0], heads=heads, query=query)
    chosen = [0, 1] if heads is None else [heads] if isinstance(heads, int) else list(heads)
    norms = explain(adapter, IDS, kind="value_norm", view=view)
    effective = explain(adapter, IDS, kind="effective", view=view)
    for b in range(len(IDS)):
        queries = [0] if query == 0 else REAL[b].nonzero()[:, 0].tolist()
        expected = torch.stack([slow_norms(values[b], weights[b], chosen, q) for q in queries])
        kept = IDS[b] > 1
        torch.testing.assert_close(norms[b], (expected.mean(0) * kept))
        rows = []
        for q in queries:
            seen = REAL[b] & (torch.arange(6) <= (q if causal else 5))
            for h in chosen:
                row, moving = weights[b, h, q : q + 1, seen], values[b, h, seen]
                rows.append(torch.zeros(6).double())
                rows[-1][seen] = effective_attention(row, moving).attention[0]
        torch.testing.assert_close(effective[b], torch.stack(rows).mean(0) * kept)


def test_effective_attention_takes_something_away() -> None:
    """Six positions, values of three numbers: at least three dimensions move nothing."""
    adapter, view = adapted(), AttentionView(LAYERS[0], query=0)
    plain = explain(adapter, IDS, view=view)
    assert (explain(adapter, IDS, kind="effective", view=view) - plain).abs().max() > 0.01
    values, weights = values_of_first_layer(adapter), attention_of(adapter)[LAYERS[0]]
    null = effective_attention(weights[:1], values[:1]).null_dimension
    assert (null >= 6 - SIZE // 2).all()


class Dropping(nn.Module):
    """One pooling row over more positions than values have numbers; some weights are dropped."""

    def __init__(self, *, drop: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(12, 4).double(), nn.Linear(4, 2).double()
        self.drop = drop

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        row = x[..., 0].softmax(-1)
        if self.drop:
            row = row * (ids != 5)  # after the softmax: nothing is moved there
        return self.out((row[..., None] * x).sum(1))


@pytest.mark.parametrize("drop", [False, True])
def test_effective_attention_is_over_the_keys_that_move_something(drop: bool) -> None:
    """Special tokens, which are not explained, are among them."""
    model, ids = Dropping(drop=drop), torch.tensor([[1, 5, 6, 7, 8, 9, 3]])
    x = model.embed(ids)[0].detach()
    keys = ids[0] != 5 if drop else ids[0] > 0
    row = x[:, 0].softmax(-1)[keys]
    alone = effective_attention(row[None], x[keys]).attention[0]
    expected = torch.zeros(7).double()
    expected[keys] = alone
    expected[0] = 0
    found = explain(adapt(model, mask=lambda ids: ids > 1), ids, kind="effective")[0]
    torch.testing.assert_close(found, expected)


class Pooled:
    """Logits are sums of weights times scores, with a hidden layer or not."""

    output = "softmax"

    def __init__(self, *, bent: bool = False, first_bent: bool = False) -> None:
        self.bent, self.first_bent = bent, first_bent

    def run(self, inputs: Tensor, *, attention: Any = None, features: Any = None) -> Run:
        x = (features or {"x": inputs})["x"]
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        own = x[..., 0].softmax(-1)
        row = (attention or {"row": own})["row"]
        logits = (row[..., None] * x).sum(1)
        logits = logits.tanh() if self.bent else logits
        if self.first_bent:
            logits = torch.cat([logits[:1].tanh(), logits[1:]])
        return Run(logits, {"row": row}, x[..., 0] > -9, {"x": x})


def test_values_of_an_adapter_are_what_reaches_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    row = x[..., 0].softmax(-1)
    found = explain(Pooled(), x, kind="value_norm")
    torch.testing.assert_close(found, row * x.norm(dim=-1))
    expected = effective_attention(row[:, None], x).attention[:, 0]
    torch.testing.assert_close(explain(Pooled(), x, kind="effective"), expected)
    with pytest.raises(AdapterError, match=r"logits must be affine in the chosen rows.*Pooled"):
        explain(Pooled(bent=True), x, kind="value_norm")


class FirstIsSpecial(Pooled):
    def run(self, inputs: Tensor, **overrides: Any) -> Run:
        run = super().run(inputs, **overrides)
        return replace(run, mask=torch.arange(inputs.shape[1]).expand(len(inputs), -1) > 0)


def test_values_of_an_adapter_beside_a_special_token() -> None:
    """Its weight stays where it is, and the others keep theirs."""
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row = x[..., 0].softmax(-1)
    rest = effective_attention(row[:, None, 1:], x[:, 1:]).attention[:, 0]
    found = explain(FirstIsSpecial(), x, kind="effective")
    torch.testing.assert_close(found, torch.nn.functional.pad(rest, (1, 0)))
    norms = explain(FirstIsSpecial(), x, kind="value_norm")
    torch.testing.assert_close(norms[:, 1:], (row * x.norm(dim=-1))[:, 1:])


@pytest.mark.parametrize("kind", ["value_norm", "effective"])
def test_an_instance_whose_logits_bend_is_undefined(kind: str) -> None:
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = explain(Pooled(first_bent=True), x, kind=kind)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], explain(Pooled(), x, kind=kind)[1])


class NoGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.score, self.out = nn.Embedding(12, 4), nn.Linear(4, 1), nn.Linear(4, 2)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.out((self.score(x)[..., 0].softmax(-1)[..., None] * x).sum(1))


@pytest.mark.parametrize("kind", ["gradient_attention", "attention_gradient", "relevance"])
def test_a_model_that_turns_gradients_off(kind: str) -> None:
    with pytest.raises(AdapterError, match=r"logits must carry gradients.*NoGradient do not"):
        explain(NoGradient(), IDS, kind=kind)


def test_several_outputs_have_no_predicted_class() -> None:
    adapter = adapt(adapted().model, output="identity")
    with pytest.raises(ValueError, match=r"target must name an output .*got None for 3 outputs"):
        explain(adapter, IDS, kind="gradient_attention", view=AttentionView.cls())
    found = explain(adapter, IDS, kind="gradient_attention", view=AttentionView.cls(), target=2)
    assert (found != 0).any()
