"""Assertions decide by the bound, tell two failures apart, and show the evidence."""

from __future__ import annotations

import math
import unittest
from typing import Any

import numpy as np
import pytest
import torch
from given_values import given, texts
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

from faithattn import gradient_correlation, permutation_test, planted
from faithattn import testing as faithful
from faithattn.audits.batch import Batch
from faithattn.testing.asserting import examine
from faithattn.testing.deciding import instances_to_decide
from faithattn.testing.gathering import gather

NORMAL = (0.4 + 0.2 * stats.norm.ppf((np.arange(60) + 0.5) / 60)).tolist()
NAN = math.nan


def found(values: Any, *, batches: Any = None, **limits: Any) -> Any:
    model, inputs = texts(len(values))
    return examine(given(values), model, batches or inputs, **limits)


def test_bounds_are_those_of_student() -> None:
    mean, error = np.mean(NORMAL), stats.sem(NORMAL)
    result = found(NORMAL, at_least=0, confidence=0.9)
    t = stats.t.ppf(0.9, 59)
    assert result.lower == pytest.approx(mean - t * error, abs=0.1 * t * error)
    assert result.upper == pytest.approx(mean + t * error, abs=0.1 * t * error)
    wide = stats.t.ppf(0.975, 59) * error
    overall = result.evidence.overall
    assert overall.low == pytest.approx(mean - wide, abs=0.1 * wide)
    assert overall.high == pytest.approx(mean + wide, abs=0.1 * wide)


# One-sided 95 % bounds of the mean of NORMAL are about .357 and .443.
@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ({"at_least": 0.34}, "passed"),
        ({"at_least": 0.37}, "cannot tell"),  # the mean is above it
        ({"at_least": 0.43}, "cannot tell"),  # the mean is below it
        ({"at_least": 0.46}, "below"),
        ({"at_most": 0.46}, "passed"),
        ({"at_most": 0.43}, "cannot tell"),
        ({"at_most": 0.34}, "above"),
        ({"at_least": 0.34, "at_most": 0.46}, "passed"),
        ({"at_least": 0.34, "at_most": 0.43}, "cannot tell"),
        ({"at_least": 0.1, "at_most": 0.34}, "above"),
    ],
)
def test_the_bound_decides(limits: dict[str, float], outcome: str) -> None:
    assert found(NORMAL, **limits).outcome == outcome


@draw(
    st.lists(st.integers(-20, 20), min_size=2, max_size=12),
    st.integers(-20, 20),
    st.sampled_from(["at_least", "at_most"]),
)
@settings(max_examples=25, deadline=None)
def test_outcome_follows_from_the_bounds(values: list[int], limit: int, side: str) -> None:
    result = found([float(each) for each in values], **{side: limit})
    kept = result.lower >= limit if side == "at_least" else result.upper <= limit
    missed = result.upper < limit if side == "at_least" else result.lower > limit
    word = "below" if side == "at_least" else "above"
    assert result.outcome == ("passed" if kept else word if missed else "cannot tell")
    assert result.passed is kept


def test_so_many_instances_decide_four_times_in_five() -> None:
    needed = instances_to_decide(40, 0.34, 0.34 - 1.645 * 0.3 / math.sqrt(40), 0.3, 0.95)
    assert needed is not None
    exact = ((1.645 + 0.8416) * 0.3 / 0.04) ** 2
    assert exact <= needed <= 1.1 * exact
    draws = np.random.default_rng(0).normal(0.34, 0.3, (2000, needed))
    lower = draws.mean(1) - 1.645 * draws.std(1, ddof=1) / math.sqrt(needed)
    assert (lower >= 0.3).mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("side", ["at_least", "at_most"])
def test_the_bound_on_the_side_of_the_limit_says_how_many(side: str) -> None:
    sign = 1 if side == "at_least" else -1
    values = [sign * each**3 for each in NORMAL]  # skewed, so that the bounds differ
    known = found(values, **{side: sign * 0.5})
    middle = known.evidence.overall.mean
    for bound in (known.lower, known.upper):
        limit = middle + (bound - middle) / 2
        asked = found(values, **{side: limit})
        assert asked.outcome == "cannot tell"
        assert asked.needed == instances_to_decide(len(values), middle, bound, limit, 0.95)


def test_nothing_is_known_of_one_instance() -> None:
    result = found([0.9], at_least=0.1)
    assert result.outcome == "cannot tell" and result.needed is None
    assert "no larger sample of this kind is sure to decide" in str(result)


