"""compare_explanations: every cell is what its metric gives alone, and failures stay in theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cases
import planted
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor

from faithattn import (
    Comparison,
    Question,
    Score,
    adversarial_attention,
    compare_explanations,
    erasure_to_flip,
    faithfulness_violation,
    gradient_correlation,
    gradient_importance,
    leave_one_out_importance,
    loo_correlation,
    permutation_test,
    polarity_agreement,
    rank_correlation,
    rationale_mask,
    removal_curves,
    single_weight_erasure,
)
from faithattn.statistics import describe

TAUS = ["gradient_correlation", "loo_correlation"]
ATTENTION = ["permutation_test", "adversarial_attention"]


def first(model: Any, inputs: Any) -> Tensor:
    """An explanation of one's own: the first position of each row."""
    mask = model.run(inputs).mask
    return (mask.cumsum(1) == 1).double() * mask


def test_cells_of_the_attention_are_what_the_metrics_give_alone() -> None:
    case = cases.make_case("text-bilstm-additive")
    erasure = ["single_weight_erasure", "erasure_to_flip"]
    signs = ["faithfulness_violation", "polarity_agreement"]
    found = compare_explanations(
        case.model, case.inputs, metrics=[*TAUS, *ATTENTION, *erasure, *signs], seed=3
    )
    flips = erasure_to_flip(case.model, case.inputs, orders="attention")
    assert flips.fraction.isnan().any() and not flips.censored.isnan().any()
    alone = {
        "gradient_correlation": gradient_correlation(case.model, case.inputs).statistic,
        "loo_correlation": loo_correlation(case.model, case.inputs).statistic,
        "permutation_test": permutation_test(case.model, case.inputs, seed=3).median_tvd,
        "adversarial_attention": adversarial_attention(
            case.model, case.inputs, n_adversaries=1, seed=3
        ).max_jsd,
        "single_weight_erasure": single_weight_erasure(
            case.model, case.inputs, n_random=None
        ).delta_change,
        "erasure_to_flip": flips.censored[:, 0],
        "faithfulness_violation": faithfulness_violation(case.model, case.inputs).violated,
        "polarity_agreement": polarity_agreement(case.model, case.inputs).weighted,
    }
    for name, values in alone.items():
        torch.testing.assert_close(
            found.values["attention", name], values, equal_nan=True, rtol=0, atol=1e-12
        )
        if name != "faithfulness_violation":  # a share has another interval
            assert found.statistics("attention", name) == describe(values.numpy())


def test_near_ties_are_ties_as_in_the_metric_alone() -> None:
    """Repeated words, whose effects differ by the noise of single precision."""
    model = cases.make_text("average").float()
    ids = torch.tensor([[2, 5, 6, 5, 7, 6, 8, 5, 3], [2, 9, 9, 4, 9, 4, 7, 4, 3]])
    found = compare_explanations(model, ids, metrics=["loo_correlation"])
    alone = loo_correlation(model, ids)
    assert torch.equal(found.values["attention", "loo_correlation"], alone.statistic)
    exact = loo_correlation(model, ids, tie_tolerance=0).statistic
    assert not torch.equal(exact, alone.statistic)


def test_each_metric_points_the_way_it_says() -> None:
    """What positions do, against the same with the opposite sign."""
    case = cases.make_case("text-bilstm-additive")
    effects = leave_one_out_importance(case.model, case.inputs, signed=True)
    found = compare_explanations(
        case.model, case.inputs, explanations={"true": effects, "false": -effects}
    )
    seen = set()
    blind = {"gradient_correlation", "loo_correlation", "infidelity"}  # to the sign
    for column in found.columns:
        if ("true", column.name) in found.values and column.name not in blind:
            gain = found.difference("true", column.name, reference="false").mean
            assert (gain > 0) == column.larger_is_faithful and gain != 0, column.name
            seen.add(column.name)
    assert len(seen) >= 9


def test_scores_and_functions_of_ones_own_are_judged_alike() -> None:
    case = cases.make_case("bag")
    importance = leave_one_out_importance(case.model, case.inputs)
    given = {"function": first, "scores": importance, "flat": torch.ones(importance.shape)}
    found = compare_explanations(case.model, case.inputs, explanations=given, metrics=TAUS)
    gradient = gradient_importance(case.model, case.inputs)
    mask = case.inputs["mask"]
    for name, scores in {"function": first(case.model, case.inputs), "scores": importance}.items():
        expected = rank_correlation(
            scores, gradient.double(), mask=mask, tie_tolerance=("auto", "auto")
        )
        torch.testing.assert_close(
            found.values[name, "gradient_correlation"], expected.statistic, equal_nan=True
        )
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(found.values["scores", "loo_correlation"], ones)
    assert found.statistics("flat", "loo_correlation").undefined == found.size == 5


