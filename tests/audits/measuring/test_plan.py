"""What an audit is asked: everything wrong is found before the first batch."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faithattn import AttentionView, Plausible, Question, Score, mask_token
from faithattn.audits.measuring.metrics import METRICS, TESTS
from faithattn.audits.measuring.plan import Plan
from faithattn.metrics.scores.table import SCORES


def largest(question: Question) -> Tensor:
    return question.scores.amax(-1)


def smallest(question: Question) -> Tensor:
    return question.scores.amin(-1)


LARGEST = Score("largest", "largest score", True, compute=largest)


def names(plan: Plan) -> list[str]:
    return [each.metric for each in plan.asked]


def test_the_four_tests_are_the_default() -> None:
    plan = Plan.of()
    assert names(plan) == list(TESTS)
    assert plan.views == {"": None} and plan.seed == 0
    options = {each.metric: dict(each.options) for each in plan.asked}
    assert options["adversarial_attention"]["n_steps"] == 500
    assert options["loo_correlation"]["removal"] == "delete"
    assert Plan.of(removal="mask_token").asked[1].options["removal"] == "mask_token"
    both = Plan.of({"loo_correlation": {"removal": "resample"}}, removal="mask_token")
    assert both.asked[0].options["removal"] == "resample"


def test_metrics_are_names_scores_or_options() -> None:
    assert names(Plan.of("permutation_test")) == ["permutation_test"]
    assert names(Plan.of(LARGEST)) == ["largest"]
    assert names(Plan.of([LARGEST, "comprehensiveness"])) == ["largest", "comprehensiveness"]
    own = Plan.of(SCORES["permutation_test"])  # the score of a test is the test
    assert names(own) == ["permutation_test"] and own.asked[0].score is None
    assert {*METRICS} | {*SCORES} == {*names(Plan.of([*METRICS, *(SCORES.keys() - METRICS)]))}
    given = Plan.of({"erasure_to_flip": {"orders": ("attention", "optimal")}}, controls=False)
    keys = [name for name, _ in given.columns if name.startswith("erasure_to_flip.censored")]
    assert keys == ["erasure_to_flip.censored_attention", "erasure_to_flip.censored_optimal"]


def test_columns_are_known_before_anything_runs() -> None:
    views = {"first": AttentionView.cls(0), "last": AttentionView.cls()}
    plan = Plan.of([*TESTS, LARGEST], views)
    keys = dict(plan.columns)
    assert list(keys)[:5] == ["instance", "batch", "label", "cluster", "predicted"]
    for name in (
        "length@first",
        "gradient_correlation.random@last",
        "permutation_test.uniform@last",
        "gradient_loo.pvalue@first",
        "largest.value@last",
        "largest.random@last",
    ):
        assert name in keys
    assert keys["permutation_test.exact@first"] == "bool" and keys["length@last"] == "int64"
    assert plan.positions == tuple(
        f"{name}@{view}"
        for view in views
        for name in ("attention", "gradient", "leave_one_out", "adversary")
    )
    bare = Plan.of(["gradient_correlation"], views["first"], controls=False, keep_positions=False)
    assert [name for name, _ in bare.columns if "." in name] == [
        "gradient_correlation.statistic",
        "gradient_correlation.pvalue",
    ]
    assert bare.positions == ()


def test_a_run_is_prepared_for_all_that_comes() -> None:
    every = Plan.of({"permutation_test": {"n_permutations": 30}, "loo_correlation": {}})
    assert every.needs == (31, True, False, True, True)  # uniform attention is one, too
    assert Plan.of("permutation_test", controls=False).needs == (100, False, False, True, True)
    masked = {"loo_correlation": {"removal": "mask_attention"}}
    assert Plan.of(masked).needs == (16, False, False, True, True)
    given = {"gradient_correlation": {"detach_attention": False}}
    assert Plan.of(given).needs == (0, False, False, False, False)
    assert Plan.of("faithfulness_violation").needs == (0, True, True, True, True)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("permutation", "metrics must be among gradient_correlation, loo_correlation, .*token_f1"),
        ([3], "metrics must be among .* or Score objects; got 3"),
        ([], "metrics must hold at least one; got none"),
        (["permutation_test"] * 2, "metrics must be named once each; got 'permutation_test' twice"),
        ({"permutation_test": {"n": 5}}, "options of permutation_test must be among n_permutat"),
        ({"permutation_test": {"seed": 5}}, "among n_permutations; got 'seed'. Seed, view and"),
        ({"loo_correlation": {"groups": 1}}, "among removal, tie_tolerance; got 'groups'"),
        ({"permutation_test": {"n_permutations": 0}}, "n_permutations must be at least 1; got 0"),
        ({"adversarial_attention": {"epsilon": 0}}, "epsilon must be above 0 and finite; got 0"),
        ({"adversarial_attention": {"method": "fast"}}, "method must be one of auto"),
        ({"loo_correlation": {"removal": "cut"}}, "removal must be one of delete"),
        ({"gradient_correlation": {"tie_tolerance": -1}}, "tie_tolerance must be finite and not"),
        ({"single_weight_erasure": {"n_random": 0}}, "n_random must be at least 1; got 0"),
        ({"erasure_to_flip": {"orders": "best"}}, "orders must hold 'optimal' or names"),
        ({"erasure_to_flip": {"orders": [torch.ones(1, 2)]}}, "orders must be names in an audit"),
        ({"comprehensiveness": {"steps": 3}}, "comprehensiveness must be asked for without opti"),
        (
            {"adversarial_attention": {"constraints": Plausible(positions=torch.ones(3) > 0)}},
            r"constraints must not name positions.* got \(3,\)",
        ),
        (replace(LARGEST, name="permutation_test"), "must not give a score the name of a test"),
        (replace(LARGEST, name="a@b"), "metrics must be scores with a name without '@'"),
    ],
)
def test_what_is_wrong_is_found_at_once(metrics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.of(metrics)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": 3}, "metrics must be names, Score objects or a mapping .* got int"),
        ({"metrics": {"permutation_test": 5}}, "metrics must map names to options by name; got 5"),
        ({"metrics": {"gradient_correlation": {"detach_attention": 1}}}, "must be True or False"),
        ({"seed": 0.5}, r"seed must be a whole number; got 0\.5"),
        ({"seed": True}, "seed must be a whole number; got True"),
        ({"view": "cls"}, "view must be an AttentionView or None; got str"),
        ({"view": {"a": 3}}, "view must be an AttentionView or None; got int"),
        ({"removal": 3}, "removal must be a name or a function"),
    ],
)
def test_other_kinds_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Plan.of(**arguments)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({}, "view must map names to views, one at least; got none"),
        ({"": AttentionView.cls()}, "view must map names to views, one at least; got ''"),
        ({"a": None, 3: None}, "got 3"),
        (AttentionView(0, query=torch.tensor([1])), "view must be one for every batch"),
    ],
)
def test_views_that_cannot_be(view: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.of(view=view)


def test_the_manifest_holds_all_that_numbers_depend_on() -> None:
    given = {
        "permutation_test": {"n_permutations": np.int64(7)},
        "adversarial_attention": {"constraints": Plausible(max_change=0.5)},
        "loo_correlation": {"removal": mask_token(103), "tie_tolerance": (0, "auto")},
    }
    sites = [f"layer.{number}" for number in range(6)]
    plan = Plan.of(given, AttentionView(sites, heads=(0, 2), query="last"), 5)
    found = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert found["seed"] == 5
    assert found["metrics"]["permutation_test"]["options"] == {"n_permutations": 7}
    limits = found["metrics"]["adversarial_attention"]["options"]["constraints"]
    assert limits["kind"] == "Plausible" and limits["max_change"] == 0.5
    removal = found["metrics"]["loo_correlation"]["options"]
    assert removal["removal"]["token_id"] == 103 and removal["tie_tolerance"] == [0, "auto"]
    assert found["views"] == {
        "": {"site": sites, "heads": [0, 2], "query": "last", "feature": None}
    }


def told(score: Score) -> dict[str, Any]:
    values: dict[str, Any] = Plan.of([score]).to_dict()["metrics"]["largest"]["score"]
    json.dumps(values, allow_nan=False)
    return values


class Scaled:
    """A function that knows a number."""

    def __init__(self, factor: float) -> None:
        self.factor, self.lock, self._calls = factor, object(), 0

    def __call__(self, question: Question) -> Tensor:
        return largest(question) * self.factor

    def method(self, question: Question) -> Tensor:
        return self(question)


def scaled(question: Question, factor: Any = 1.0, by: Any = largest) -> Tensor:
    return by(question) * factor


def closed(factor: Any) -> Any:
    def inner(question: Question) -> Tensor:
        return inner(question) if factor is None else largest(question) * factor

    return inner


@pytest.mark.parametrize(
    "make",
    [
        closed,
        Scaled,
        lambda factor: Scaled(factor).method,
        lambda factor: partial(scaled, factor=factor),
        lambda factor: partial(partial(scaled), by=closed(factor)),
        lambda factor: closed(torch.tensor([factor], dtype=torch.bfloat16)),
        lambda factor: closed(np.array([factor])),
        lambda factor: closed({"factors": [factor, {"b", "a", "c"}]}),
    ],
)
def test_the_manifest_tells_scores_by_what_they_were_made_with(make: Any) -> None:
    """Where one source does another thing: a resumed audit must not mix them."""
    one, other = (told(replace(LARGEST, compute=make(factor))) for factor in (1.0, 2.0))
    assert one != other and one["source"] == other["source"]
    assert told(replace(LARGEST, compute=make(1.0))) == one  # no addresses in it


def test_the_manifest_tells_scores_by_their_defaults() -> None:
    def other(question: Question, factor: float = 1.0, by: Any = smallest) -> Tensor:
        return scaled(question, factor, by)

    found = told(replace(LARGEST, compute=other))["made_with"]
    assert found["factor"] == 1.0 and found["by"] == told(replace(LARGEST, compute=smallest))


def test_the_manifest_tells_scores_by_their_code() -> None:
    one, other = told(LARGEST), told(replace(LARGEST, compute=smallest))
    assert one["name"].endswith("test_plan.largest") and one["source"] != other["source"]
    assert len(one["source"]) == 64 and told(LARGEST) == one
    builtin = told(replace(LARGEST, compute=len))
    assert builtin == {"name": "builtins.len", "source": None}
