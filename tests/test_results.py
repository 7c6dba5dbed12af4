"""Results: records, summaries, joining batches."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import planted
import pytest
import torch

from faithattn import (
    AdversarialResult,
    Correlation,
    PermutationResult,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)


def test_records_have_every_scalar_and_no_nan(correlation: Correlation) -> None:
    records = correlation.records()
    assert records[0] == {
        "predicted": 0, "max_attention": 0.25, "mass": 1.0, "statistic": 0.5,
        "pvalue": pytest.approx(0.05),
    }  # fmt: skip
    assert records[1] == {
        "predicted": 1, "max_attention": None, "mass": 0.0, "statistic": None, "pvalue": None,
    }  # fmt: skip
    assert all(type(record["predicted"]) is int for record in records)
    json.dumps(records, allow_nan=False)


def test_records_of_each_test() -> None:
    model, inputs = planted.indifferent()
    permuted = permutation_test(model, inputs, n_permutations=3, seed=0).records()
    assert set(permuted[0]) == {
        "predicted", "max_attention", "mass", "median_tvd", "median_low", "median_high",
        "pvalue", "pvalue_error", "exact", "effect", "effect_spread",
    }  # fmt: skip
    attacked = adversarial_attention(model, inputs, n_steps=2, seed=0).records()
    assert set(attacked[0]) == {
        "predicted", "max_attention", "mass", "max_jsd", "upper_bound", "certified", "outcome",
        "n_nodes",
    }  # fmt: skip
    assert len(permuted) == len(attacked) == 6
    json.dumps([permuted, attacked], allow_nan=False)


def test_summary_groups(correlation: Correlation) -> None:
    summary = correlation.summary()
    assert (summary.measure, summary.quantity) == ("gradient_correlation", "Kendall tau")
    assert (summary.overall.n, summary.overall.undefined) == (3, 1)
    assert summary.overall.mean == pytest.approx(0.125)
    assert summary.overall.significant == 0.5
    assert {key: value.n for key, value in summary.by_predicted.items()} == {0: 1, 1: 2}
    assert summary.by_predicted[1].undefined == 1
    counts = {key: value.n for key, value in summary.by_max_attention.items()}
    assert counts == {"[0,.25)": 0, "[.25,.5)": 1, "[.5,.75)": 0, "[.75,1]": 1}


def test_summaries_name_what_they_summarise() -> None:
    model, inputs = planted.indifferent()
    permuted = permutation_test(model, inputs, seed=0).summary()
    assert (permuted.measure, permuted.quantity) == ("permutation_test", "median TVD")
    attacked = adversarial_attention(model, inputs, n_steps=2, seed=0).summary()
    assert (attacked.measure, attacked.quantity) == ("adversarial_attention", "epsilon-max JSD")
    removed = loo_correlation(model, inputs, removal="mask_attention").summary()
    assert removed.measure == "loo_correlation"


def halves(results_of: type) -> list:
    attention, scores, mask = planted.faithful()[1]
    mask = mask.clone()
    mask[:, 7:] = False
    attention = (attention * mask) / (attention * mask).sum(-1, keepdim=True)
    shares = ((slice(0, 2), 9), (slice(2, 6), 7))
    model = planted.Sigmoid()
    results = []
    for part, length in shares:
        inputs = tuple(value[part, :length] for value in (attention, scores, mask))
        ids = torch.arange(6)[part]
        if results_of is Correlation:
            results.append(gradient_correlation(model, inputs))
        elif results_of is PermutationResult:
            results.append(permutation_test(model, inputs, n_permutations=4, seed=0, instances=ids))
        else:
            results.append(adversarial_attention(model, inputs, n_steps=2, seed=0, instances=ids))
    return results


@pytest.mark.parametrize("kind", [Correlation, PermutationResult, AdversarialResult])
def test_joining_batches_of_different_lengths(kind: type) -> None:
    results = halves(kind)
    for order in (results, results[::-1]):
        joined = kind.concatenate(order)
        assert type(joined) is kind
        start = 0
        for result in order:
            for field in dataclasses.fields(kind):
                one, other = getattr(joined, field.name), getattr(result, field.name)
                if not isinstance(other, torch.Tensor):
                    assert one == other
                    continue
                part = one[start : start + len(other)]
                assert part.dtype == other.dtype and len(one) == 6
                inside = part[tuple(slice(size) for size in other.shape)]
                assert torch.equal(inside.nan_to_num(-1), other.nan_to_num(-1))
                assert part[..., other.shape[-1] :].count_nonzero() == 0 or part.ndim == 1
            start += len(result.predicted)
        assert joined.records() == [record for result in order for record in result.records()]


def test_joining_one_result_keeps_it() -> None:
    (result, _) = halves(Correlation)
    assert Correlation.concatenate([result]).records() == result.records()


def test_joining_nothing() -> None:
    with pytest.raises(ValueError, match="results must be a list of results; got none"):
        Correlation.concatenate([])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("measure", "loo_correlation"),
        ("removal", "delete"),
        ("detached", None),
        ("tie_tolerance", 0.0),
        ("grouped", True),
        ("view", "layer.2"),
        ("output", "softmax"),
    ],
)
def test_joining_different_settings(correlation: Correlation, field: str, value: object) -> None:
    other = dataclasses.replace(correlation, **{field: value})
    with pytest.raises(ValueError, match=f"results must share their settings; got {field}"):
        Correlation.concatenate([correlation, other])


def test_joining_different_ways_of_replay(correlation: Correlation) -> None:
    recorded = dataclasses.replace(correlation, replay="recorded")
    whole = dataclasses.replace(correlation, replay="whole forwards")
    assert correlation.replay == "none"
    assert Correlation.concatenate([recorded, recorded]).replay == "recorded"
    mixed = Correlation.concatenate([recorded, whole, whole])
    assert mixed.replay == "mixed"
    assert Correlation.concatenate([whole, mixed]).replay == "mixed"


def test_every_test_says_how_it_replayed() -> None:
    model, inputs = planted.indifferent()
    results: list[Any] = [
        permutation_test(model, inputs, n_permutations=3, seed=0),
        adversarial_attention(model, inputs, n_steps=2, seed=0),
        gradient_correlation(model, inputs),
        loo_correlation(model, inputs, removal="mask_attention"),
    ]
    assert [result.replay for result in results] == ["adapter"] * 4


def test_joining_different_seeds_or_counts() -> None:
    model, inputs = planted.indifferent()
    first = permutation_test(model, inputs, n_permutations=4, seed=0)
    for options in ({"n_permutations": 4, "seed": 1}, {"n_permutations": 6, "seed": 0}):
        with pytest.raises(ValueError, match="results must"):
            PermutationResult.concatenate([first, permutation_test(model, inputs, **options)])
    attack = {"epsilon": 0.01, "n_adversaries": 2, "n_steps": 2, "seed": 0}
    result = adversarial_attention(model, inputs, **attack)
    for change in ({"epsilon": 0.05}, {"n_adversaries": 3}, {"seed": 1}):
        with pytest.raises(ValueError, match="results must"):
            AdversarialResult.concatenate(
                [result, adversarial_attention(model, inputs, **{**attack, **change})]
            )


def test_results_are_frozen(correlation: Correlation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        correlation.view = "other"  # type: ignore[misc]


def test_strongest_is_the_original_where_none_is_feasible() -> None:
    (result, _) = halves(AdversarialResult)
    none = dataclasses.replace(result, feasible=result.feasible & False)
    assert torch.equal(none.strongest, result.original)
    every = dataclasses.replace(result, feasible=result.feasible | True)
    assert torch.equal(every.strongest, result.attention[:, 0])


def test_undefined_is_not_nothing_feasible() -> None:
    (result, _) = halves(AdversarialResult)
    nothing = torch.tensor([True, False])
    changed = dataclasses.replace(
        result,
        feasible=result.feasible & False,
        max_jsd=torch.where(nothing, math.nan, 0.0),
    )
    summary = changed.summary()
    assert summary.overall.undefined == 1
    assert summary.notes["instances without a feasible adversary"] == 1