def test_what_does_not_depend_on_the_explanation_is_computed_once() -> None:
    runs = []

    class Counting(planted.Bag):
        def run(self, inputs: Any, **overrides: Any) -> Any:
            runs.append(len(inputs["mask"]))
            return super().run(inputs, **overrides)

    _, inputs = Counting(), cases.bags()
    noise = torch.rand(inputs["mask"].shape, generator=torch.Generator().manual_seed(0))
    spent = []
    for count in (1, 5):
        runs.clear()
        given = {str(each): noise * each for each in range(1, count + 1)}
        compare_explanations(Counting(), inputs, explanations=given, metrics=TAUS)
        spent.append(len(runs))
    assert spent[0] == spent[1] > 0


def broken(model: Any, inputs: Any) -> Tensor:
    raise RuntimeError("no hook\nfor LSTM")


def test_a_failure_gives_its_reason_and_leaves_the_rest() -> None:
    case = cases.make_case("bag")
    given = {"attention": "attention", "broken": broken, "short": torch.ones(2, 2)}
    failing = Score("failing", "always fails", True, compute=lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    found = compare_explanations(
        case.model, case.inputs, explanations=given, metrics=[*TAUS, failing, *ATTENTION]
    )
    assert set(found.values) == {("attention", name) for name in [*TAUS, *ATTENTION]}
    assert found.reasons["broken", "loo_correlation"] == "RuntimeError: no hook for LSTM"
    assert "one score a position" in found.reasons["short", "loo_correlation"]
    assert found.reasons["attention", "failing"] == "ZeroDivisionError: division by zero"
    text = str(found)
    assert "no value for broken: RuntimeError: no hook for LSTM" in text
    assert re.search(r"^broken +failed +failed", text, re.MULTILINE)
    with pytest.raises(KeyError, match="no hook"):
        found.statistics("broken", "loo_correlation")


def test_what_changes_the_attention_says_nothing_of_other_scores() -> None:
    case = cases.make_case("bag")
    given = {"mine": first, "weights": "attention"}
    found = compare_explanations(case.model, case.inputs, explanations=given, metrics=ATTENTION)
    assert set(found.values) == {("weights", name) for name in ATTENTION}
    assert "says nothing of other scores" in found.reasons["mine", "permutation_test"]
    assert not found.failures


@pytest.mark.parametrize("name", ["bag", "text-bilstm-additive"])
def test_batches_are_joined(name: str) -> None:
    case = cases.make_case(name)
    whole = compare_explanations(case.model, case.inputs, metrics=[*TAUS, *ATTENTION])
    parts = [
        compare_explanations(
            case.model,
            case.take(rows),
            metrics=[*TAUS, *ATTENTION],
            instances=torch.tensor(rows),
        )
        for rows in ([0, 1], [2, 3, 4])
    ]
    joined = Comparison.concatenate(parts)
    assert joined.size == whole.size
    for cell, values in whole.values.items():
        torch.testing.assert_close(joined.values[cell], values, equal_nan=True)
    with pytest.raises(ValueError, match="removal 'delete' and 'zero_embedding'"):
        other = compare_explanations(
            case.model, case.inputs, metrics=[*TAUS, *ATTENTION], removal="zero_embedding"
        )
        Comparison.concatenate([whole, other])
    with pytest.raises(ValueError, match="comparisons must be a list"):
        Comparison.concatenate([])


def test_a_batch_in_which_all_fails_counts_as_undefined() -> None:
    case = cases.make_case("bag")

    def no_two(model: Any, inputs: Any) -> Tensor:
        if len(inputs["mask"]) == 2:
            raise RuntimeError("two are too few")
        return first(model, inputs)

    parts = [
        compare_explanations(
            case.model, case.take(rows), explanations={"mine": no_two}, metrics=TAUS[1:]
        )
        for rows in ([0, 1], [2, 3, 4])
    ]
    assert [part.size for part in parts] == [2, 3] and "2 instances" in str(parts[0])
    for order in (parts, parts[::-1]):
        joined = Comparison.concatenate(order)
        found = joined.statistics("mine", "loo_correlation")
        assert (joined.size, found.n, found.undefined) == (5, 5, 2)
    assert not Comparison.concatenate(parts[:1]).values


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (torch.ones(3), r"shape \(5,\), one an instance; got \(3,\)"),
        (torch.ones(5, 2), r"got \(5, 2\)"),
        (1.0, "must be a torch.Tensor; got float"),
    ],
)
def test_a_metric_must_give_one_number_an_instance(values: Any, reason: str) -> None:
    case = cases.make_case("bag")
    odd = Score("odd", "of another shape", True, compute=lambda _: values)
    found = compare_explanations(
        case.model, case.inputs, explanations=["attention"], metrics=[odd, *TAUS]
    )
    assert set(found.values) == {("attention", name) for name in TAUS}
    assert re.search(reason, found.reasons["attention", "odd"])


