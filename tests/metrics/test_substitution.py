"""Attention put in by the caller against loops, and against the tests that put in others."""

from __future__ import annotations

import math
from typing import Any

import oracles
import planted
import pytest
import scipy.stats
import stack
import torch
from cases import CASES, Case, make_case, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PaperModel
from stack import Stack
from torch import Tensor, nn

from faithattn import (
    AttentionView,
    SubstitutionResult,
    adapt,
    adversarial_attention,
    attention_substitution,
    permutation_test,
    permute_attention,
)
from faithattn.adapters.reading import read
from faithattn.metrics.substitution import substitution_of


def weights_like(mask: Tensor, *, seed: int = 1) -> Tensor:
    """Random weights for every position, sums left open."""
    return torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)).double() + 0.05


def test_against_a_loop_over_instances(paper_case: Case) -> None:
    model, inputs = paper_case.model, paper_case.inputs
    run = model.run(inputs)
    weights = weights_like(run.mask)
    result = attention_substitution(model, inputs, weights)
    for row in range(paper_case.size):
        single = PaperModel(model, inputs, row)
        put = torch.zeros(len(single.ids), dtype=torch.float64)
        put[single.words] = weights[row][run.mask[row]]
        put /= put.sum()
        before, after = single.outputs().detach(), single.outputs(put).detach()
        expected = oracles.distance(after, before, model.output)
        assert float(result.tvd[row]) == pytest.approx(float(expected), abs=1e-12)
        divergence = oracles.jsd(put.tolist(), single.attention().tolist())
        assert float(result.jsd[row]) == pytest.approx(divergence, abs=1e-12)
        if model.output == "softmax":
            turned = int(after.argmax()) != int(before.argmax())
        else:
            turned = bool(after[0] > 0.5) != bool(before[0] > 0.5)
        assert float(result.flipped[row]) == turned
    assert float(result.jsd.min()) > 1e-3  # something was put in


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_own_attention_changes_nothing(name: str, dtype: torch.dtype) -> None:
    case = make_case(name)
    own = next(iter(case.model.run(case.inputs).attention.values()))
    result = attention_substitution(case.model, case.inputs, 3 * own.detach().to(dtype))
    slack = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(result.tvd, torch.zeros_like(result.tvd), atol=slack, rtol=0)
    torch.testing.assert_close(
        result.jsd, torch.zeros_like(result.jsd), atol=max(slack**2, 1e-15), rtol=0
    )
    assert torch.equal(result.flipped, torch.zeros_like(result.flipped))


