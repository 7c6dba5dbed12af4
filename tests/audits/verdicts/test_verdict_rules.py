"""Each rule at its lines, beyond them and between them; a better interval is never judged worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faithattn.audits.evidence import Evidence
from faithattn.audits.verdicts.claims import CLAIMS
from faithattn.audits.verdicts.judging import judge, judge_all
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.metrics.scores.table import SCORES
from faithattn.statistics import Statistics

LINES = Thresholds()
ORDER = ("contradicts", "cannot tell", "supports")
TAUS = ("gradient_correlation", "loo_correlation")


def span(low: float, high: float, *, n: int = 200, undefined: int = 0) -> Statistics:
    mean = (low + high) / 2
    return Statistics(n, undefined, mean, 0.1, low, mean, high, low, high, None)


def evidence(metric: str, low: float, high: float, **more: Any) -> Evidence:
    return Evidence(metric, more.pop("view", ""), "quantity", True, span(low, high), **more)


SHUFFLED = evidence("permutation_test", 0.006, 0.1)


def conclusion(found: Evidence, beside: Sequence[Evidence] = (SHUFFLED,), **lines: Any) -> str:
    return judge(found, Thresholds(**lines), beside=beside).conclusion


def adversary(free: tuple[float, float], bound: tuple[float, float], **more: Any) -> Evidence:
    further = {"unhindered": span(*free), "bound": span(*bound)}
    return evidence("adversarial_attention", 0.3, 0.4, further=further, **more)


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        *(
            (metric, *case)
            for metric in TAUS
            for case in (
                (0.3, 0.9, "supports"),
                (0.299, 0.9, "cannot tell"),
                (-0.1, 0.1, "contradicts"),
                (-0.1, 0.101, "cannot tell"),
                (-0.9, -0.5, "contradicts"),
                (0.0, 0.9, "cannot tell"),
            )
        ),
        ("permutation_test", 0.05, 0.2, "supports"),
        ("permutation_test", 0.049, 0.2, "cannot tell"),
        ("permutation_test", 0.0, 0.005, "contradicts"),
        ("permutation_test", 0.0, 0.0051, "cannot tell"),
        ("single_weight_erasure", 0.005, 0.1, "supports"),
        ("single_weight_erasure", 0.0049, 0.1, "cannot tell"),
        ("single_weight_erasure", -0.1, -0.05, "cannot tell"),
    ],
)
def test_lines(metric: str, low: float, high: float, expected: str) -> None:
    assert conclusion(evidence(metric, low, high)) == expected


@pytest.mark.parametrize(
    ("free", "bound", "expected"),
    [
        ((0.75, 1.0), (0.9, 1.0), "contradicts"),
        ((0.74, 1.0), (0.9, 1.0), "cannot tell"),
        ((0.0, 0.1), (0.5, 0.75), "supports"),
        ((0.0, 0.1), (0.5, 0.751), "cannot tell"),
        # Far, but not as far as it goes: long texts have such adversaries whatever attention does.
        ((0.1, 0.3), (0.99, 0.999), "cannot tell"),
    ],
)
def test_lines_of_the_adversary(
    free: tuple[float, float], bound: tuple[float, float], expected: str
) -> None:
    assert conclusion(adversary(free, bound)) == expected
    # How far it went by itself decides nothing.
    assert conclusion(replace(adversary(free, bound), overall=span(0.69, 0.69))) == expected


def test_an_adversary_nobody_measured_by_what_is_possible() -> None:
    for missing in ({}, {"bound": span(0, 0.1)}, {"unhindered": span(0.9, 1)}):
        assert conclusion(evidence("adversarial_attention", 0.6, 0.69, further=missing)) == (
            "cannot tell"
        )


def test_thresholds_move_the_lines() -> None:
    assert conclusion(evidence("loo_correlation", 0.3, 0.4), least_tau=0.5) == "cannot tell"
    assert conclusion(evidence("loo_correlation", 0, 0.15), most_unrelated_tau=0.2) == "contradicts"
    shuffled = evidence("permutation_test", 0.02, 0.03)
    assert conclusion(shuffled, least_change=0.02) == "supports"
    assert conclusion(shuffled, most_idle_change=0.03) == "contradicts"
    erased = evidence("single_weight_erasure", 0.1, 0.2)
    assert conclusion(erased, least_top_effect=0.15) == "cannot tell"
    assert conclusion(adversary((0.6, 0.9), (1, 1)), least_unhindered=0.6) == "contradicts"
    assert conclusion(adversary((0, 0.1), (0.6, 0.9)), most_reach=0.9) == "supports"


@pytest.mark.parametrize("metric", CLAIMS)
def test_too_few_or_too_many_undefined(metric: str) -> None:
    def found(n: int, undefined: int) -> tuple[str, str]:
        low, high = (0.9, 0.95)
        statistics = span(low, high, n=n, undefined=undefined)
        further = {"unhindered": statistics, "bound": statistics}
        given = Evidence(metric, "", "quantity", True, statistics, further=further, failed=3)
        verdict = judge(given, LINES, beside=(SHUFFLED,))
        return verdict.conclusion, verdict.because

    decided = "contradicts" if metric == "adversarial_attention" else "supports"
    assert found(10, 0)[0] == decided
    assert found(12, 3)[0] == found(10, 1)[0] == "cannot tell"
    assert found(12, 2)[0] == decided
    assert found(200, 50)[0] == decided
    assert found(200, 51)[0] == "cannot tell"
    assert (
        "only 9 of 10 instances have a value, fewer than 10 (3 of them failed)" in found(10, 1)[1]
    )
    assert "51 of 200 instances have no value, more than 25 %" in found(200, 51)[1]


def test_without_an_interval() -> None:
    nan = math.nan
    for metric in (*TAUS, "permutation_test", "single_weight_erasure"):
        verdict = judge(evidence(metric, nan, nan), LINES, beside=(SHUFFLED,))
        assert (verdict.conclusion, verdict.because) == (
            "cannot tell",
            "there is no interval of the mean",
        )


@pytest.mark.parametrize("metric", TAUS)
def test_what_else_agreement_may_come_from(metric: str) -> None:
    high = evidence(metric, 0.4, 0.5)
    assert conclusion(high) == "supports"
    assert conclusion(replace(high, null=(-0.39, 0.39))) == "supports"
    assert conclusion(replace(high, null=(-0.4, 0.4))) == "cannot tell"
    assert conclusion(replace(high, controls={"random": span(-0.1, 0.39)})) == "supports"
    assert conclusion(replace(high, controls={"random": span(-0.1, 0.4)})) == "cannot tell"


@pytest.mark.parametrize("metric", TAUS)
def test_low_agreement_counts_only_below_a_ceiling(metric: str) -> None:
    low = evidence(metric, -0.05, 0.05)
    assert conclusion(replace(low, ceiling=span(0.3, 0.4))) == "contradicts"
    assert conclusion(replace(low, ceiling=span(0.29, 0.4))) == "cannot tell"
    assert conclusion(replace(low, ceiling=span(math.nan, math.nan))) == "cannot tell"
    # A poor ceiling does not spoil agreement that is there.
    assert conclusion(evidence(metric, 0.4, 0.5, ceiling=span(0.1, 0.2))) == "supports"


def test_gradients_count_only_where_shuffling_changes_the_output() -> None:
    high = evidence("gradient_correlation", 0.9, 1.0)
    assert conclusion(high, beside=()) == "cannot tell"
    assert conclusion(high, beside=(evidence("permutation_test", 0.0051, 0.1),)) == "supports"
    assert conclusion(high, beside=(evidence("permutation_test", 0.005, 0.1),)) == "cannot tell"
    assert conclusion(high, beside=(evidence("permutation_test", 0.0, 1e-9),)) == "cannot tell"
    few = replace(SHUFFLED, overall=span(0.1, 0.2, n=9))
    assert conclusion(high, beside=(few,)) == "cannot tell"
    elsewhere = replace(SHUFFLED, view="layer 2")
    assert conclusion(high, beside=(elsewhere,)) == "cannot tell"
    assert conclusion(replace(high, view="layer 2"), beside=(elsewhere,)) == "supports"
    # Deleting words does not contain the weight.
    assert conclusion(evidence("loo_correlation", 0.9, 1.0), beside=()) == "supports"
    low = evidence("gradient_correlation", 0.0, 0.05)
    assert conclusion(low, beside=()) == "contradicts"


@pytest.mark.parametrize("removal", ["mask_attention", "mask_attention_renormalize"])
def test_weights_set_to_zero_ask_attention_about_itself(removal: str) -> None:
    for low, high in ((0.9, 1.0), (0.0, 0.05)):
        found = evidence("loo_correlation", low, high, settings={"removal": removal})
        assert conclusion(found) == "cannot tell"
        assert "contains the weight" in judge(found, LINES).because
    found = evidence("loo_correlation", 0.9, 1.0, settings={"removal": "zero_embedding"})
    assert conclusion(found) == "supports"


def test_regression_needs_a_unit() -> None:
    identity = {"settings": {"output": "identity"}}
    shuffled = evidence("permutation_test", 0.06, 0.2, **identity)
    idle = evidence("permutation_test", 0.0, 0.02, **identity)
    erased = evidence("single_weight_erasure", 0.02, 0.2, **identity)
    far = adversary((0.9, 1), (1, 1), **identity)
    tau = evidence("gradient_correlation", 0.9, 1.0)
    for each in (shuffled, idle, erased, far):
        assert conclusion(each) == "cannot tell"
        assert "regression_unit" in judge(each, LINES).because
    assert conclusion(tau, beside=(shuffled,)) == "cannot tell"
    assert conclusion(shuffled, regression_unit=1) == "supports"
    assert conclusion(shuffled, regression_unit=2) == "cannot tell"
    assert conclusion(idle, regression_unit=4) == "contradicts"
    assert conclusion(idle, regression_unit=3.9) == "cannot tell"
    assert conclusion(erased, regression_unit=4) == "supports"
    assert conclusion(erased, regression_unit=4.1) == "cannot tell"
    assert conclusion(far, regression_unit=1) == "contradicts"
    assert conclusion(tau, beside=(shuffled,), regression_unit=11) == "supports"
    assert conclusion(tau, beside=(shuffled,), regression_unit=12) == "cannot tell"


@pytest.mark.parametrize("metric", [name for name in SCORES if name not in CLAIMS] + ["own"])
def test_metrics_without_a_rule_decide_nothing(metric: str) -> None:
    for low, high in ((0.99, 1.0), (-1.0, -0.99)):
        verdict = judge(evidence(metric, low, high), LINES, beside=(SHUFFLED,))
        assert verdict.conclusion == "cannot tell"
    if metric == "own":
        assert "No rule was calibrated" in verdict.rule
    elif SCORES[metric].kind == "plausibility":
        assert "what people point at" in verdict.rule
    else:
        assert verdict.rule == SCORES[metric].caution
    assert "decides nothing" in verdict.because


@pytest.mark.parametrize("metric", [name for name in CLAIMS if name != "adversarial_attention"])
@given(
    ends=st.tuples(*[st.floats(-1, 1)] * 2).map(sorted),
    better=st.tuples(*[st.floats(-1, 1)] * 2).map(sorted),
    null=st.floats(0, 1),
    random=st.floats(0, 1),
    ceiling=st.floats(-1, 1),
)
def test_a_better_interval_is_never_judged_worse(
    metric: str, ends: list[float], better: list[float], null: float, random: float, ceiling: float
) -> None:
    more = {
        "null": (-null, null),
        "controls": {"random": span(-random, random)},
        "ceiling": span(ceiling, 1),
    }
    worse = evidence(metric, *map(min, zip(ends, better, strict=True)), **more)
    upper = evidence(metric, *map(max, zip(ends, better, strict=True)), **more)
    assert ORDER.index(conclusion(worse)) <= ORDER.index(conclusion(upper))


shares = st.tuples(*[st.floats(0, 1)] * 2).map(sorted)


@given(free=shares, freer=shares, bound=shares, farther=shares)
def test_a_more_hindered_adversary_is_never_judged_worse(
    free: list[float], freer: list[float], bound: list[float], farther: list[float]
) -> None:
    pairs = ((free, freer), (bound, farther))
    hindered, unhindered = (
        adversary(*[tuple(map(pick, zip(*pair, strict=True))) for pair in pairs])  # type: ignore[arg-type]
        for pick in (min, max)
    )
    assert ORDER.index(conclusion(unhindered)) <= ORDER.index(conclusion(hindered))


def test_the_rule_names_its_question_and_its_lines() -> None:
    lines = Thresholds(
        least_tau=0.41,
        most_unrelated_tau=0.12,
        least_change=0.071,
        most_idle_change=0.0061,
        least_top_effect=0.0083,
        least_unhindered=0.81,
        most_reach=0.62,
        least_instances=17,
        most_undefined=0.15,
    )
    named = {
        "permutation_test": (".071", ".0061"),
        "gradient_correlation": (".41", ".12", ".0061"),
        "loo_correlation": (".41", ".12"),
        "adversarial_attention": (".81", ".62"),
        "single_weight_erasure": (".0083", "Never contradicts"),
    }
    assert named.keys() == CLAIMS.keys()
    for metric, numbers in named.items():
        rule = judge(evidence(metric, 0, 1), lines).rule
        assert rule.startswith(f"Asks: {CLAIMS[metric].question} ")
        for number in (*numbers, "fewer than 17", "15 %"):
            assert number in rule, (metric, number)


def test_the_sample_says_what_it_would_show() -> None:
    found = evidence("permutation_test", 0.01, 0.02, detectable=0.013)
    assert judge(found, LINES).because == (
        "mean output change .015 (95 % interval .01 to .02); the sample would show a difference of "
        ".013"
    )


def test_all_are_judged_beside_each_other() -> None:
    high = evidence("gradient_correlation", 0.9, 1.0)
    idle = evidence("permutation_test", 0.0, 0.0)
    assert [each.conclusion for each in judge_all([high, SHUFFLED], LINES)] == [
        "supports",
        "cannot tell",
    ]
    assert [each.conclusion for each in judge_all([high, idle], LINES)] == [
        "cannot tell",
        "contradicts",
    ]


@pytest.mark.parametrize(("clusters", "said"), [(2, "only 2 clusters"), (1, "only 1 cluster,")])
def test_few_clusters_decide_nothing(clusters: int, said: str) -> None:
    few = evidence("permutation_test", 0.0, 0.0, clusters=clusters)
    enough = evidence("permutation_test", 0.0, 0.0, clusters=10)
    assert judge(enough, Thresholds()).conclusion == "contradicts"
    found = judge(few, Thresholds())
    assert found.conclusion == "cannot tell" and said in found.because
    assert judge(few, Thresholds(least_instances=clusters + 1)).conclusion == "cannot tell"
    assert judge(enough, Thresholds(least_instances=11)).conclusion == "cannot tell"
