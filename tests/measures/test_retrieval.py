"""Average precision and discounted gain against slow loops, enumeration and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_cases import INF, LEVELS, NAN, assert_equal, by_row, draw_pair, garbage
from torch import Tensor

from faithattn._memory import memory_budget
from faithattn.measures.retrieval import average_precision, ndcg

ROW = st.lists(
    st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 4)), min_size=2, max_size=12
)


def slow_precision(scores: list[float], relevant: list[bool]) -> float:
    """Sums precision times the step of recall over every threshold, the highest first."""
    total, recall, wanted = 0.0, 0.0, sum(relevant)
    if not wanted or len(scores) < 2:
        return NAN
    for threshold in sorted(set(scores), reverse=True):
        chosen = [flag for score, flag in zip(scores, relevant, strict=True) if score >= threshold]
        total += sum(chosen) / len(chosen) * (sum(chosen) / wanted - recall)
        recall = sum(chosen) / wanted
    return total


def slow_ndcg(scores: list[float], relevance: list[float], k: int | None = None) -> float:
    """Places one position after the other; a tie has the mean of the places it takes."""
    if len(scores) < 2 or not any(relevance):
        return NAN
    discounts = [1 / math.log2(2 + i) if k is None or i < k else 0.0 for i in range(len(scores))]
    total = 0.0
    for score, gain in zip(scores, relevance, strict=True):
        first = sum(other > score for other in scores)
        shared = discounts[first : first + scores.count(score)]
        total += gain * sum(shared) / len(shared)
    ideal = zip(sorted(relevance, reverse=True), discounts, strict=True)
    return total / sum(gain * discount for gain, discount in ideal)


def precision_loop(a, b) -> float:
    return slow_precision(a.tolist(), b.tolist())


def ndcg_loop(k: int | None) -> Callable[..., float]:
    return lambda a, b: slow_ndcg(a.tolist(), b.tolist(), k)


def draw_case(length: int, levels: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, relevant positions, relevance with and without zeros, and a mask."""
    scores, relevance = draw_pair(length, levels, seed=length)
    relevance = relevance.abs()
    generator = torch.Generator().manual_seed(2)
    relevant = torch.rand(scores.shape, generator=generator) < 0.3
    relevance[::2] = relevance[::2].where(relevant[::2], 0)
    relevant[3], relevant[4], relevance[5] = False, True, 0
    mask = torch.rand(scores.shape, generator=generator) < 0.7
    mask[0], mask[1, 1:] = False, False
    return scores, relevant, relevance, mask


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 3, 8, 33, 100, 300])
def test_average_precision_against_every_threshold(length: int, levels: int | None) -> None:
    scores, relevant, _, mask = draw_case(length, levels)
    assert_equal(average_precision(scores, relevant), by_row(precision_loop, scores, relevant))
    expected = by_row(precision_loop, scores, relevant, mask)
    junk, _ = garbage(scores, scores, mask)
    found = average_precision(junk, relevant | ~mask, mask=mask)
    assert_equal(found, expected)
    assert expected.isnan().any() and (length == 2 or (expected < 1).any())


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 3, 8, 33, 100, 300])
def test_ndcg_against_a_loop_over_positions(length: int, levels: int | None) -> None:
    scores, _, relevance, mask = draw_case(length, levels)
    for k in (None, 1, 2, 7, length, length + 10):
        assert_equal(ndcg(scores, relevance, k=k), by_row(ndcg_loop(k), scores, relevance))
        expected = by_row(ndcg_loop(k), scores, relevance, mask)
        assert_equal(ndcg(*garbage(scores, relevance, mask), k=k, mask=mask), expected)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("length", [2, 8, 33, 100])