@pytest.mark.parametrize("name", CASES)
def test_a_shuffle_put_in_is_that_of_the_permutation_test(name: str) -> None:
    case = make_case(name)
    run = case.model.run(case.inputs)
    own = next(iter(run.attention.values())).detach()
    expected = permutation_test(case.model, case.inputs, n_permutations=3, seed=4)
    moved = permute_attention(own, mask=run.mask, n_permutations=3, seed=4)
    for draw in range(3):
        result = attention_substitution(case.model, case.inputs, moved[:, draw])
        torch.testing.assert_close(result.tvd, expected.tvd[:, draw], atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(result.jsd, expected.jsd[:, draw], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_an_adversary_put_in_has_its_distances(name: str) -> None:
    case = make_case(name)
    attack = adversarial_attention(case.model, case.inputs, epsilon=0.05, n_steps=20, seed=0)
    result = attention_substitution(case.model, case.inputs, attack.attention[:, 0])
    torch.testing.assert_close(result.tvd, attack.tvd[:, 0], atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(result.jsd, attack.jsd[:, 0], atol=1e-9, rtol=1e-7)
    assert float(result.jsd.max()) > 1e-3


@pytest.mark.parametrize(
    "view",
    [AttentionView([0, 1]), AttentionView([0, 1], heads=1), AttentionView("layers.1", query=2)],
    ids=["two sites", "one head of two sites", "one query"],
)
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_sites_of_many_rows_take_back_what_an_attack_found(
    view: AttentionView, causal: bool
) -> None:
    model, inputs = Stack(causal=causal), stack.inputs()
    attack = adversarial_attention(model, inputs, epsilon=0.05, n_steps=10, seed=0, view=view)
    result = attention_substitution(model, inputs, attack.attention[:, 0], view=view)
    torch.testing.assert_close(result.tvd, attack.tvd[:, 0], atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(result.jsd, attack.jsd[:, 0], atol=1e-9, rtol=1e-7)
    assert result.replay == "whole forwards"


def test_one_row_is_put_into_every_row_and_keeps_its_mass() -> None:
    model, inputs = Stack(causal=True), stack.inputs()
    run = model.run(inputs)
    weights = weights_like(inputs["mask"])
    view = AttentionView("layers.0", heads=1)
    result = attention_substitution(model, inputs, weights, view=view)
    changed, divergence = run.attention["layers.0"].detach().clone(), torch.zeros(stack.SIZE)
    for b in range(stack.SIZE):
        queries = inputs["real"][b].nonzero()[:, 0].tolist()
        for query in queries:
            free = inputs["mask"][b] & run.support["layers.0"][b, 1, query]
            if not free.any():
                continue
            own = run.attention["layers.0"][b, 1, query].detach()
            put = weights[b, free] / weights[b, free].sum()
            mass = own[free].sum()
            changed[b, 1, query, free] = put * mass
            divergence[b] += oracles.jsd(put.tolist(), (own[free] / mass).tolist()) / len(queries)
    after = model.run(inputs, attention={"layers.0": changed}).logits.softmax(-1)
    moved = (after - run.logits.softmax(-1)).abs().sum(-1) / 2
    torch.testing.assert_close(result.tvd, moved.detach(), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(result.jsd, divergence.double(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adapted_modules(dtype: torch.dtype) -> None:
    """One alternative is not worth recording; with recorded operations it comes out the same."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attention(x, x, x)[0].mean(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Layer().to(dtype).eval()
        x = torch.randn(4, 5, 8).to(dtype)
    model = adapt(layer)
    rows = torch.eye(5)[torch.tensor([0, 2, 2, 4])]
    view = AttentionView.mean()
    result = attention_substitution(model, x, rows, view=view)
    values = nn.functional.linear(
        x, layer.attention.in_proj_weight[16:], layer.attention.in_proj_bias[16:]
    )
    chosen = values[torch.arange(4), rows.argmax(1)]
    after = layer.out(layer.attention.out_proj(chosen)).float().softmax(-1)
    expected = (after - layer(x).float().softmax(-1)).abs().sum(-1) / 2
    slack = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(result.tvd, expected.detach(), atol=slack, rtol=0)
    assert result.replay == "whole forwards" and result.tvd.dtype == torch.float32
    with torch.no_grad():
        reading = read(model, x, view, replay=1000)
        conditional = rows[:, None].expand(reading.rows.conditional.shape)
        recorded = substitution_of(reading, conditional)
    assert recorded.replay == "recorded"
    torch.testing.assert_close(recorded.tvd, result.tvd, atol=slack, rtol=0)
    torch.testing.assert_close(recorded.jsd, result.jsd)


def test_equal_values_make_attention_irrelevant() -> None:
    model, inputs = planted.indifferent()
    result = attention_substitution(model, inputs, weights_like(inputs[2]))
    assert float(result.tvd.max()) < 1e-12 and float(result.jsd.min()) > 1e-3
    assert result.association.statistic.isnan()  # noise is no order
    assert math.isnan(result.summary().notes["tau of JSD and TVD"])


def test_labels_and_regression_have_no_flips() -> None:
    model, inputs = planted.faithful()
    result = attention_substitution(model, inputs, weights_like(inputs[2]))
    assert result.flipped.isnan().all() and float(result.tvd.min()) > 0
    assert math.isnan(result.summary().notes["share flipped"])


def test_fewer_than_two_positions_are_undefined(text_case: Case) -> None:
    ids = texts((5, 1, 0))
    result = attention_substitution(text_case.model, ids, torch.ones(3, ids.shape[1]))
    for value in (result.tvd, result.jsd, result.flipped):
        assert value.isnan().tolist() == [False, True, True]
    assert (result.summary().overall.n, result.summary().overall.undefined) == (3, 2)


def result_of(tvd: list[float], jsd: list[float], flipped: list[float]) -> SubstitutionResult:
    """A result with given values."""
    count = len(tvd)
    return SubstitutionResult(
        predicted=torch.zeros(count, dtype=torch.int64), max_attention=torch.full((count,), 0.5),
        mass=torch.ones(count), view="", output="sigmoid", tvd=torch.tensor(tvd),
        jsd=torch.tensor(jsd), flipped=torch.tensor(flipped),
    )  # fmt: skip


def test_the_summary_says_shares_and_association() -> None:
    nan = math.nan
    tvd, jsd = [0.3, 0.1, 0.2, nan, 0.4], [0.5, 0.1, 0.3, nan, 0.2]
    summary = result_of(tvd, jsd, [1, 0, 0, nan, 0]).summary()
    assert (summary.measure, summary.quantity) == ("attention_substitution", "TVD")
    assert summary.overall.mean == pytest.approx(0.25)
    expected = scipy.stats.kendalltau([0.5, 0.1, 0.3, 0.2], [0.3, 0.1, 0.2, 0.4])
    interval = scipy.stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert summary.notes == pytest.approx(
        {
            "mean JSD": 0.275, "share flipped": 0.25, "Wilson low": interval.low,
            "Wilson high": interval.high, "tau of JSD and TVD": expected.statistic,
            "p of tau": expected.pvalue,
        },
        abs=1e-6,
    )  # fmt: skip


def test_changes_below_float_noise_are_none() -> None:
    result = result_of([1e-9, 2e-9, 3e-9, 0.2], [0.3, 0.2, 0.1, 0.4], [0, 0, 0, 0])
    expected = scipy.stats.kendalltau([0.3, 0.2, 0.1, 0.4], [0, 0, 0, 0.2]).statistic
    assert float(result.association.statistic) == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), factor=st.floats(1e-30, 1e30))
@settings(max_examples=25, deadline=None)
def test_sums_and_what_lies_elsewhere_do_not_matter(seed: int, factor: float) -> None:
    case = make_case("bag")
    mask = case.inputs["mask"]
    weights = weights_like(mask, seed=seed)
    expected = attention_substitution(case.model, case.inputs, weights)
    other = (weights * factor).masked_fill(~mask, -math.inf)
    result = attention_substitution(case.model, case.inputs, other)
    torch.testing.assert_close(result.tvd, expected.tvd, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(result.jsd, expected.jsd, atol=1e-12, rtol=1e-9)
    assert bool(((expected.jsd >= 0) & (expected.jsd <= math.log(2) + 1e-12)).all())


def changed(value: float, row: int = 2) -> Tensor:
    weights = torch.ones(5, 7, dtype=torch.float64)
    weights[row, 1] = value
    return weights


LOOK = "where a row may look; got"
LENGTH = r"attention must have shape \(5, 7\); got \(5, 8\)\. Give one weight a position"


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (changed(-0.5), rf"attention must be finite and 0 or more {LOOK} -0\.5 in instance 2\. "),
        (changed(math.nan), f"{LOOK} nan in instance 2. Pass weights, not scores"),
        (changed(math.inf, 3), f"{LOOK} inf in instance 3"),
        (torch.zeros(5, 7), "have weight where each row may look; got none in instance 0. Choose"),
        (torch.ones(5, 8), LENGTH),
    ],
)
def test_weights_that_cannot_be_put_in(attention: Tensor, message: str) -> None:
    case = make_case("bag")
    with pytest.raises(ValueError, match=message):
        attention_substitution(case.model, case.inputs, attention)


def test_shapes_of_a_site_are_named() -> None:
    model, inputs = Stack(), stack.inputs()
    message = r"shape \(3, 6\), for every row alike, or \(3, 2, 2, 6, 6\); got \(3, 2, 6, 6\)"
    with pytest.raises(ValueError, match=message):
        attention_substitution(model, inputs, torch.ones(3, 2, 6, 6), view=AttentionView([0, 1]))


@pytest.mark.parametrize("value", [[[1.0]], torch.ones(5, 7, dtype=torch.int64)])
def test_attention_is_a_tensor_of_floats(value: Any) -> None:
    case = make_case("bag")
    with pytest.raises(TypeError, match="attention must be"):
        attention_substitution(case.model, case.inputs, value)
