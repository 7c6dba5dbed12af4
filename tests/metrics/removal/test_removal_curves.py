"""Removal curves against a loop that edits lists of tokens and runs each text alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import planted
import pytest
import torch
from cases import Case, make_case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn import AdapterError, mask_token, memory_budget
from faithattn.metrics.removal.curves import removal_curves
from faithattn.metrics.removal.order import counts_of, ranks_of, steps_of
from faithattn.results.removal import RemovalCurves

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)
NAN = math.nan


class Slow:
    """One text, without padding: p of the predicted class after edits of its list of ids."""

    def __init__(self, model: Any, ids: list[int], removal: str, target: int | None = None) -> None:
        self.model, self.ids, self.removal = model, ids, removal
        self.words = [at for at, each in enumerate(ids) if each > 3 or each == 1]
        positive = self.positive([])
        self.target = int(positive > 0.5) if target is None else target

    def positive(self, gone: list[int]) -> float:
        if self.removal == "delete":
            if len(gone) == len(self.words):
                return NAN
            left = [each for at, each in enumerate(self.ids) if at not in gone]
        else:
            left = [5 if at in gone else each for at, each in enumerate(self.ids)]
        with torch.no_grad():
            return float(self.model(torch.tensor([left])).sigmoid())

    def p(self, gone: list[int]) -> float:
        positive = self.positive(gone)
        return positive if self.target == 1 else 1 - positive

    def curves(self, scores: list[float], fractions: tuple[float, ...]) -> dict[str, Any]:
        order = sorted(self.words, key=lambda at: (-scores[at], at))
        total = len(order)
        without = [self.p(order[:k]) for k in range(total + 1)]
        alone = [self.p(order[k:]) for k in range(total + 1)]
        counts = [max(1, math.ceil(q * total - 1e-9)) for q in fractions]
        comprehensive = [without[0] - without[k] for k in counts]
        sufficient = [without[0] - alone[k] for k in counts]
        odds = [math.log(p / (1 - p)) for p in (without[0], *(without[k] for k in counts))]
        return {
            "comprehensiveness": comprehensive,
            "sufficiency": sufficient,
            "aopc_comprehensiveness": sum(comprehensive) / len(counts),
            "aopc_sufficiency": sum(sufficient) / len(counts),
            "log_odds": [odds[0] - each for each in odds[1:]],
            "deletion_area": area(without),
            "insertion_area": area(alone),
            "original": without[0],
        }


def area(values: list[float]) -> float:
    """By trapezoids, without what is undefined at an end, divided by the axis."""
    kept = [each for each in values if not math.isnan(each)]
    if len(kept) < 2:
        return NAN
    return sum((a + b) / 2 for a, b in itertools.pairwise(kept)) / (len(kept) - 1)


@pytest.mark.parametrize("name", ["text-bilstm-additive", "text-cnn-scaled_dot"])
@pytest.mark.parametrize("removal", ["delete", "mask_token"])
@pytest.mark.parametrize("target", [None, 0])
def test_curves_of_lists_edited_one_by_one(name: str, removal: str, target: int | None) -> None:
    case = make_case(name)
    scores = torch.randn(case.size, case.width, generator=torch.Generator().manual_seed(2)).double()
    scores[0] = scores[0].round()  # ties
    for explanation in ("attention", scores):
        how: Any = mask_token(5) if removal == "mask_token" else removal
        found = removal_curves(
            case.model, case.inputs, explanation=explanation, removal=how, target=target
        )
        with torch.no_grad():
            own = case.model.run(case.inputs).attention["attention"]
        values = own if isinstance(explanation, str) else explanation
        for row, ids in enumerate(case.inputs.tolist()):
            slow = Slow(case.model, [each for each in ids if each], removal, target)
            wanted = slow.curves(values[row].tolist(), FRACTIONS)
            for key, value in wanted.items():
                got = getattr(found, key)[row].tolist()
                assert got == pytest.approx(value, abs=1e-9, nan_ok=True), key


def test_a_linear_model_by_hand() -> None:
    weights = torch.tensor([[0.45, 0.40, 0.15]]).double()
    scores = torch.tensor([[1.0, -1.0, 1.0]]).double()
    inputs = planted.whole(weights, scores)
    found = removal_curves(planted.Linear(), inputs, removal="mask_attention", fractions=(0.4, 1.0))
    # y = .45 - .40 + .15; 40 % of three positions are two.
    assert found.original.tolist() == pytest.approx([0.20])
    assert found.without[0].tolist() == pytest.approx([0.20, -0.25, 0.15, 0.0])
    assert found.alone[0].tolist() == pytest.approx([0.0, 0.45, 0.05, 0.20])
    assert found.comprehensiveness[0].tolist() == pytest.approx([0.05, 0.20])
    assert found.sufficiency[0].tolist() == pytest.approx([0.15, 0.0])
    assert found.aopc_comprehensiveness.tolist() == pytest.approx([0.125])
    assert found.aopc_sufficiency.tolist() == pytest.approx([0.075])
    assert found.deletion_area.tolist() == pytest.approx([(0.10 - 0.25 + 0.15) / 3])
    assert found.insertion_area.tolist() == pytest.approx([(0.45 + 0.05 + 0.10) / 3])
    assert found.log_odds.isnan().all()  # it is no probability


def test_a_faithful_order_is_better_than_its_reverse() -> None:
    model, inputs = planted.Sigmoid(), planted.faithful()[1]
    inputs = (inputs[0], inputs[1].abs(), inputs[2])  # every position supports the class
    for removal in ("mask_attention", "zero_embedding"):
        own = removal_curves(model, inputs, removal=removal)
        turned = removal_curves(model, inputs, removal=removal, explanation=-inputs[0])
        assert (own.comprehensiveness > turned.comprehensiveness).all()
        assert (own.sufficiency < turned.sufficiency).all()
        assert (own.log_odds > turned.log_odds).all()
        assert (own.deletion_area < turned.deletion_area).all()
        assert (own.insertion_area > turned.insertion_area).all()


def test_log_odds_do_not_saturate() -> None:
    weights = torch.tensor([[0.5, 0.5]])
    inputs = planted.whole(weights, torch.tensor([[200.0, 100.0]]))
    found = removal_curves(planted.Sigmoid(), inputs, removal="mask_attention", fractions=(0.5,))
    assert found.comprehensiveness.tolist() == [[0.0]]
    assert found.log_odds.tolist() == [[100.0]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=5),
    st.integers(0, 99),
    st.sampled_from(["mask_attention", "zero_embedding", "mean_embedding"]),
)
def test_what_holds_of_every_order(lengths: list[int], seed: int, removal: str) -> None:
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    weights = planted.rows(len(lengths), 8, seed=seed) * mask
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-9)
    scores = torch.randn(len(lengths), 8, generator=torch.Generator().manual_seed(seed)).double()
    found = removal_curves(
        planted.Sigmoid(), (weights, scores, mask), removal=removal, fractions=(0.3, 1.0)
    )
    some = torch.tensor(lengths) > (removal == "mean_embedding")
    assert (found.sufficiency[some, -1] == 0).all()  # the whole set is the input itself
    assert torch.equal(found.without[some, 0], found.original[some])
    last = found.alone[torch.arange(len(lengths)), found.length]
    assert torch.equal(last[some], found.original[some])
    empty = torch.tensor(lengths) == 0
    assert found.aopc_comprehensiveness[empty].isnan().all()
    assert ((found.deletion_area >= 0) & (found.deletion_area <= 1))[some].all()
    # nothing left is the same, whichever end it was reached from
    gone = found.without[torch.arange(len(lengths)), found.length]
    assert torch.equal(gone[some], found.alone[some, 0])


def values_of(result: RemovalCurves) -> dict[str, Tensor]:
    return {
        key: value
        for key, value in vars(result).items()
        if isinstance(value, Tensor)
        and value.is_floating_point()
        and key not in ("without", "alone")
    }


def agree(found: RemovalCurves, wanted: RemovalCurves) -> None:
    for key, value in values_of(found).items():
        torch.testing.assert_close(
            value, getattr(wanted, key), rtol=0, atol=1e-11, equal_nan=True, msg=key
        )


@pytest.mark.parametrize("removal", ["delete", "mask_attention_renormalize", "mean_embedding"])
def test_padding_batches_and_chunks_do_not_matter(case: Case, removal: str) -> None:
    whole = removal_curves(case.model, case.inputs, removal=removal)
    for side in case.sides:
        wider = case.pad(case.inputs, 3, side == "left")
        agree(removal_curves(case.model, wider, removal=removal), whole)
    parts = [
        removal_curves(case.model, case.take(rows), removal=removal) for rows in ([0, 1], [2, 3, 4])
    ]
    agree(RemovalCurves.concatenate(parts), whole)
    with memory_budget(1e-6):
        agree(removal_curves(case.model, case.inputs, removal=removal), whole)


def test_few_steps_are_points_of_the_whole_curve(text_case: Case) -> None:
    every = removal_curves(text_case.model, text_case.inputs)
    some = removal_curves(text_case.model, text_case.inputs, steps=3)
    none = removal_curves(text_case.model, text_case.inputs, steps=0)
    known = ~some.without.isnan()
    torch.testing.assert_close(some.without[known], every.without[known], rtol=0, atol=1e-12)
    assert 0 < known.sum() < (~every.without.isnan()).sum()
    assert none.deletion_area.isnan().all() and none.insertion_area.isnan().all()
    for each in (some, none):
        assert torch.equal(each.comprehensiveness.isnan(), every.comprehensiveness.isnan())
        torch.testing.assert_close(each.sufficiency, every.sufficiency, atol=1e-12, rtol=0)
    # Thirds of seven positions, but for the last: nothing left is no text.
    p = every.without[0, [0, 2, 5]].tolist()
    slow = (2 * (p[0] + p[1]) / 2 + 3 * (p[1] + p[2]) / 2) / 5
    assert float(some.deletion_area[0]) == pytest.approx(slow, abs=1e-12)


@given(st.integers(0, 12), st.integers(1, 15))
def test_steps_are_equal(length: int, steps: int) -> None:
    points = steps_of(steps, torch.tensor([length]), 12)[0]
    wanted = {math.floor(step * length / steps + 0.5) for step in range(steps + 1)}
    assert set(points.nonzero()[:, 0].tolist()) == wanted


def test_a_nan_inside_a_curve_makes_its_area_nan() -> None:
    """A weight of 1 leaves nothing to renormalise by, as long as any other is left."""
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]]).double()
    inputs = planted.whole(weights, torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2).double())
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2).double()
    found = removal_curves(
        *(planted.Linear(), inputs),
        explanation=scores,
        removal="mask_attention_renormalize",
    )
    assert found.without[0].isnan().tolist() == [False, False, False, True, True]
    assert found.alone[0].isnan().tolist() == [True, True, True, False, False]
    assert found.deletion_area.isnan().tolist() == [True, False]
    assert found.insertion_area.isnan().tolist() == [True, False]


def test_shares_are_rounded_up() -> None:
    counts = counts_of((0.01, 0.1, 0.2, 0.5, 1.0), torch.tensor([1, 5, 10, 30, 0]))
    assert counts.tolist() == [
        [1, 1, 1, 1, 1], [1, 1, 1, 3, 5], [1, 1, 2, 5, 10], [1, 3, 6, 15, 30], [1, 1, 1, 1, 1],
    ]  # fmt: skip
    assert 0.07 * 100 > 7 and counts_of((0.07,), torch.tensor([100])).tolist() == [[7]]


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=8))
def test_ranks_of_tied_scores(entries: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([[float(score) for score, _ in entries]])
    mask = torch.tensor([[inside for _, inside in entries]])
    scores[scores == -2] = -torch.inf
    ranks = ranks_of(scores, mask)[0].tolist()
    order = sorted(range(len(entries)), key=lambda at: (not entries[at][1], -scores[0, at], at))
    assert ranks == [order.index(at) for at in range(len(entries))]


def test_a_nan_leaves_its_row_undefined(text_case: Case) -> None:
    scores = torch.rand(text_case.size, text_case.width)
    scores[1, 1] = torch.nan
    scores[2, -1] = torch.nan  # padding: not looked at
    found = removal_curves(text_case.model, text_case.inputs, explanation=scores)
    assert found.aopc_sufficiency.isnan().tolist() == [False, True, False, False, False]
    summary = found.summary()
    assert summary.overall.undefined == 1 and summary.notes["instances without an area"] == 1
    assert found.explanation == "given scores"


def test_bad_arguments(text_case: Case) -> None:
    model, ids = text_case.model, text_case.inputs
    for bad, message in (
        ((), r"fractions must lie above 0 and at most at 1; got \(\)"),
        ((0.0, 0.5), r"fractions must lie above 0 .*got \(0\.0, 0\.5\)\. Use"),
        ((0.5, 0.1), r"fractions must ascend; got \(0\.5, 0\.1\)\. Sort"),
    ):
        with pytest.raises(ValueError, match=message):
            removal_curves(model, ids, fractions=bad)
    single = removal_curves(model, ids, fractions=tuple(np.float32([0.25, 0.5])))
    assert single.fractions == (0.25, 0.5)
    with pytest.raises(TypeError, match=r"fractions must be a sequence of numbers; got float"):
        removal_curves(model, ids, fractions=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must"):
        removal_curves(model, ids, steps=-1)
    with pytest.raises(ValueError, match="removal must be one of"):
        removal_curves(model, ids, removal="erase")
    with pytest.raises(AdapterError, match="mask_token_id"):
        removal_curves(model, ids, removal="mask_token")


def test_labels_need_a_target() -> None:
    class Labels(planted.Linear):
        output = "sigmoid"

        def replay(self, state: Tensor, attention: Any) -> Tensor:
            return super().replay(state, attention).expand(-1, -1, 2) * torch.tensor([1.0, -2.0])

    inputs = planted.faithful()[1]
    with pytest.raises(ValueError, match=r"target must name an output .* 2 outputs of kind 'sigm"):
        removal_curves(Labels(), inputs, removal="mask_attention")
    found = removal_curves(Labels(), inputs, removal="mask_attention", target=1)
    logits = -2 * (inputs[0] * inputs[1]).sum(-1)
    torch.testing.assert_close(found.original, logits.sigmoid())
    first = inputs[0].argmax(-1)
    fall = -2 * (inputs[0] * inputs[1]).gather(-1, first[:, None])[:, 0]
    torch.testing.assert_close(found.log_odds[:, 0], fall)