def test_both_agree_with_scikit_learn(length: int, levels: int | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, relevance, _ = draw_case(length, levels)
    some, gain = relevant.any(1), relevance.any(1)
    expected = by_row(lambda a, b: metrics.average_precision_score(b, a), scores, relevant)
    assert_equal(average_precision(scores, relevant)[some], expected[some])
    for k in (None, 1, 7):
        expected = by_row(
            lambda a, b, k=k: metrics.ndcg_score(b[None], a[None], k=k), scores, relevance
        )
        assert_equal(ndcg(scores, relevance, k=k)[gain], expected[gain])


@pytest.mark.parametrize("k", [None, 1, 3])
def test_tied_scores_have_the_mean_gain_of_their_orders(k: int | None) -> None:
    relevance = torch.tensor([3.0, 0.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    scores = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    orders = []
    for tied in itertools.permutations([1.0, 1.25, 1.5]):
        untied = scores.clone()
        untied[[0, 2, 3]] = torch.tensor(tied, dtype=torch.float64)
        orders.append(ndcg(untied, relevance, k=k))
    assert_equal(ndcg(scores, relevance, k=k), torch.stack(orders).mean())


def test_known_values() -> None:
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    relevant = torch.tensor([False, True, False, True])
    assert_equal(average_precision(scores, relevant), torch.tensor(0.5, dtype=torch.float64))
    assert average_precision(-scores, relevant) == pytest.approx((1 + 2 / 3) / 2, rel=1e-15)
    assert average_precision(torch.ones(4), relevant) == 0.5  # the share of relevant positions
    gain = ndcg(scores, torch.tensor([0.0, 1, 0, 0], dtype=torch.float64))
    assert gain == pytest.approx(1 / math.log2(3), rel=1e-15)


def test_the_best_order_is_one_and_never_more() -> None:
    relevance = draw_pair(301, None, seed=0)[0].abs()
    assert_equal(ndcg(relevance, relevance), torch.ones(len(relevance), dtype=torch.float64))
    assert (ndcg(relevance, relevance) <= 1).all()
    assert (average_precision(relevance, relevance > 0.7) == 1).all()


def test_undefined_rows_are_nan() -> None:
    scores = torch.tensor([[1.0, 2, NAN], [1, 2, 3], [1, 1, 1], [1, 2, 3]])
    relevance = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, NAN, 1]])
    assert ndcg(scores, relevance).isnan().tolist() == [True, True, False, True]
    expected = [True, True, False, False]
    assert average_precision(scores, relevance == 1).isnan().tolist() == expected
    mask = torch.tensor([[True, True, False]] * 4)
    assert ndcg(scores, relevance, mask=mask).isnan().tolist() == [False, True, True, True]
    for length in (0, 1):
        row = torch.ones(2, length)
        assert ndcg(row, row).isnan().tolist() == [True, True]
        assert average_precision(row, row > 0).isnan().tolist() == [True, True]
    mask = torch.tensor([[False] * 3, [True, False, False], [True, False, True], [False] * 3])
    expected = [True, True, False, True]
    assert ndcg(torch.rand(4, 3), torch.ones(4, 3), mask=mask).isnan().tolist() == expected
    found = average_precision(torch.rand(4, 3), mask, mask=mask)
    assert found.isnan().tolist() == expected


