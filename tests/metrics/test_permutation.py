"""Shuffled attention against full enumeration and closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import oracles
import planted
import pytest
import torch
from cases import Case, make_case, texts
from oracles import PaperModel

from faithattn import AttentionView, permutation_test, permute_attention


def test_effects_of_each_shuffle_agree_with_a_loop(paper_case: Case) -> None:
    model, inputs = paper_case.model, paper_case.inputs
    result = permutation_test(model, inputs, n_permutations=6, seed=3)
    run = model.run(inputs)
    own = run.attention["attention"].detach()
    moved = permute_attention(own, mask=run.mask, n_permutations=6, seed=3)
    for row in range(paper_case.size):
        single = PaperModel(model, inputs, row)
        before = single.outputs().detach()
        for draw in range(6):
            weights = torch.zeros(len(single.ids), dtype=torch.float64)
            weights[single.words] = moved[row, draw][run.mask[row]]
            after = single.outputs(weights).detach()
            expected = oracles.distance(after, before, model.output)
            assert float(result.tvd[row, draw]) == pytest.approx(float(expected), abs=1e-12)
            divergence = oracles.jsd(weights.tolist(), single.attention().tolist())
            assert float(result.jsd[row, draw]) == pytest.approx(divergence, abs=1e-12)
    middle = result.tvd.quantile(0.5, -1)
    torch.testing.assert_close(result.median_tvd[~result.exact], middle[~result.exact])


def test_pvalue_counts_shuffles_that_are_as_confident(text_case: Case) -> None:
    model, inputs = text_case.model, texts((9, 8, 10))
    result = permutation_test(model, inputs, n_permutations=50, seed=1)
    run = model.run(inputs)
    own = run.attention["attention"].detach()
    moved = permute_attention(own, mask=run.mask, n_permutations=50, seed=1)
    outputs = model.replay(run.state, {"attention": moved.transpose(0, 1)}).sigmoid()[..., 0].T
    original = run.logits.sigmoid()
    sure = torch.where(original > 0.5, outputs, 1 - outputs)
    before = torch.where(original > 0.5, original, 1 - original)
    expected = (1 + (sure >= before - 1e-6).sum(1)).double() / 51
    torch.testing.assert_close(result.pvalue, expected)
    torch.testing.assert_close(result.pvalue_error, (expected * (1 - expected) / 51).sqrt())
    assert not result.exact.any()
    assert float(result.pvalue.min()) > 0 and float(result.pvalue.max()) <= 1


@pytest.mark.parametrize("name", ["text-bilstm-additive", "question-cnn-scaled_dot"])
def test_draws_converge_to_full_enumeration(name: str) -> None:
    case = make_case(name)
    model, inputs = case.model, case.inputs
    result = permutation_test(model, inputs, n_permutations=4000, seed=0)
    checked = 0
    for row in range(case.size):
        single = PaperModel(model, inputs, row)
        if int(single.words.sum()) > 5:
            continue
        checked += 1
        own = single.attention().detach()

        def decode(words: torch.Tensor, single: PaperModel = single) -> torch.Tensor:
            weights = torch.zeros(len(single.ids), dtype=torch.float64)
            weights[single.words] = words
            return single.outputs(weights).detach()

        exact = oracles.permutation_effects(own[single.words], decode, model.output)
        drawn = result.tvd[row]
        spread = float(exact.std(correction=0)) / math.sqrt(4000)
        assert abs(float(drawn.mean() - exact.mean())) < 4 * spread + 1e-12
        assert bool(result.exact[row])
        assert float(result.median_tvd[row]) == pytest.approx(float(exact.quantile(0.5)), abs=1e-12)
        for value in exact.unique()[:3]:
            share = float((exact <= value + 1e-9).double().mean())
            assert float((drawn <= value + 1e-9).double().mean()) == pytest.approx(share, abs=0.04)
    assert checked >= 3


@pytest.mark.parametrize("length", [2, 5, 30])
def test_linear_logits_have_the_variance_of_the_closed_form(length: int) -> None:
    attention = planted.rows(3, length)
    scores = torch.randn(3, length, generator=torch.Generator().manual_seed(5)).double()
    result = permutation_test(
        planted.Linear(), planted.whole(attention, scores), n_permutations=20_000, seed=0
    )
    logit = (attention * scores).sum(-1)
    for row in range(3):
        # The distance is from the original logit, whose offset from the mean is known.
        offset = float(scores[row].mean() - logit[row])
        expected = oracles.linear_variance(attention[row], scores[row]) + offset**2
        assert float((result.tvd[row] ** 2).mean()) == pytest.approx(expected, rel=0.05)


def test_closed_form_of_the_variance_is_the_enumerated_one() -> None:
    attention, scores = planted.rows(1, 6)[0], torch.arange(6.0).double() ** 1.5
    values = [
        float((attention[list(order)] * scores).sum()) for order in itertools.permutations(range(6))
    ]
    variance = float(torch.tensor(values, dtype=torch.float64).var(correction=0))
    assert variance == pytest.approx(oracles.linear_variance(attention, scores))


def test_the_encoder_runs_once(paper_case: Case) -> None:
    calls: list[int] = []
    paper_case.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    permutation_test(paper_case.model, paper_case.inputs, n_permutations=300, seed=0)
    assert len(calls) == 1


def test_one_word_and_no_word_are_undefined_and_counted(text_case: Case) -> None:
    ids = texts((5, 1, 0))
    result = permutation_test(text_case.model, ids, n_permutations=5, seed=0)
    single = (
        result.median_tvd, result.median_low, result.median_high, result.pvalue,
        result.pvalue_error, result.effect, result.effect_spread,
    )  # fmt: skip
    for value in (result.tvd, result.jsd, *(each[:, None] for each in single)):
        assert value.isnan().all(-1).tolist() == [False, True, True]
    assert result.exact.tolist() == [True, False, False]
    overall = result.summary().overall
    assert (overall.n, overall.undefined) == (3, 2)


def test_labels_and_regression_have_no_pvalue() -> None:
    result = permutation_test(*planted.faithful(), seed=0)
    assert result.pvalue.isnan().all() and not result.median_tvd.isnan().any()
    assert (result.predicted == -1).all() and result.summary().by_predicted == {}


def test_only_unknown_words_have_equal_shuffles() -> None:
    ids = torch.tensor([[2, 1, 1, 1, 1, 3]])
    result = permutation_test(make_case("text-average-additive").model, ids, seed=0)
    assert float(result.median_tvd) == pytest.approx(0, abs=1e-12)
    assert float(result.pvalue) == 1


def test_rows_of_several_heads_share_one_order() -> None:
    model = planted.Heads()
    view = AttentionView("heads", heads=(0, 1), query=0)
    result = permutation_test(model, torch.zeros(3), n_permutations=20, seed=0, view=view)
    free = model.weights[:, :, 0, 1:]
    mass = free.sum(-1, keepdim=True)
    padded = torch.nn.functional.pad(free / mass, (1, 0))
    mask = torch.tensor([[False, True, True, True, True]]).expand(3, -1)
    values = torch.arange(1.0, 6.0).double() ** 2
    change = torch.zeros(3, 20, dtype=torch.float64)
    divergence = torch.zeros(3, 20, dtype=torch.float64)
    for head in range(2):
        moved = permute_attention(padded[:, head], mask=mask, n_permutations=20, seed=0)
        kept = moved * mass[:, head, None]
        before = (padded[:, head] * mass[:, head] * values).sum(-1)
        change += ((kept * values).sum(-1) - before[:, None]).abs() / 4
        for row in range(3):
            for draw in range(20):
                divergence[row, draw] += (
                    oracles.jsd(moved[row, draw].tolist(), padded[row, head].tolist()) / 2
                )
    torch.testing.assert_close(result.tvd, change)
    torch.testing.assert_close(result.jsd, divergence, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(result.mass, mass[..., 0].mean(1))
    torch.testing.assert_close(result.max_attention, padded.amax(-1).mean(1))


def test_keys_outside_the_support_keep_their_weight() -> None:
    seen: list[torch.Tensor] = []

    class Watched(planted.Heads):
        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Any:
            if attention is not None:
                seen.append(attention["heads"])
            return super().run(inputs, attention=attention)

    model = Watched()
    view = AttentionView("heads", heads=1, query=1)
    permutation_test(model, torch.zeros(3), n_permutations=12, seed=0, view=view)
    assert len(seen) == 12 + 6  # the random shuffles, then all orders of three keys
    changed = torch.zeros(2, 2, 5, dtype=torch.bool)
    changed[1, 1, 1:4] = True
    for override in seen:
        assert torch.equal(override[:, ~changed], model.weights[:, ~changed])
        torch.testing.assert_close(
            override[:, changed].sort(-1).values, model.weights[:, changed].sort(-1).values
        )


def test_a_share_of_five_in_a_hundred_is_significant_in_any_precision() -> None:
    # Every shuffle but the identity is less confident: p is 1 / 20 with 19 shuffles of many.
    attention = torch.arange(1.0, 13.0) ** 3
    inputs = planted.whole((attention / attention.sum())[None], torch.arange(12.0)[None])
    for dtype in (torch.float32, torch.float64):
        narrow = (inputs[0].to(dtype), inputs[1].to(dtype), inputs[2])
        result = permutation_test(planted.Sigmoid(), narrow, n_permutations=19, seed=0)
        assert float(result.pvalue) == pytest.approx(0.05)
        assert result.summary().overall.significant == 1
