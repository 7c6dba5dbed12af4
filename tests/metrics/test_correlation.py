"""Gradient and leave-one-out correlation against single instances that were never padded."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import oracles
import planted
import pytest
import torch
from cases import Case, make_case, texts
from oracles import PaperModel

from faithattn import (
    AdapterError,
    AttentionView,
    gradient_correlation,
    gradient_importance,
    leave_one_out_importance,
    loo_correlation,
)

CLOSE = {"atol": 1e-12, "rtol": 1e-9}


def test_the_published_models_agree_with_their_formulas(paper_case: Case) -> None:
    run = paper_case.model.run(paper_case.inputs)
    for row in range(paper_case.size):
        single = PaperModel(paper_case.model, paper_case.inputs, row)
        mine = run.mask[row]
        torch.testing.assert_close(
            run.attention["attention"][row][mine],
            single.attention()[single.words].detach(),
            check_dtype=True,
            **CLOSE,
        )
        outputs = oracles.squash(run.logits[row], paper_case.model.output)
        torch.testing.assert_close(outputs, single.outputs(), **CLOSE)


def test_single_precision_agrees_to_five_digits(paper_case: Case) -> None:
    expected = paper_case.model.run(paper_case.inputs)
    expected_outputs = expected.logits
    actual = paper_case.model.float().run(paper_case.inputs)
    allowed = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(
        actual.attention["attention"].double(), expected.attention["attention"], **allowed
    )
    squash = torch.sigmoid if paper_case.model.output == "sigmoid" else lambda x: x.softmax(-1)
    torch.testing.assert_close(squash(actual.logits).double(), squash(expected_outputs), **allowed)


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_importance_agrees_with_autograd_alone(paper_case: Case, detach: bool) -> None:
    importance = gradient_importance(paper_case.model, paper_case.inputs, detach_attention=detach)
    mask = paper_case.model.run(paper_case.inputs).mask
    assert (importance[~mask] == 0).all()
    for row in range(paper_case.size):
        single = PaperModel(paper_case.model, paper_case.inputs, row)
        expected = single.gradient_importance(detach=detach)
        torch.testing.assert_close(importance[row][mask[row]], expected, **CLOSE)


def test_deletion_agrees_with_texts_that_are_really_shorter(paper_case: Case) -> None:
    importance = leave_one_out_importance(paper_case.model, paper_case.inputs)
    mask = paper_case.model.run(paper_case.inputs).mask
    assert (importance[~mask] == 0).all()
    for row in range(paper_case.size):
        expected = PaperModel(paper_case.model, paper_case.inputs, row).leave_one_out()
        torch.testing.assert_close(importance[row][mask[row]], expected, **CLOSE)


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_tau_agrees_with_scipy_on_unpadded_instances(paper_case: Case, test: Any) -> None:
    result = test(paper_case.model, paper_case.inputs, tie_tolerance=0)
    for row in range(paper_case.size):
        mine = result.mask[row]
        expected = oracles.tau(result.explanation[row][mine], result.importance[row][mine])
        actual = float(result.statistic[row]), float(result.pvalue[row])
        assert actual == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert result.statistic.isfinite().any()


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_tau_agrees_with_a_separate_implementation(paper_case: Case, test: Any) -> None:
    result = test(paper_case.model, paper_case.inputs)
    for row in range(paper_case.size):
        single = PaperModel(paper_case.model, paper_case.inputs, row)
        importance = (
            single.gradient_importance() if test is gradient_correlation else single.leave_one_out()
        )
        # Words never repeat in these texts, so no tie depends on rounding.
        expected = oracles.tau(single.attention()[single.words], importance)
        actual = float(result.statistic[row]), float(result.pvalue[row])
        assert actual == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_target_chooses_the_probability(paper_case: Case) -> None:
    model, inputs = paper_case.model, paper_case.inputs
    for test in (gradient_importance, leave_one_out_importance):
        first = test(model, inputs, target=0)
        per_row = test(model, inputs, target=torch.zeros(paper_case.size, dtype=torch.int64))
        assert torch.equal(first, per_row)
    mask = model.run(inputs).mask
    change = leave_one_out_importance(model, inputs, target=0)
    for row in range(paper_case.size):
        single = PaperModel(model, inputs, row)
        positions = single.words.nonzero()[:, 0].tolist()
        of_class = (lambda y: 1 - y[0]) if model.output == "sigmoid" else (lambda y: y[0])
        with torch.no_grad():
            before = of_class(single.outputs())
            after = [of_class(single.without(t).outputs()) for t in positions]
        expected = [abs(float(value - before)) for value in after]
        assert change[row][mask[row]].tolist() == pytest.approx(expected, abs=1e-12)


def test_both_classes_of_one_sigmoid_have_the_same_gradient(text_case: Case) -> None:
    zero, one = (
        gradient_importance(text_case.model, text_case.inputs, target=label) for label in (0, 1)
    )
    torch.testing.assert_close(zero, one)


def test_removed_weights_toy() -> None:
    inputs = planted.whole(
        torch.tensor([[0.45, 0.40, 0.15]]).double(), torch.tensor([[1.0, -1.0, 1.0]]).double()
    )
    model = planted.Linear()
    left = leave_one_out_importance(model, inputs, removal="mask_attention")
    torch.testing.assert_close(left, inputs[0])
    divided = leave_one_out_importance(model, inputs, removal="mask_attention_renormalize")
    expected = [abs(-0.25 / 0.55 - 0.2), abs(0.6 / 0.6 - 0.2), abs(0.05 / 0.85 - 0.2)]
    assert divided[0].tolist() == pytest.approx(expected)
    for removal, tau in (("mask_attention", 1), ("mask_attention_renormalize", 1 / 3)):
        result = loo_correlation(model, inputs, removal=removal)
        assert float(result.statistic) == pytest.approx(tau)
        assert result.removal == removal


def test_zeroed_embeddings_agree_with_a_loop(text_case: Case) -> None:
    importance = leave_one_out_importance(
        text_case.model, text_case.inputs, removal="zero_embedding"
    )
    mask = text_case.model.run(text_case.inputs).mask
    for row in range(text_case.size):
        single = PaperModel(text_case.model, text_case.inputs, row)
        for column, t in zip(mask[row].nonzero()[:, 0], single.words.nonzero()[:, 0], strict=True):
            vectors = single.vectors()
            vectors[t] = 0
            with torch.no_grad():
                expected = (single.outputs(vectors=vectors) - single.outputs()).abs()
            torch.testing.assert_close(importance[row, column], expected[0], **CLOSE)


def test_several_labels_add_up(text_case: Case) -> None:
    class Labels(planted.Linear):
        output = "sigmoid"

        def replay(self, state: Any, attention: Any) -> Any:
            logit = super().replay(state, attention)
            return torch.cat([logit, -2 * logit, 0 * logit], -1)

    attention, scores = planted.rows(4, 6), 3 * planted.rows(4, 6, seed=1) - 1
    inputs = planted.whole(attention, scores)
    logit = (attention * scores).sum(-1, keepdim=True)
    slopes = [k * (k * logit).sigmoid() * (-k * logit).sigmoid() for k in (1, -2)]
    expected = sum((slope * attention * scores).abs() for slope in slopes)
    torch.testing.assert_close(gradient_importance(Labels(), inputs), expected)
    one = gradient_importance(Labels(), inputs, target=1)
    torch.testing.assert_close(one, (slopes[1] * attention * scores).abs())
    assert (gradient_correlation(Labels(), inputs).predicted == -1).all()


def test_saturated_outputs_have_no_gradient_and_are_counted() -> None:
    attention = planted.rows(3, 5).float()
    inputs = planted.whole(attention, torch.full((3, 5), 200.0))
    result = gradient_correlation(planted.Sigmoid(), inputs)
    assert (result.importance == 0).all() and result.statistic.isnan().all()
    assert result.summary().overall.undefined == 3


def test_repeated_words_tie_in_a_model_without_context() -> None:
    case = make_case("text-average-additive")
    ids = torch.tensor([[2, 5, 6, 5, 7, 5, 8, 6, 3]])
    words = ids[0, 1:-1]
    model = case.model.float()
    for test in (gradient_correlation, loo_correlation):
        result = test(model, ids)
        first = [int((words == word).nonzero()[0]) for word in words]
        merged = [value[0, 1:-1][first] for value in (result.explanation, result.importance)]
        assert float(result.statistic) == pytest.approx(oracles.tau(*merged)[0], abs=1e-6)


def test_what_was_done_is_named(text_case: Case) -> None:
    gradient = gradient_correlation(text_case.model, text_case.inputs, detach_attention=False)
    assert (gradient.measure, gradient.removal, gradient.detached) == (
        "gradient_correlation", None, False,
    )  # fmt: skip
    left_out = loo_correlation(text_case.model, text_case.inputs, tie_tolerance=0.25)
    assert (left_out.measure, left_out.removal, left_out.detached) == (
        "loo_correlation", "delete", None,
    )  # fmt: skip
    assert (left_out.tie_tolerance, left_out.view, left_out.output) == (
        0.25,
        "attention",
        "sigmoid",
    )
    run = text_case.model.run(text_case.inputs)
    assert torch.equal(gradient.explanation, run.attention["attention"].detach())
    assert torch.equal(gradient.mask, run.mask)
    torch.testing.assert_close(gradient.max_attention, run.attention["attention"].amax(-1).detach())
    assert torch.equal(gradient.predicted, (run.logits[:, 0] > 0).long())
    torch.testing.assert_close(gradient.mass, torch.ones(text_case.size).double())
    for value in vars(gradient).values():
        assert not (isinstance(value, torch.Tensor) and value.requires_grad)


def test_a_removal_may_be_a_function(text_case: Case) -> None:
    def unknown_word(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        changed = ids.clone()
        changed[torch.arange(len(ids)), positions] = 1
        return changed

    result = loo_correlation(text_case.model, text_case.inputs, removal=unknown_word)
    expected = leave_one_out_importance(text_case.model, text_case.inputs, removal=unknown_word)
    assert torch.equal(result.importance, expected) and result.importance.any()
    assert (result.removal, result.replay) == ("unknown_word", "none")


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_one_word_and_no_word_are_undefined_and_counted(text_case: Case, test: Any) -> None:
    ids = texts((5, 1, 0))
    result = test(text_case.model, ids)
    assert result.statistic.isnan().tolist() == [False, True, True]
    assert result.pvalue.isnan().tolist() == [False, True, True]
    if test is loo_correlation:  # without its only word a text is no text
        assert result.importance[1].isnan().tolist() == result.mask[1].tolist()
    overall = result.summary().overall
    assert (overall.n, overall.undefined) == (3, 2)
    assert math.isnan(float(result.max_attention[2])) and float(result.mass[2]) == 0
    assert result.records()[1]["statistic"] is None


def test_the_encoder_runs_once_for_the_gradient(text_case: Case) -> None:
    calls: list[int] = []
    text_case.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    gradient_correlation(text_case.model, text_case.inputs)
    assert len(calls) == 1


def test_rows_of_several_heads_are_averaged_and_removed_together() -> None:
    model = planted.Heads()
    view = AttentionView("heads", heads=(0, 1), query=0)
    result = loo_correlation(model, torch.zeros(3), removal="mask_attention", view=view)
    explanation = model.weights[:, :, 0].mean(1)
    explanation[:, 0] = 0
    torch.testing.assert_close(result.explanation, explanation)
    before = model.run(None).logits
    for position in range(1, 5):
        changed = model.weights.clone()
        changed[:, :, 0, position] = 0
        after = model.run(None, attention={"heads": changed}).logits
        torch.testing.assert_close(result.importance[:, position], (after - before).abs().mean(-1))
    assert (result.importance[:, 0] == 0).all()
    assert result.view == "heads, heads 0 and 1, query 0"


PAIRS = torch.tensor([-1, 0, 0, 1, 1, 2, 3, 3, -1])


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_words_are_ranked_where_positions_are_grouped(text_case: Case, test: Any) -> None:
    assert text_case.width == len(PAIRS)
    plain = test(text_case.model, text_case.inputs)
    for groups in (PAIRS, PAIRS.expand(text_case.size, -1)):
        result = test(text_case.model, text_case.inputs, groups=groups, tie_tolerance=0)
        assert result.grouped and not plain.grouped
        assert result.mask.shape == result.importance.shape == (text_case.size, 4)
        for name in ("explanation", "importance"):
            values, own = getattr(result, name), getattr(plain, name)
            for group in range(4):
                members = (group == PAIRS) & plain.mask
                torch.testing.assert_close(values[:, group], (own * members).sum(1))
                assert torch.equal(result.mask[:, group], members.any(1))
        for row in range(text_case.size):
            mine = result.mask[row]
            expected = oracles.tau(result.explanation[row][mine], result.importance[row][mine])
            actual = float(result.statistic[row]), float(result.pvalue[row])
            assert actual == pytest.approx(expected, abs=1e-12, nan_ok=True)
        # What was attended to, and how much, does not depend on the grouping.
        assert torch.equal(result.max_attention, plain.max_attention)


def test_positions_that_are_their_own_group_change_nothing(text_case: Case) -> None:
    each = torch.arange(text_case.width)
    grouped = loo_correlation(text_case.model, text_case.inputs, groups=each)
    plain = loo_correlation(text_case.model, text_case.inputs)
    for name in ("statistic", "pvalue", "explanation", "importance", "mask"):
        assert torch.equal(getattr(grouped, name), getattr(plain, name))


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_groups_that_do_not_fit(text_case: Case, test: Any) -> None:
    with pytest.raises(ValueError, match=r"groups must have shape \(5, 9\) or \(9,\)"):
        test(text_case.model, text_case.inputs, groups=PAIRS[:4])
    nothing = test(text_case.model, text_case.inputs, groups=torch.full((9,), -1))
    assert nothing.statistic.isnan().all() and nothing.summary().overall.undefined == 5


def test_a_group_with_something_undefined_is_undefined(text_case: Case) -> None:
    # Without its only word a text is no text: its importance is undefined.
    ids = texts((7, 1))
    result = loo_correlation(text_case.model, ids, groups=PAIRS)
    assert result.importance[1].isnan().tolist() == [True, False, False, False]
    assert result.statistic.isnan().tolist() == [False, True]


class LearnedKey(planted.Linear):
    """A last key that is no input: its value is 1."""

    extra = False

    def run(self, inputs: Any, **options: Any) -> Any:
        own, scores, mask = inputs
        run = super().run((own, scores, mask), **options)
        return run if self.extra else dataclasses.replace(run, mask=run.mask & ~last(run.mask))

    def replay(self, state: Any, attention: Any) -> Any:
        one = state.new_ones(len(state), 1, 1)
        return super().replay(torch.cat([state, one], 1), attention)


def last(mask: torch.Tensor) -> torch.Tensor:
    return torch.arange(mask.shape[1]) == mask.shape[1] - 1


def test_keys_that_are_no_input_have_no_gradient() -> None:
    attention, scores = planted.rows(4, 6), 3 * planted.rows(4, 5, seed=1) - 1
    inputs = (attention, scores, torch.ones(4, 6, dtype=torch.bool))
    importance = gradient_importance(LearnedKey(), inputs)
    torch.testing.assert_close(importance[:, :5], (attention[:, :5] * scores).abs())
    assert importance.shape == (4, 6) and not importance[:, 5].any()
    result = gradient_correlation(LearnedKey(), inputs)
    assert result.mask.shape == result.importance.shape == (4, 6)
    model = LearnedKey()
    model.extra = True  # the mask claims that the last key can be explained
    with pytest.raises(
        AdapterError, match=r"features\['score'\] must be as long as the mask, \(4, 6"
    ):
        gradient_importance(model, inputs)
    with pytest.raises(AdapterError, match=r"as long as the mask, \(4, 6\); got \(4, 7, 1\)"):
        gradient_importance(Longer(), planted.whole(attention, attention))


class Longer(planted.Linear):
    """A feature with more positions than keys."""

    def run(self, inputs: Any, **options: Any) -> Any:
        run = super().run(inputs, **options)
        longer = torch.cat([run.features["score"], run.features["score"][:, :1]], 1)
        return dataclasses.replace(run, features={"score": longer})