def test_infinite_scores_are_ordered() -> None:
    scores = torch.tensor([INF, 1.0, -INF, INF, 0.0], dtype=torch.float64)
    stand_in = scores.nan_to_num(posinf=9, neginf=-9)
    relevance = torch.tensor([1.0, 0.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    assert_equal(ndcg(scores, relevance), ndcg(stand_in, relevance))
    relevant = relevance > 1
    assert_equal(average_precision(scores, relevant), average_precision(stand_in, relevant))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_every_dtype_compares_its_own_values(dtype: torch.dtype) -> None:
    scores, relevant, relevance, _ = draw_case(40, None)
    scores, relevance = scores.to(dtype), relevance.to(dtype)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    for found, expected in (
        (average_precision(scores, relevant), average_precision(scores.double(), relevant)),
        (ndcg(scores, relevance, k=9), ndcg(scores.double(), relevance.double(), k=9)),
    ):
        assert found.dtype == result
        torch.testing.assert_close(found, expected.to(result), rtol=0, atol=0, equal_nan=True)


def test_leading_dimensions_and_gradients() -> None:
    scores, relevance = torch.rand(2, 3, 12, requires_grad=True), torch.rand(2, 3, 12)
    for found in (ndcg(scores, relevance), average_precision(scores, relevance > 0.5)):
        assert found.shape == (2, 3) and not found.requires_grad
    assert ndcg(scores, relevance)[1, 2] == ndcg(scores[1, 2], relevance[1, 2])
    assert ndcg(torch.rand(0, 7), torch.rand(0, 7)).shape == (0,)


@settings(deadline=None, max_examples=80)
@given(ROW, st.randoms(use_true_random=False), st.integers(1, 70))
def test_order_padding_and_monotone_transforms_change_nothing(row, random, padding) -> None:
    scores, relevant, relevance = (torch.tensor(column) for column in zip(*row, strict=True))
    scores, relevance = scores.double(), relevance.double()
    order = random.sample(range(len(row)), len(row))
    mask = torch.cat([relevant.new_zeros(padding), torch.ones_like(relevant)])
    padded = [torch.cat([part.new_zeros(padding), part]) for part in (scores, relevant, relevance)]
    junk, more = garbage(padded[0], padded[2], mask)
    expected = average_precision(scores, relevant)
    assert_equal(expected, average_precision(scores[order], relevant[order]))
    assert_equal(expected, average_precision(scores.exp(), relevant))
    assert_equal(expected, average_precision(junk, padded[1] | ~mask, mask=mask))
    for k in (None, 3):
        expected = ndcg(scores, relevance, k=k)
        assert_equal(expected, ndcg(scores[order], relevance[order], k=k))
        assert_equal(expected, ndcg(scores.exp(), relevance * 8, k=k))
        assert_equal(expected, ndcg(junk, more, k=k, mask=mask))


@pytest.mark.parametrize("length", [9, 50, 130])
def test_batch_size_and_memory_budget_change_nothing(length: int) -> None:
    scores, relevant, relevance, mask = draw_case(length, 40)
    precision = average_precision(scores, relevant, mask=mask)
    gain = ndcg(scores, relevance, k=6, mask=mask)
    assert_equal(precision[7], average_precision(scores[7], relevant[7], mask=mask[7]))
    assert_equal(gain[7], ndcg(scores[7], relevance[7], k=6, mask=mask[7]))
    with memory_budget(0.05):
        assert_equal(precision, average_precision(scores, relevant, mask=mask))
        assert_equal(gain, ndcg(scores, relevance, k=6, mask=mask))


X = torch.rand(2, 3)
FLAGS = X > 0.5


@pytest.mark.parametrize(
    ("arguments", "mask", "error", "message"),
    [
        ((X.long(), FLAGS), None, TypeError, "scores must be floating point; got torch.int64."),
        ((X, [[True]]), None, TypeError, "relevant must be a torch.Tensor; got list."),
        (
            (X, X),
            None,
            TypeError,
            "relevant must be boolean, True at relevant positions; got torch.float32.",
        ),
        ((X, FLAGS[0]), None, ValueError, r"relevant must have the shape of scores; got scores \("),
        ((X, FLAGS.to("meta")), None, ValueError, "relevant must be on the device of scores; got"),
        ((X, FLAGS), X, TypeError, "mask must be boolean, True at real positions; got torch.flo"),
        ((X, FLAGS), FLAGS[0], ValueError, r"mask must have the shape of scores; got scores \(2"),
    ],
)
def test_relevant_positions_that_do_not_match(arguments, mask, error, message) -> None:
    with pytest.raises(error, match=message):
        average_precision(*arguments, mask=mask)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, FLAGS), {}, TypeError, "relevance must be floating point; got torch.bool."),
        ((X, X[0]), {}, ValueError, r"relevance must have the shape of scores; got scores \(2, 3"),
        ((X, X), {"mask": X}, TypeError, "mask must be boolean, True at real positions; got tor"),
        ((X, X), {"k": 0}, ValueError, "k must be at least 1; got 0."),
        ((X, X), {"k": 2.0}, TypeError, "k must be a whole number; got 2.0."),
        ((X, X - 2), {}, ValueError, "relevance must be finite and not negative; got -"),
        ((X, X / 0), {}, ValueError, "relevance must be finite and not negative; got inf"),
    ],
)
def test_relevance_that_does_not_match(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        ndcg(*arguments, **options)


def test_relevance_is_only_looked_at_where_positions_are_real() -> None:
    relevance = torch.tensor([[1.0, 2.0, -1.0]])
    mask = torch.tensor([[True, True, False]])
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    assert ndcg(scores, relevance, mask=mask) == 1
    with pytest.raises(ValueError, match="got -1 at a position"):
        ndcg(scores, relevance, mask=~mask)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_nothing() -> None:
    scores, relevant, relevance, mask = draw_case(130, 40)
    there = [part.cuda() for part in (scores, relevant, relevance, mask)]
    precision = average_precision(there[0], there[1], mask=there[3])
    assert precision.device.type == "cuda"
    assert_equal(precision.cpu(), average_precision(scores, relevant, mask=mask))
    gain = ndcg(there[0], there[2], k=9, mask=there[3])
    assert_equal(gain.cpu(), ndcg(scores, relevance, k=9, mask=mask))
