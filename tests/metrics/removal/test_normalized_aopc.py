"""Normalised AOPC against all orders, and the search against the exact bounds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import planted
import pytest
import torch
from cases import Case, make_case, make_text, texts
from torch import Tensor

from faithattn import memory_budget
from faithattn.metrics.removal import bounds
from faithattn.metrics.removal.beam import beam_bounds
from faithattn.metrics.removal.bounds import normalized_aopc
from faithattn.results.removal import NormalizedAOPC

LENGTHS = (5, 3, 1, 2, 4)


def p_without(model: Any, ids: list[int], gone: tuple[int, ...], target: int) -> float:
    left = [each for at, each in enumerate(ids) if at not in gone]
    with torch.no_grad():
        positive = float(model(torch.tensor([left])).sigmoid())
    return positive if target == 1 else 1 - positive


def slow(model: Any, ids: list[int], scores: list[float]) -> dict[str, float]:
    """Every order of one short text, deleted and run again."""
    words = [at for at, each in enumerate(ids) if each > 3 or each == 1]
    target = int(p_without(model, ids, (), 1) > 0.5)
    whole = p_without(model, ids, (), target)

    def mean_drop(order: tuple[int, ...]) -> float:
        sets = [order[:k] for k in range(1, len(order))]
        return sum(whole - p_without(model, ids, gone, target) for gone in sets) / len(sets)

    if len(words) < 2:
        return dict.fromkeys(("lower", "upper", "comprehensiveness", "sufficiency"), math.nan)
    every = [mean_drop(order) for order in itertools.permutations(words)]
    order = tuple(sorted(words, key=lambda at: (-scores[at], at)))
    lower, upper = min(every), max(every)
    return {
        "lower": lower,
        "upper": upper,
        "comprehensiveness": (mean_drop(order) - lower) / (upper - lower),
        "sufficiency": (mean_drop(order[::-1]) - lower) / (upper - lower),
    }


@pytest.mark.parametrize("exact_up_to", [8, 0])
def test_all_orders_of_short_texts(exact_up_to: int) -> None:
    model, ids = make_text("cnn", "scaled_dot"), texts(LENGTHS)
    found = normalized_aopc(model, ids, exact_up_to=exact_up_to, width=30)  # all sets are kept
    assert found.exact.tolist() == [bool(exact_up_to) and n > 1 for n in LENGTHS]
    with torch.no_grad():
        scores = model.run(ids).attention["attention"]
    for row, each in enumerate(ids.tolist()):
        wanted = slow(model, [one for one in each if one], scores[row].tolist())
        for key, value in wanted.items():
            got = float(getattr(found, key)[row])
            assert got == pytest.approx(value, abs=1e-9, nan_ok=True), (row, key)


def test_a_narrow_search_lies_inside_the_exact_bounds(text_case: Case) -> None:
    model, ids = text_case.model, text_case.inputs[1:]  # of six positions at most
    exact = normalized_aopc(model, ids)
    wide = normalized_aopc(model, ids, exact_up_to=0, width=40)
    torch.testing.assert_close(wide.lower, exact.lower, atol=1e-12, rtol=0, equal_nan=True)
    torch.testing.assert_close(wide.upper, exact.upper, atol=1e-12, rtol=0, equal_nan=True)
    narrow = normalized_aopc(model, ids, exact_up_to=0, width=1)
    assert (narrow.lower >= exact.lower - 1e-12).all()
    assert (narrow.upper <= exact.upper + 1e-12).all()
    assert not narrow.exact.any() and exact.exact.all()
    for each in (exact, wide, narrow):
        for value in (each.comprehensiveness, each.sufficiency):
            assert ((value >= 0) & (value <= 1)).all()


def test_the_own_order_widens_what_a_search_missed(
    text_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = text_case.model, text_case.inputs[:2]

    def poor(_drop: Any, _mask: Tensor, chosen: Tensor, _width: int) -> tuple[Tensor, Tensor]:
        middle = 1e-3 * chosen.double()
        return middle, middle

    monkeypatch.setattr(bounds, "beam_bounds", poor)
    found = normalized_aopc(model, ids, exact_up_to=0)
    own = torch.stack([found.aopc_comprehensiveness, found.aopc_sufficiency])
    middle = torch.tensor([[0.0, 1e-3]]).double() / torch.tensor([6, 3])
    met = torch.cat([own, middle])
    torch.testing.assert_close(found.lower, met.amin(0))
    torch.testing.assert_close(found.upper, met.amax(0))
    assert (own != middle).all() and (own[1] < middle)[0, 0] and (own[0] > middle)[0, 0]


def test_where_effects_add_up_attention_is_the_best_order() -> None:
    weights = planted.rows(3, 7)
    inputs = planted.whole(weights, torch.ones_like(weights))
    for exact_up_to in (8, 0):
        how: Any = {"removal": "mask_attention", "exact_up_to": exact_up_to}
        best = normalized_aopc(planted.Linear(), inputs, **how)
        worst = normalized_aopc(planted.Linear(), inputs, explanation=-weights, **how)
        one, none = torch.ones(3).double(), torch.zeros(3).double()
        torch.testing.assert_close(best.comprehensiveness, one)
        torch.testing.assert_close(best.sufficiency, none)
        torch.testing.assert_close(worst.comprehensiveness, none)
        torch.testing.assert_close(worst.sufficiency, one)


def test_where_no_order_matters_nothing_is_scaled() -> None:
    model, (weights, values, mask) = planted.indifferent()
    found = normalized_aopc(model, (weights, values, mask), removal="mean_embedding")
    assert found.comprehensiveness.isnan().all() and found.lower.abs().max() < 1e-12
    assert found.summary().overall.undefined == len(weights)


def test_a_wider_search_sees_past_the_best_first_step() -> None:
    table = {(0,): 3.0, (1,): 2.0, (2,): 0.0, (0, 1): 0.0, (0, 2): 0.0, (1, 2): 9.0}

    def drop(rows: Tensor, gone: Tensor) -> Tensor:
        sets = [tuple(each.nonzero()[:, 0].tolist()) for each in gone]
        return torch.tensor([table[each] for each in sets])

    mask = torch.ones(1, 3, dtype=torch.bool)
    low, high = beam_bounds(drop, mask, torch.tensor([0]), 1)
    assert (float(low), float(high)) == (0.0, 3.0)  # the greedy ends
    low, high = beam_bounds(drop, mask, torch.tensor([0]), 2)
    assert (float(low), float(high)) == (0.0, 11.0)


@pytest.mark.parametrize("exact_up_to", [8, 3])
def test_padding_batches_and_chunks_do_not_matter(exact_up_to: int) -> None:
    case = make_case("bag")

    def run(inputs: Any) -> NormalizedAOPC:
        return normalized_aopc(case.model, inputs, exact_up_to=exact_up_to, width=2)

    whole = run(case.inputs)
    with memory_budget(1e-6):
        again = [run(case.inputs)]
    again += [run(case.pad(case.inputs, 3, left)) for left in (False, True)]
    again.append(NormalizedAOPC.concatenate([run(case.take([0, 1])), run(case.take([2, 3, 4]))]))
    for found in again:
        for key in ("lower", "upper", "comprehensiveness", "sufficiency"):
            torch.testing.assert_close(
                getattr(found, key), getattr(whole, key), rtol=0, atol=1e-9, equal_nan=True
            )


def test_bad_arguments(text_case: Case) -> None:
    with pytest.raises(ValueError, match=r"exact_up_to must be at most 16, .* got 17\. Longer"):
        normalized_aopc(text_case.model, text_case.inputs, exact_up_to=17)
    with pytest.raises(ValueError, match="width must be"):
        normalized_aopc(text_case.model, text_case.inputs, width=0)