def test_the_two_failures_have_texts_of_their_own() -> None:
    model, batches = texts(60)
    with pytest.raises(AssertionError) as clear:
        faithful.assert_metric(given(NORMAL), model, batches, at_least=0.46)
    assert str(clear.value).startswith("given: clearly below the limit: mean 0.400, bounds 0.35")
    with pytest.raises(AssertionError) as unsure:
        faithful.assert_metric(given(NORMAL), model, batches, at_least=0.37)
    needed = found(NORMAL, at_least=0.37).needed
    assert f"with this spread about {needed} instances would decide" in str(unsure.value)
    assert str(unsure.value).startswith("given: cannot tell: mean 0.400")
    assert "asked: mean number at least 0.37, by the one-sided 95 % bound" in str(unsure.value)


def test_what_to_do_where_the_sample_cannot_tell() -> None:
    model, batches = texts(60)
    with pytest.raises(unittest.SkipTest, match="cannot tell"):
        faithful.assert_metric(given(NORMAL), model, batches, at_least=0.37, undecided="skip")
    result = faithful.assert_metric(given(NORMAL), model, batches, at_least=0.37, undecided="pass")
    assert result.outcome == "cannot tell" and result.passed
    with pytest.raises(AssertionError):  # what is clear is not undecided
        faithful.assert_metric(given(NORMAL), model, batches, at_least=0.46, undecided="pass")


def test_undefined_instances_are_counted_and_limited() -> None:
    values = [0.5, 0.6, 0.7, NAN]
    result = found(values, at_least=0.1)
    assert result.outcome == "passed" and result.evidence.overall.undefined == 1
    strict = found(values, at_least=0.1, max_undefined=0.2)
    assert strict.outcome == "undefined" and not strict.passed
    assert "1 of 4 instances have no value, more than the share 0.2" in str(strict)
    assert found([NAN, NAN], at_least=0.1, max_undefined=1).outcome == "undefined"


def test_clusters_are_drawn_whole() -> None:
    of_each = [0.1, 0.3, 0.4, 0.2, 0.6, 0.5, 0.3, 0.2, 0.4, 0.7, 0.1, 0.5]
    _, inputs = texts(60)
    names = [f"document {place}" for place in range(12) for _ in range(5)]
    repeated = [value for value in of_each for _ in range(5)]
    batches = [Batch(inputs[0], clusters=names)]
    grouped = found(repeated, batches=batches, at_least=0)
    alone = found(of_each, at_least=0)
    assert grouped.lower == pytest.approx(alone.lower, abs=0.02)
    assert grouped.lower < found(repeated, at_least=0).lower - 0.03
    one_by_one = [Batch(inputs[0], clusters=list(range(60)))]  # as without clusters, or nearly
    single = found(repeated, batches=one_by_one, at_least=0)
    assert single.lower == pytest.approx(found(repeated, at_least=0).lower, abs=0.02)


def test_the_worst_instances_are_shown_with_their_words() -> None:
    _, inputs = texts(4, 4)
    words = [["word", str(row), *[""] * 7] for row in range(4)]
    batches = [Batch(inputs[0], tokens=words), Batch(inputs[1], labels=[0, 1, 0, 1])]
    values = [0.5, 0.1, 0.9, 0.3, 0.8, NAN, 0.05, 0.7]
    low = found(values, batches=batches, at_least=0.99)
    assert [each.number for each in low.worst] == [6, 1, 3, 0, 7]
    assert "  #1: 0.100, length 9, largest weight" in str(low) and "word 1" in str(low)
    assert "5 lowest instances:" in str(low)
    high = found(values, batches=batches, at_most=0.01)
    assert [each.number for each in high.worst] == [2, 4, 7, 0, 3]
    assert high.to_dict()["worst"][0]["tokens"][:2] == ["word", "2"]


def test_groups_hold_everybody_once() -> None:
    _, inputs = texts(4, 4)
    batches = [Batch(each, labels=[0, 1, 1, 1]) for each in inputs]
    groups = found(list(np.arange(8.0)), batches=batches, at_least=0).evidence.groups
    assert {name: each.n for name, each in groups["label"].items()} == {"0": 2, "1": 6}
    assert groups["label"]["0"].mean == 2.0  # instances 0 and 4
    assert sum(each.n for each in groups["max attention"].values()) == 8


