"""Rationales: average precision and AUROC of scikit-learn, published span F1, all orders."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn import Plausibility, rationale_agreement, rationale_mask

NAN = math.nan
# Scores of few levels, marked positions, positions that take part.
ROW = st.lists(st.tuples(st.integers(-2, 4), st.booleans(), st.booleans()), min_size=2, max_size=9)


NAMES = ("average_precision", "auroc", "precision", "recall", "f1", "rationale_mass", "span_f1")


def values(result: Any) -> dict[str, float]:
    return {name: getattr(result, name).item() for name in NAMES}


def chances(result: Any) -> dict[str, float]:
    return {
        "average_precision": result.average_precision_chance.item(),
        "precision": result.density.item(),
        "recall": result.recall_chance.item(),
        "f1": result.f1_chance.item(),
    }


def one(scores: list[float], marked: list[bool], mask: list[bool] | None = None, **options: Any):
    row = torch.tensor([scores], dtype=torch.float64)
    real = None if mask is None else torch.tensor([mask])
    return rationale_agreement(row, torch.tensor([marked]), mask=real, **options)


def slow(scores: list[float], marked: list[bool], k: int | None) -> dict[str, float]:
    """Precision, recall, F1 and mass, position by position."""
    wanted = sum(marked)
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    chosen = order[: wanted if k is None else k]
    hits = sum(marked[at] for at in chosen)
    precision, recall = hits / len(chosen), hits / wanted
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    positive = [max(score, 0) for score in scores]
    mass = sum(score for score, flag in zip(positive, marked, strict=True) if flag)
    total = sum(positive)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "rationale_mass": mass / total if total else NAN,
    }


def slow_spans(chosen: list[set[int]], wanted: list[set[int]]) -> float:
    """The published macro F1 of one document, over sets of positions."""
    best = [max((len(a & b) / len(a | b) for b in wanted), default=0) for a in chosen]
    hits = sum(value >= 0.5 for value in best)
    precision, recall = hits / len(chosen), hits / len(wanted)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


@given(ROW, st.one_of(st.none(), st.integers(1, 4)))
@settings(max_examples=150, deadline=None)
def test_against_slow_loops_and_scikit_learn(
    row: list[tuple[int, bool, bool]], k: int | None
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, marked, mask = (list(each) for each in zip(*row, strict=True))
    garbage = [float(s) if real else NAN for s, real in zip(scores, mask, strict=True)]
    result = one(garbage, marked, mask, k=k)
    kept = [each for each in row if each[2]]
    found = values(result)
    assert int(result.outside) == sum(flag and not real for _, flag, real in row)
    if len(kept) < 2 or not any(each[1] for each in kept):
        assert all(math.isnan(value) for value in found.values())
        return
    real_scores = [float(each[0]) for each in kept]
    real_marked = [each[1] for each in kept]
    wanted = slow(real_scores, real_marked, k)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name
    precision = metrics.average_precision_score(real_marked, real_scores)
    assert found["average_precision"] == pytest.approx(precision)
    area = NAN if all(real_marked) else metrics.roc_auc_score(real_marked, real_scores)
    assert found["auroc"] == pytest.approx(area, nan_ok=True)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize(
    ("scores", "n_marked"),
    [([5, 4, 3, 2, 1], 2), ([3, 3, 2, 1, 1, 1], 3), ([1, 1, 1, 1], 1), ([4, 3, 2], 3)],
)
def test_chance_is_the_mean_over_all_places(
    scores: list[float], n_marked: int, k: int | None
) -> None:
    places = list(itertools.combinations(range(len(scores)), n_marked))
    found = [one(scores, [at in each for at in range(len(scores))], k=k) for each in places]
    for name, chance in chances(found[0]).items():
        mean = sum(values(result)[name] for result in found) / len(found)
        assert chance == pytest.approx(mean), name
    if n_marked < len(scores):
        assert sum(values(each)["auroc"] for each in found) / len(found) == pytest.approx(0.5)
    mass = sum(values(result)["rationale_mass"] for result in found) / len(found)
    assert float(found[0].density) == pytest.approx(mass)


def test_few_positions_have_more_average_precision_by_chance_than_are_marked() -> None:
    result = one([float(at) for at in range(10)], [at < 2 for at in range(10)])
    harmonic = sum(1 / at for at in range(1, 11)) / 10
    assert float(result.average_precision_chance) == pytest.approx(1 / 9 + 8 / 9 * harmonic)
    assert float(result.average_precision_chance) > 1.8 * float(result.density)


@given(
    st.lists(st.booleans(), min_size=2, max_size=12),
    st.lists(st.floats(0, 1), min_size=12, max_size=12, unique=True),
)
@settings(max_examples=100, deadline=None)
def test_span_f1_against_sets(marked: list[bool], scores: list[float]) -> None:
    kept = scores[: len(marked)]
    result = one(kept, marked, tie_tolerance=0)
    if not any(marked):
        assert math.isnan(result.span_f1)
        return
    order = sorted(range(len(kept)), key=lambda at: -kept[at])[: sum(marked)]
    chosen, wanted = ([[]], [[]])
    for at in range(len(marked)):
        for spans, flag in ((chosen, at in order), (wanted, marked[at])):
            spans[-1].append(at) if flag else spans.append([])
    sets = [[set(span) for span in spans if span] for spans in (chosen, wanted)]
    if any(len(a & b) / len(a | b) == 0.5 for a in sets[0] for b in sets[1]):
        return  # the published recall counts a span that finds two halves once
    assert float(result.span_f1) == pytest.approx(slow_spans(*sets))


def test_spans_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1, 0.6, 0.5, 0.0, 0.0]])
    two = rationale_agreement(scores, [[(0, 2), (2, 3), (4, 8)]], k=5)
    # Chosen are 0-2 and 4-5: the first is found (2 of 3), the second too (2 of 4), (2, 3) is not.
    precision, recall = 1.0, 2 / 3
    wanted = 2 * precision * recall / (precision + recall)
    assert float(two.span_f1) == pytest.approx(wanted)
    merged = rationale_agreement(scores, rationale_mask([[(0, 3), (4, 8)]], (1, 8)), k=5)
    assert float(merged.span_f1) == 1
    both = rationale_agreement(torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0]]), [[(0, 2), (2, 4)]])
    assert float(both.span_f1) == 1, "one span finds two halves, and counts once as chosen"
    halves = rationale_agreement(torch.tensor([[1.0, 1, 0, 1, 1, 0]]), [[(0, 5)]], k=4)
    assert float(halves.span_f1) == 0, "two of five each"


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.permutations(range(7)))
@settings(max_examples=60, deadline=None)
def test_positions_are_what_a_mask_of_them_is(places: list[int], order: list[int]) -> None:
    """Neighbouring positions are one span, in any order and however often they are named."""
    scores = torch.tensor([order]).double()
    listed = rationale_agreement(scores, [places])
    flags = rationale_agreement(scores, rationale_mask([places], (1, 7)))
    for name in NAMES:
        torch.testing.assert_close(getattr(listed, name), getattr(flags, name), equal_nan=True)


def test_scores_outside_the_mask_make_no_ties() -> None:
    scores, marked = torch.tensor([[0.3, 0.4, 0.0]]), [[1]]
    mask = torch.tensor([[True, True, False]])
    scores[0, 2] = 1e9
    result = rationale_agreement(scores, marked, mask=mask)
    assert (float(result.auroc), float(result.precision)) == (1, 1)


def test_what_is_no_position_leaves_no_gap() -> None:
    scores = torch.tensor([[0.0, 0.9, 0.5, 0.8, 0.1, 0.0]])
    mask = torch.tensor([[False, True, False, True, True, False]])
    result = rationale_agreement(scores, [[(0, 4)]], mask=mask)
    assert (float(result.span_f1), float(result.precision), int(result.outside)) == (1, 1, 2)
    with_flags = rationale_agreement(scores, rationale_mask([[(1, 2), (3, 4)]], (1, 6)), mask=mask)
    assert float(with_flags.span_f1) == 1
    assert "marked positions that cannot be explained" in result.summary().notes
    assert "marked positions that cannot be explained" not in with_flags.summary().notes


def test_near_ties() -> None:
    scores = torch.tensor([[0.4, 0.4000001, 0.2]])
    rationale = torch.tensor([[True, False, False]])
    merged, exact = (
        rationale_agreement(scores, rationale, tie_tolerance=each) for each in ("auto", 0)
    )
    assert float(merged.precision) == 1 and float(exact.precision) == 0
    assert float(merged.auroc) == 0.75 and float(exact.auroc) == 0.5


def test_words_of_a_model_of_sub_words() -> None:
    scores = torch.tensor([[0.1, 0.3, 0.3, 0.25, 0.05]])
    words = torch.tensor([[-1, 0, 0, 1, -1]])
    result = rationale_agreement(scores, [[0]], groups=words)
    assert float(result.precision) == 1 and result.grouped
    assert float(result.rationale_mass) == pytest.approx(0.6 / 0.85)
    assert float(result.density) == 0.5


def test_half_precision_and_a_batch() -> None:
    scores = torch.rand(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rationale = scores > 0.6
    whole = rationale_agreement(scores, rationale)
    parts = [rationale_agreement(scores[rows], rationale[rows]) for rows in ([0, 1], [2, 3, 4, 5])]
    joined = Plausibility.concatenate(parts)
    for name in NAMES:
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name), equal_nan=True)
    half = rationale_agreement(scores.half(), rationale)
    assert half.average_precision.dtype == torch.float32
    assert whole.records()[0]["max_attention"] is None and whole.predicted.tolist() == [-1] * 6
    assert whole.summary().overall.n == 6


BAD = {
    "rationale must be a boolean tensor or a list": "abc",
    "rationale must have a list for each instance, 2 in all; got 1": [[1]],
    "rationale must be a list of spans or positions for each instance; got int": [1, 2],
    "rationale must hold spans (start, end) or positions; got (1, 2, 3) in instance 1": [
        [],
        [(1, 2, 3)],
    ],
    "got (2, 2) in instance 0": [[(2, 2)], []],
    "got (2, 5) in instance 0": [[(2, 5)], []],
    "rationale must be at least 0; got -1": [[-1], []],
    "rationale must be a whole number; got 1.5": [[1.5], []],
    "rationale must be boolean, True at marked positions; got torch.int64": torch.ones(2, 4).long(),
    "rationale must have the shape of explanation": torch.ones(2, 3, dtype=torch.bool),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_rationales(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        rationale_agreement(torch.rand(2, 4), BAD[message])


def test_other_bad_arguments() -> None:
    scores, rationale = torch.rand(2, 4), [[0], [1]]
    with pytest.raises(ValueError, match=r"explanation must have shape \(batch, positions\)"):
        rationale_agreement(scores[0], rationale)
    with pytest.raises(TypeError, match="explanation must be floating point"):
        rationale_agreement(scores.long(), rationale)
    with pytest.raises(ValueError, match="k must be at least 1"):
        rationale_agreement(scores, rationale, k=0)
    with pytest.raises(TypeError, match="mask must be boolean"):
        rationale_agreement(scores, rationale, mask=scores)
    with pytest.raises(ValueError, match="tie_tolerance must be finite"):
        rationale_agreement(scores, rationale, tie_tolerance=-1)