def test_differences_are_paired() -> None:
    case = cases.make_case("bag")
    noise = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    given = {"attention": "attention", "noise": noise}
    found = compare_explanations(case.model, case.inputs, explanations=given, metrics=TAUS)
    apart = found.difference("noise", "loo_correlation", reference="attention")
    values = [found.values[name, "loo_correlation"].numpy() for name in ("noise", "attention")]
    assert apart == describe(values[0] - values[1])


def test_a_share_has_the_interval_of_its_metric() -> None:
    case = cases.make_case("text-bilstm-additive")
    effects = leave_one_out_importance(case.model, case.inputs, signed=True)
    given = {"right": effects, "attention": "attention"}
    found = compare_explanations(
        case.model, case.inputs, explanations=given, metrics=["faithfulness_violation"]
    )
    for name, scores in given.items():
        alone = faithfulness_violation(case.model, case.inputs, explanation=scores).summary()
        cell = found.statistics(name, "faithfulness_violation")
        assert (cell.low, cell.high) == (alone.notes["Wilson low"], alone.notes["Wilson high"])
        assert cell.mean == alone.overall.mean
    assert found.statistics("right", "faithfulness_violation").high > 0.3, "none of five"


def test_wide_numbers_stay_apart() -> None:
    case = cases.make_case("bag")
    wide = [
        Score(f"wide {n}", "large", True, compute=lambda _: -1e6 * torch.arange(5).double())
        for n in range(2)
    ]
    found = compare_explanations(case.model, case.inputs, explanations=["attention"], metrics=wide)
    text = str(found)
    assert len(re.findall(r" -2000000\.000 \[", text)) == 2


def test_text_page_and_figure(tmp_path: Path) -> None:
    case = cases.make_case("bag")
    given = {"attention": "attention", "first": first, "broken": broken}
    caution = Score(
        "doubtful", "ones", True, caution="It is always 1.", compute=lambda _: torch.ones(5)
    )
    found = compare_explanations(
        case.model, case.inputs, explanations=given, metrics=[*TAUS, caution]
    )
    page = found.markdown()
    assert "| attention | " in page and "| broken | failed | failed | failed |" in page
    assert "To be read with care: doubtful. It is always 1." in page
    assert "doubtful +" in page and "| 1.000 |" in page and "1.000 [1.000, 1.000]" in str(found)
    listed = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(listed["cells"]) == 9
    assert set(listed["cautions"]) == {*TAUS, "doubtful"}
    assert listed["cautions"]["doubtful"] == "It is always 1."
    assert listed["removal"] == "delete" and listed["seconds"]["broken"] >= 0
    assert set(listed["metric_seconds"]) == {*TAUS, "doubtful"}
    pixels = imread(found.draw(tmp_path / "new" / "comparison.png"))
    assert pixels.shape[1] > 600 and pixels[..., :3].std() > 0.01


def test_marks_say_what_differs_from_the_reference() -> None:
    values = torch.arange(20.0)
    given = {"zero": 0.0, "one": 1.0, "same": 0.0, "noisy": 0.0}

    def compute(question: Question) -> Tensor:
        noise = torch.linspace(-3, 3, 20)[torch.randperm(20, generator=torch.manual_seed(0))]
        return values + question.explanation[0, 0] + noise * (question.explanation[0, 1] > 0)

    inputs = cases.bags((4,) * 20)
    explanations = {name: torch.full((20, 4), start) for name, start in given.items()}
    explanations["noisy"][:, 1] = 1
    up, down = (Score(name, name, name == "up", compute=compute) for name in ("up", "down"))
    found = compare_explanations(
        planted.Bag(), inputs, explanations=explanations, metrics=[up, down]
    )
    page = found.markdown(reference="zero")
    assert "| zero | 9.500 | 9.500 |" in page and "| same | 9.500 | 9.500 |" in page
    assert (
        "| one | 10.500 \N{BLACK UP-POINTING TRIANGLE} | 10.500 \N{BLACK DOWN-POINTING TRIANGLE} |"
        in page
    )
    assert "| noisy | 9.500 | 9.500 |" in page
    assert found.markdown() == page
    assert "\N{BLACK UP-POINTING TRIANGLE}" not in found.markdown(reference=None)
    with pytest.raises(
        ValueError, match="reference must be one of zero, one, same, noisy; got 'x'"
    ):
        found.markdown(reference="x")


