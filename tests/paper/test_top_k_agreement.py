"""The first words of three rankings against loops, and chance against enumeration."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from cases import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_text, texts

from faithattn import Correlation, gradient_correlation, loo_correlation, memory_budget
from faithattn.measures.rank import top_k_kendall
from faithattn.metrics.correlation import importance_agreement
from faithattn.paper.experiment import top_k_agreement
from faithattn.paper.experiment.topk import expected_distance


def list_distance(one: list[int], other: list[int], k: int) -> Fraction:
    """Normalised distance of the first k of two orders of the same positions, pair by pair."""
    total = len(one)
    cut = min(k, total)
    places = [
        {position: min(order.index(position), cut) for position in order} for order in (one, other)
    ]
    cost = Fraction(0)
    listed = sorted({*one[:cut], *other[:cut]})
    for a, b in combinations(listed, 2):
        first, second = (each[a] - each[b] for each in places)
        if first * second < 0:
            cost += 1
        elif (first == 0) != (second == 0):
            cost += Fraction(1, 2)
    return cost / (Fraction(cut * (cut - 1), 2) + cut * min(cut, total - cut))


@pytest.mark.parametrize("total", [2, 3, 4, 5, 6])
def test_chance_is_the_mean_over_all_orders(total: int) -> None:
    own = list(range(total))
    for k in range(1, total + 3):
        orders = [list(order) for order in itertools.permutations(own)]
        mean = sum(list_distance(own, order, k) for order in orders) / len(orders)
        found = float(expected_distance(torch.tensor(total), k))
        assert found == pytest.approx(float(mean), abs=1e-14)


@pytest.mark.parametrize("k", [1, 3, 10, 39, 40])
def test_chance_is_the_mean_of_random_orders(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    x, y = torch.rand(2, 20_000, 40, generator=generator, dtype=torch.float64)
    distances = top_k_kendall(x, y, k=k)
    error = float(distances.std()) / math.sqrt(len(distances))
    found = float(expected_distance(torch.tensor(40), k))
    assert float(distances.mean()) == pytest.approx(found, abs=4 * error)


def test_chance_of_texts_that_are_no_longer_than_the_list() -> None:
    found = expected_distance(torch.tensor([0, 1, 2, 5]), 5)
    assert found.tolist()[2:] == pytest.approx([0.5, 0.5])
    assert found[:2].isnan().all()


def test_distances_against_a_loop() -> None:
    model, ids = make_text(), texts([5, 9, 1, 0, 12, 3])
    gradient, loo = gradient_correlation(model, ids), loo_correlation(model, ids)
    found = top_k_agreement(gradient, loo, ks=(2, 4))
    assert [(each.k, each.pair) for each in found] == [
        (k, pair)
        for k in (2, 4)
        for pair in ("attention_gradient", "attention_loo", "gradient_loo")
    ]
    scores = {
        "attention": gradient.explanation, "gradient": gradient.importance, "loo": loo.importance
    }  # fmt: skip
    noise = {"attention": 1e-6, "gradient": 1e-6, "loo": 1e-13}
    checked = 0
    for each in found:
        assert each.positions.tolist() == [5, 9, 1, 0, 12, 3]
        for row in range(len(ids)):
            words = gradient.mask[row].nonzero()[:, 0].tolist()
            if len(words) < 2:
                assert math.isnan(each.distance[row]) and math.isnan(each.chance[row])
                continue
            orders = []
            for name in each.pair.split("_"):
                values = scores[name][row]
                gap = noise[name] * (1 if name == "loo" else float(values.max()))
                orders.append(falling([float(values[word]) for word in words], gap))
            expected = float(list_distance(*orders, each.k))
            assert float(each.distance[row]) == pytest.approx(expected, abs=1e-12)
            chance = expected_distance(torch.tensor(len(words)), each.k)
            assert float(each.chance[row]) == pytest.approx(float(chance))
            checked += 1
    assert checked == 24


def falling(values: list[float], gap: float) -> list[int]:
    """Positions from the largest value down; chains of near-ties in their order."""
    ascending = sorted(range(len(values)), key=lambda place: values[place])
    rank, ranks = 0, {ascending[0]: 0}
    for before, place in itertools.pairwise(ascending):
        rank += values[place] - values[before] > gap
        ranks[place] = rank
    return sorted(ranks, key=lambda place: (-ranks[place], place))


def scored(attention: torch.Tensor, importance: torch.Tensor, measure: str) -> Correlation:
    """A result with given scores at every position."""
    ones = torch.ones(len(attention))
    return Correlation(
        predicted=torch.zeros(len(attention), dtype=torch.int64), max_attention=ones, mass=ones,
        view="", output="sigmoid", statistic=ones, pvalue=ones, explanation=attention,
        importance=importance, mask=torch.ones_like(attention, dtype=torch.bool), measure=measure,
        removal=None, detached=None, tie_tolerance="auto",
    )  # fmt: skip


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_float_noise_does_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention, gradient, removal = (
        torch.randint(1, 5, (4, 8), generator=generator).float() / 5 for _ in range(3)
    )

    def distances(noise: float) -> list[torch.Tensor]:
        shaken = [
            value + noise * torch.rand(4, 8, generator=generator)
            for value in (attention, gradient, removal)
        ]
        first = scored(shaken[0], shaken[1], "gradient_correlation")
        second = scored(shaken[0], shaken[2], "loo_correlation")
        return [each.distance for each in top_k_agreement(first, second, ks=(1, 3))]

    for one, other in zip(distances(0.0), distances(1e-7), strict=True):
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_ties_beyond_the_list_are_told(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.randint(1, 5, (6, 7), generator=generator).float() / 5
        for name in ("attention", "gradient", "loo")
    }
    mask = torch.arange(7) < torch.tensor([7, 7, 5, 3, 1, 0])[:, None]
    results = [
        dataclasses.replace(scored(scores["attention"], scores[name], measure), mask=mask)
        for name, measure in (("gradient", "gradient_correlation"), ("loo", "loo_correlation"))
    ]
    for each in top_k_agreement(results[0], results[1], ks=(1, 3, 4, 7, 9)):
        for row in range(6):
            told = False
            for name in each.pair.split("_"):
                falling_values = sorted(scores[name][row][mask[row]].tolist(), reverse=True)
                kept, rest = falling_values[: each.k], falling_values[each.k :]
                told |= bool(rest) and kept[-1] == rest[0]
            assert bool(each.tied[row]) is (told and not each.distance[row].isnan())


def test_constant_scores_and_nan_are_undefined() -> None:
    attention = torch.tensor([[0.25] * 4, [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    gradient = torch.tensor([[1.0, 2, 3, 4], [1.0, 2, 3, 4], [1.0, math.nan, 3, 4]])
    loo = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [2e-8, 3e-8, 1e-8, 4e-8]])
    found = top_k_agreement(
        scored(attention, gradient, "gradient_correlation"),
        scored(attention, loo, "loo_correlation"),
        ks=[2],
    )
    undefined = {each.pair: each.distance.isnan().tolist() for each in found}
    assert undefined == {
        "attention_gradient": [True, False, True],
        "attention_loo": [True, False, True],
        "gradient_loo": [False, False, True],
    }
    assert all(torch.equal(each.distance.isnan(), each.chance.isnan()) for each in found)
    assert found[0].distance[1] == 0


def test_alike_at_any_budget() -> None:
    model, ids = make_text("average"), texts([5, 9, 2, 7])
    gradient, loo = gradient_correlation(model, ids), loo_correlation(model, ids)
    expected = top_k_agreement(gradient, loo)
    with memory_budget(1e-6):
        found = top_k_agreement(gradient, loo)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.distance, other.distance) and one.k == other.k


def test_lists_that_are_the_whole_text_give_tau(paper_case: Case) -> None:
    """No word comes twice in these texts, so that nothing ties."""
    model, inputs = paper_case.model, paper_case.inputs
    gradient, loo = gradient_correlation(model, inputs), loo_correlation(model, inputs)
    tau = importance_agreement(gradient, loo)
    found = top_k_agreement(gradient, loo, ks=[paper_case.width])
    for each, correlation in zip(found, (gradient, loo, tau), strict=True):
        torch.testing.assert_close(each.distance, (1 - correlation.statistic) / 2)


def test_what_cannot_be_compared() -> None:
    model, ids = make_text("average"), texts([5, 9])
    gradient, loo = gradient_correlation(model, ids), loo_correlation(model, ids)
    with pytest.raises(ValueError, match="ks must be at least 1; got 0"):
        top_k_agreement(gradient, loo, ks=[0])
    other = dataclasses.replace(loo, mask=loo.mask.roll(1, 1))
    with pytest.raises(ValueError, match="gradient and loo must be of the same texts; got masks"):
        top_k_agreement(gradient, other)