def test_values_are_those_of_the_metric_itself() -> None:
    cases = [planted.independent(size=5, seed=seed) for seed in (0, 1)]
    asked: dict[str, Any] = {
        "gradient_correlation": {},
        "permutation_test": {"n_permutations": 7},
    }
    batches = [case.inputs for case in cases]
    result = gather(cases[0].model, batches, asked, view=None, seed=3, prepare=None)
    tau = [gradient_correlation(*case).statistic for case in cases]
    ids = (torch.arange(5), torch.arange(5, 10))
    tvd = [
        permutation_test(*case, seed=3, instances=rows, n_permutations=7).median_tvd
        for case, rows in zip(cases, ids, strict=True)
    ]
    for name, expected in (("gradient_correlation", tau), ("permutation_test", tvd)):
        values = np.asarray(result.headline_values(name))
        np.testing.assert_allclose(values, torch.cat(expected).numpy(), atol=1e-6)
    assert len(result) == 10 and result.provenance["batches"] == 2


def test_batches_are_prepared() -> None:
    model, inputs = texts(4)
    loader = [(inputs[0], torch.tensor([0, 1, 0, 1]))]
    result = examine(
        given([1.0, 2.0, 3.0, 4.0]),
        model,
        loader,
        at_least=0,
        prepare=lambda each: Batch(each[0], labels=each[1]),
    )
    assert set(result.evidence.groups["label"]) == {"0", "1"}


SIBLINGS = {
    faithful.assert_gradient_correlation: ("gradient_correlation", {}),
    faithful.assert_loo_correlation: ("loo_correlation", {"removal": "mask_attention"}),
    faithful.assert_permutation_effect: ("permutation_test", {"n_permutations": 5}),
    faithful.assert_adversarial_distance: ("adversarial_attention", {"epsilon": 0.05}),
    faithful.assert_single_weight_erasure: (
        "single_weight_erasure",
        {"n_random": 2, "at_least": -1},
    ),
    faithful.assert_erasure_to_flip: ("erasure_to_flip", {"n_random": 2}),
}


@pytest.mark.parametrize("function", SIBLINGS, ids=lambda each: each.__name__)
def test_siblings_ask_their_metric(function: Any) -> None:
    name, options = SIBLINGS[function]
    case = planted.indifferent(size=4)
    settings = {"at_least": 0, "undecided": "pass", **options}
    result = function(case.model, [case.inputs], **settings)
    assert result.evidence.metric == name and result.evidence.overall.n == 4
    with pytest.raises(ValueError, match=f"options of {name} must be among .*; got 'confidnce'"):
        function(case.model, [case.inputs], at_least=0, confidnce=0.9)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        ("tau", {"at_least": 0}, "metric must be one of gradient_correlation, .*; got 'tau'"),
        (len, {"at_least": 0}, "metric must be a name or a Score; got builtin"),
        ("gradient_correlation", {}, "at_least or at_most must be given; got neither"),
        ("gradient_correlation", {"at_least": 2}, r"at_least must be within -1\.\.1, .*; got 2"),
        ("adversarial_attention", {"at_most": 0.7}, r"at_most must be within 0\.\.0\.693"),
        ("gradient_correlation", {"at_least": "0.3"}, "at_least must be a number; got '0.3'"),
        ("gradient_correlation", {"at_least": NAN}, "at_least must be a number; got nan"),
        ("gradient_correlation", {"at_least": 0.3, "at_most": 0.2}, "must not be above at_most"),
        ("gradient_correlation", {"at_least": 0, "confidence": 95}, "confidence must be between"),
        ("gradient_correlation", {"at_least": 0, "undecided": "xfail"}, "undecided must be one of"),
        ("gradient_correlation", {"at_least": 0, "max_undefined": 2}, "max_undefined must be a sh"),
        ("sufficiency", {"at_least": 0, "steps": 3}, "sufficiency must be asked for without"),
    ],
)
def test_bad_arguments(metric: Any, arguments: dict[str, Any], message: str) -> None:
    model, batches = texts(2)
    with pytest.raises((TypeError, ValueError), match=message):
        faithful.assert_metric(metric, model, batches, **arguments)


def test_bad_batches() -> None:
    model, inputs = texts(2)
    for wrong in (torch.ones(2), Batch(inputs[0]), 3):
        with pytest.raises(TypeError, match="batches must be an iterable of batches; got"):
            examine(given([1.0]), model, wrong, at_least=0)
    used = iter(inputs)
    assert examine(given([1.0, 2.0]), model, used, at_least=0).evidence.overall.n == 2
    with pytest.raises(ValueError, match=r"got none\. Pass some; a generator that was used"):
        examine(given([1.0, 2.0]), model, used, at_least=0)
    with pytest.raises(ValueError, match="labels must have one entry an instance; got 1 for 2"):
        examine(given([1.0, 2.0]), model, [Batch(inputs[0], labels=[1])], at_least=0)