def test_a_question_shares_what_is_known() -> None:
    case = cases.make_case("bag")
    question = Question(case.model, case.inputs)
    assert question.once("one", lambda: 1) == question.once("one", lambda: 2) == 1
    torch.testing.assert_close(question.scores, question.reading.rows.explanation)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"explanations": "attention"}, TypeError, "explanations must be several names.* got a string"),
    ({"explanations": []}, ValueError, "explanations must have names; got 'none'"),
    ({"explanations": [torch.ones(5, 7)]}, ValueError, "explanations must have names"),
    ({"explanations": ["atention"]}, ValueError, "explanations must be one of .* got 'atention'"),
    ({"explanations": {"mine": "x"}}, ValueError, "explanations must be one of .* got 'x'"),
    ({"explanations": {"mine": 3}}, TypeError, "got int for 'mine'"),
    ({"metrics": ["tau"]}, ValueError, "metrics must be among gradient_correlation, .* got 'tau'"),
    ({"metrics": "loo_correlation"}, TypeError, "metrics must be several names or scores"),
    ({"metrics": []}, TypeError, "metrics must be several"),
    ({"metrics": TAUS * 2}, ValueError, "named once each; got 'gradient_correlation' twice"),
    ({"removal": "eat"}, ValueError, "removal must be one of"),
    ({"view": 3}, TypeError, "view must be an AttentionView"),
    ({"rationale": torch.ones(5, 7)}, TypeError, "rationale must be boolean"),
    ({"rationale": torch.ones(5, 3) > 0}, ValueError, "rationale must have the shape of the mask"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD)
def test_bad_input(options: dict[str, Any], error: type[Exception], text: str) -> None:
    case = cases.make_case("bag")
    with pytest.raises(error, match=text):
        compare_explanations(case.model, case.inputs, **options)


def test_a_rationale_may_be_spans() -> None:
    case = cases.make_case("bag")
    spans = [[(0, 2)], [1], [(2, 5)], [0], []]
    flags = rationale_mask(spans, (5, 7))
    found = [
        compare_explanations(
            case.model,
            case.inputs,
            explanations=["attention"],
            metrics=["average_precision", "token_f1"],
            rationale=each,
        )
        for each in (spans, flags)
    ]
    assert found[0].statistics("attention", "average_precision").undefined == 1
    for cell, values in found[0].values.items():
        torch.testing.assert_close(found[1].values[cell], values, equal_nan=True)
    with pytest.raises(ValueError, match="rationale must have a list for each instance, 5 in all"):
        compare_explanations(case.model, case.inputs, rationale=spans[:2])


def test_leave_one_out_as_an_explanation_goes_by_the_removal_of_the_metric() -> None:
    model, inputs = planted.faithful()
    for kind in ("leave_one_out", "signed_leave_one_out"):
        options = {"explanation": kind, "removal": "mask_attention", "target": 0}
        effects = leave_one_out_importance(
            model, inputs, removal="mask_attention", target=0, signed=kind.startswith("signed")
        )
        for function in (faithfulness_violation, polarity_agreement, removal_curves):
            named = function(model, inputs, **options)
            given = function(model, inputs, **{**options, "explanation": effects})
            for one, other in zip(named.records(), given.records(), strict=True):
                assert one == pytest.approx(other, nan_ok=True)


def test_some_rows_and_columns() -> None:
    case = cases.make_case("bag")
    given = {"attention": "attention", "first": first, "broken": broken}
    found = compare_explanations(case.model, case.inputs, explanations=given, metrics=TAUS)
    some = found.select(explanations=["first", "broken"], metrics=TAUS[1:])
    assert (some.explanations, some.size) == (("first", "broken"), found.size)
    assert set(some.values) == {("first", TAUS[1])} and set(some.reasons) == {("broken", TAUS[1])}
    assert set(some.seconds) == {"first", "broken"} and set(some.metric_seconds) == {TAUS[1]}
    assert set(some.scores) == {"first"} and "| attention |" not in some.markdown()
    assert found.select().records() == found.records()
    for options in ({"metrics": ["tau"]}, {"explanations": "first"}, {"metrics": []}):
        with pytest.raises(ValueError, match="must be some of "):
            found.select(**options)
