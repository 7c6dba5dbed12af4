"""Bad input: one clear sentence that names the argument, or an undefined value that is counted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import planted
import pytest
import torch
from cases import make_case, questions, texts
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    Run,
    adversarial_attention,
    gradient_correlation,
    gradient_importance,
    jensen_shannon_divergence,
    kl_divergence,
    leave_one_out_importance,
    loo_correlation,
    memory_budget,
    permutation_test,
    permute_attention,
    total_variation_distance,
)

ROW = torch.tensor([[0.5, 0.5]])
REAL = torch.ones(1, 2, dtype=torch.bool)


def _loo(model: Any, inputs: Any, **options: Any) -> Any:
    return loo_correlation(model, inputs, removal="mask_attention", **options)


def _permute(model: Any, inputs: Any, **options: Any) -> Any:
    return permutation_test(model, inputs, n_permutations=3, seed=0, **options)


def _attack(model: Any, inputs: Any, **options: Any) -> Any:
    return adversarial_attention(model, inputs, n_steps=2, seed=0, **options)


FOUR = {"gradient": gradient_correlation, "loo": _loo, "permute": _permute, "attack": _attack}
EACH = pytest.mark.parametrize("test", FOUR.values(), ids=FOUR)
DIVERGENCES = pytest.mark.parametrize(
    "divergence", [total_variation_distance, kl_divergence, jensen_shannon_divergence]
)


@DIVERGENCES
@pytest.mark.parametrize(
    ("p", "q", "kind", "message"),
    [
        ([[0.5, 0.5]], ROW, TypeError, r"p must be a torch.Tensor; got list"),
        (ROW, None, TypeError, r"q must be a torch.Tensor; got NoneType"),
        (torch.tensor([[1, 0]]), ROW, TypeError, r"p must be floating point; got torch.int64"),
        (torch.tensor(1.0), torch.tensor(1.0), ValueError, r"p must have a last dimension"),
        (ROW, ROW[0], ValueError, r"q must have the shape of p; got p \(1, 2\) and q \(2,\)"),
        (ROW, torch.ones(1, 3) / 3, ValueError, r"got p \(1, 2\) and q \(1, 3\). Pad both alike"),
        (ROW, ROW.double(), ValueError, r"q must have the dtype of p; got p torch.float32"),
        (ROW, ROW.to("meta"), ValueError, r"q must be on the device of p; got p on cpu and q on m"),
        (
            ROW,
            torch.tensor([[0.5, 0.6]]),
            ValueError,
            r"q must hold rows that sum to 1; got .* 1.1",
        ),
        (torch.tensor([[1.5, -0.5]]), ROW, ValueError, r"p must hold probabilities; .* -0.5"),
        (ROW, torch.tensor([[0.5, math.nan]]), ValueError, r"q must hold probabilities.*NaN"),
        (ROW, torch.tensor([[0.5, math.inf]]), ValueError, r"q must hold rows that sum to 1"),
    ],
)
def test_divergences(
    divergence: Callable[..., Tensor], p: Any, q: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        divergence(p, q)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"attention": [[0.5, 0.5]]}, TypeError, "attention must be a torch.Tensor; got list"),
        ({"attention": ROW[0]}, ValueError, r"attention must have shape \(batch, positions\)"),
        ({"attention": ROW[:0], "mask": REAL[:0]}, ValueError, r"neither empty; got \(0, 2\)"),
        (
            {"attention": ROW[:, :0], "mask": REAL[:, :0]},
            ValueError,
            r"neither empty; got \(1, 0\)",
        ),
        ({"attention": ROW.long()}, TypeError, "attention must be floating point"),
        ({"attention": ROW * 2}, ValueError, "attention must hold rows that sum to 1"),
        ({"attention": ROW * math.nan}, ValueError, "attention must hold probabilities"),
        ({"mask": None}, TypeError, "mask must be a torch.Tensor; got NoneType"),
        ({"mask": ROW}, TypeError, "mask must be boolean, .* got torch.float32"),
        ({"mask": REAL[0]}, ValueError, r"mask must have the shape of attention"),
        ({"mask": REAL.to("meta")}, ValueError, "mask must be on the device of attention"),
        ({"n_permutations": 0}, ValueError, "n_permutations must be at least 1; got 0"),
        ({"n_permutations": 2.0}, TypeError, "n_permutations must be a whole number; got 2.0"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number; got 0.5"),
        ({"seed": "a"}, TypeError, "seed must be a whole number; got 'a'"),
        ({"instances": [0]}, TypeError, "instances must be an int64 tensor; got list"),
        (
            {"instances": torch.zeros(1)},
            TypeError,
            "instances must be an int64 tensor; got torch.f",
        ),
        ({"instances": torch.arange(2)}, ValueError, r"instances must have one id per row"),
        ({"instances": torch.arange(1, device="meta")}, ValueError, "instances must be on the dev"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_permute_attention(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"attention": ROW, "mask": REAL, "n_permutations": 2, "seed": 0}
    arguments.update(changes)
    with pytest.raises(kind, match=message):
        permute_attention(arguments.pop("attention"), **arguments)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epsilon": 0}, ValueError, "epsilon must be above 0 and finite; got 0"),
        ({"epsilon": -0.1}, ValueError, "epsilon must be above 0 and finite; got -0.1"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be above 0 and finite; got nan"),
        ({"epsilon": "small"}, TypeError, "epsilon must be a number; got 'small'"),
        ({"epsilon": math.inf}, ValueError, "epsilon must be above 0 and finite; got inf"),
        (
            {"method": "exact?"},
            ValueError,
            "method must be one of auto, exact, certified, search, published.*got 'exact\\?'",
        ),
        ({"n_adversaries": 0}, ValueError, "n_adversaries must be at least 1; got 0"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1; got 0"),
        ({"n_steps": True}, TypeError, "n_steps must be a whole number; got True"),
        ({"seed": 1.0}, TypeError, "seed must be a whole number; got 1.0"),
        (
            {"instances": torch.arange(3)},
            ValueError,
            r"instances must have one id per row, .*\(6,\)",
        ),
    ],
    ids=str,
)
def test_adversarial_options(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        adversarial_attention(*planted.indifferent(), **options)


def test_permutation_options() -> None:
    model, inputs = planted.indifferent()
    with pytest.raises(ValueError, match="n_permutations must be at least 1; got 0"):
        permutation_test(model, inputs, n_permutations=0)
    with pytest.raises(ValueError, match="instances must have one id per row"):
        permutation_test(model, inputs, instances=torch.arange(2))
    with pytest.raises(TypeError, match="instances must be an int64 tensor"):
        permutation_test(model, inputs, instances=torch.arange(6).int())


def test_unknown_removal() -> None:
    with pytest.raises(ValueError, match=r"removal must be one of delete, .*got 'erase'"):
        loo_correlation(*planted.indifferent(), removal="erase")
    with pytest.raises(ValueError, match=r"removal must be one of delete, .*got 'erase'"):
        leave_one_out_importance(*planted.indifferent(), removal="erase")


def test_deletion_needs_a_model_that_can() -> None:
    with pytest.raises(AdapterError, match=r"model must have a remove\(inputs, positions\) method"):
        loo_correlation(*planted.indifferent())


@pytest.mark.parametrize("tolerance", [-1e-6, math.nan, math.inf])
def test_tie_tolerance_out_of_range(tolerance: float) -> None:
    for test in (gradient_correlation, _loo):
        with pytest.raises(ValueError, match="tie_tolerance must be finite and not negative"):
            test(*planted.faithful(), tie_tolerance=tolerance)


@pytest.mark.parametrize("test", [gradient_importance, leave_one_out_importance])
@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (2, ValueError, r"target must be a class from 0 to 1; got \[2, 2, 2, 2, 2\]"),
        (-1, ValueError, "target must be a class from 0 to 1; got"),
        (
            torch.tensor([0, 1]),
            ValueError,
            r"target must be .* shape \(5,\), int64; got torch.int64",
        ),
        (torch.zeros(5), ValueError, r"int64; got torch.float32 \(5,\)"),
        (torch.zeros(5, dtype=torch.bool), ValueError, r"int64; got torch.bool \(5,\)"),
        ("positive", TypeError, "target must be an int, a tensor or None; got 'positive'"),
        (True, TypeError, "target must be an int, a tensor or None; got True"),
        (torch.tensor([0, 1, 0, 1, 7]), ValueError, r"got \[0, 1, 0, 1, 7\]"),
    ],
    ids=str,
)
def test_unknown_targets(test: Any, target: Any, kind: type[Exception], message: str) -> None:
    case = make_case("text-average-additive")
    with pytest.raises(kind, match=message):
        test(case.model, case.inputs, target=target)


def test_unknown_targets_of_several_classes() -> None:
    case = make_case("question-average-additive")
    with pytest.raises(ValueError, match="target must be a class from 0 to 3; got"):
        gradient_importance(case.model, case.inputs, target=4)


@EACH
def test_models_that_are_none(test: Any) -> None:
    for model in (None, "bert", object()):
        with pytest.raises(
            TypeError, match=r"model must be a torch.nn.Module or have a run method"
        ):
            test(model, texts())


@EACH
def test_views_that_are_none(test: Any) -> None:
    message = "view must be an AttentionView or None; got str. Use view=AttentionView"
    model, inputs = planted.faithful()
    for adapter in (model, nn.Linear(2, 2)):
        with pytest.raises(TypeError, match=message):
            test(adapter, inputs, view="cls")


class Silent(nn.Module):
    """Gradients are off in all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 3)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        weights = x.sum(-1).softmax(-1)
        return (weights[..., None] * x**2).sum(1).sin()


def test_models_that_turn_gradients_off() -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    off = r"The forward of Silent turns gradients off \(torch.no_grad"
    for options in ({}, {"detach_attention": False}):
        with pytest.raises(AdapterError, match=rf"^features\[.*{off}\): .* or use loo_correlation"):
            gradient_correlation(Silent(), ids, **options)
    with pytest.raises(AdapterError, match=rf"^replay must be differe.*{off}.* permutation_test"):
        _attack(Silent(), ids)
    assert loo_correlation(Silent(), ids).statistic.isfinite().all()
    assert _permute(Silent(), ids).pvalue.isfinite().all()


class Cut(nn.Module):
    """Gradients are on, but end at the embeddings, or after them."""

    def __init__(self, off: bool) -> None:
        super().__init__()
        self.embed, self.out, self.off = nn.Embedding(9, 3), nn.Linear(3, 2), off

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.off):
            weights = x.sum(-1).softmax(-1)
            return self.out((weights[..., None] * x.detach()).sum(1))


def test_models_that_cut_the_gradient() -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    with pytest.raises(
        AdapterError, match=r"got logits without gradient\. The forward of Cut turns"
    ):
        gradient_correlation(Cut(off=True), ids)
    with pytest.raises(
        AdapterError, match=r"got no path between them\. Take out .* such as detach"
    ):
        gradient_correlation(Cut(off=False), ids)


@EACH
@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        (texts().tolist(), TypeError, "inputs must be a tensor of token ids; got list"),
        (texts()[:0], ValueError, r"inputs must have shape \(batch, positions\), neither empty"),
        (texts()[:, :0], ValueError, r"neither empty; got \(5, 0\)"),
        (texts()[0], ValueError, r"got \(9,\)"),
        (texts().float(), TypeError, "inputs must be int64; got torch.float32"),
        (texts().to("meta"), ValueError, "inputs must be on the device of the model"),
        (texts() + 9, ValueError, r"inputs must lie in 0..13; got \d+"),
        (texts() - 1, ValueError, r"inputs must lie in 0..13; got -1"),
        (texts().flip(1), ValueError, "inputs must be padded .* only at the end"),
    ],
    ids=["list", "empty", "no positions", "flat", "float", "meta", "unknown", "negative", "left"],
)
def test_inputs_of_the_published_models(
    test: Any, inputs: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        test(make_case("text-average-additive").model, inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": torch.zeros(5, 4, dtype=torch.bool)}, "candidates must hold an answer"),
        ({"question": questions()["question"][:2]}, "question must have a row for each passage"),
        (
            {"candidates": torch.ones(5, 3, dtype=torch.bool)},
            r"candidates must have shape \(5, 4\)",
        ),
    ],
)
def test_inputs_of_questions(changes: dict[str, Tensor], message: str) -> None:
    model = make_case("question-average-additive").model
    with pytest.raises(ValueError, match=message):
        permutation_test(model, {**questions(), **changes})
    with pytest.raises(ValueError, match="inputs must have the keys passage, question, candidates"):
        permutation_test(model, {"passage": texts()})


class Broken(planted.Sigmoid):
    """A planted model whose run is changed."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def run(self, inputs: Any, **options: Any) -> Any:
        return dataclasses.replace(super().run(inputs, **options), **self.changes)


LOGITS, WEIGHTS = torch.zeros(6, 1), torch.full((6, 9), 1 / 9)


def spoiled(value: Tensor, what: float, row: int = 4) -> Tensor:
    value = value.clone()
    value[row, 0] = what
    return value


@EACH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": spoiled(LOGITS, math.nan)}, "logits must be finite; .* instance 4 .1 of 6"),
        ({"logits": spoiled(LOGITS, -math.inf)}, "logits must be finite; .* instance 4 .1 of 6"),
        ({"logits": LOGITS[:, 0]}, r"logits must have shape \(batch, outputs\).*\(6,\)"),
        ({"logits": LOGITS[:0]}, r"logits must have shape \(batch, outputs\), neither empty"),
        ({"logits": LOGITS.long()}, "logits must be a floating-point tensor; got torch.int64"),
        ({"logits": None}, "logits must be a floating-point tensor; got NoneType"),
        ({"attention": {}}, "attention must hold at least one site; got none"),
        (
            {"attention": {"row": spoiled(WEIGHTS, math.nan)}},
            r"\['row'\] must be finite; .* 4 .1 of",
        ),
        ({"attention": {"row": spoiled(WEIGHTS, math.inf)}}, r"\['row'\] must be finite"),
        (
            {"attention": {"row": spoiled(WEIGHTS, 0.5)}},
            r"\['row'\] must have rows that sum to 1; g",
        ),
        (
            {"attention": {"row": spoiled(WEIGHTS, -0.5)}},
            r"\['row'\] must not be negative; got -0.5",
        ),
        ({"attention": {"row": WEIGHTS[0]}}, r"\['row'\] must have shape \(B, Lk\)"),
        ({"attention": {"row": WEIGHTS[:2]}}, r"\['row'\] must have shape .* with B = 6"),
        ({"mask": WEIGHTS}, "mask must be a boolean tensor, .*; got torch.float32"),
        ({"mask": torch.ones(6, 4, dtype=torch.bool)}, r"mask must have shape \(6, 9\)"),
        ({"mask": torch.ones(6, 9, dtype=torch.bool, device="meta")}, "mask must be on the device"),
        ({"features": {"score": WEIGHTS}}, r"features\['score'\] must have shape \(B, L, E\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_runs_that_break_the_contract(test: Any, changes: dict[str, Any], message: str) -> None:
    _, inputs = planted.faithful()
    with pytest.raises(AdapterError, match=message):
        test(Broken(**changes), inputs)


@EACH
def test_a_run_must_be_a_run(test: Any) -> None:
    class Tuple(planted.Linear):
        def run(self, inputs: Any, **options: Any) -> Any:
            return (1, 2)

    with pytest.raises(AdapterError, match=r"run must return a faithattn.Run; got tuple"):
        test(Tuple(), planted.faithful()[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@EACH
def test_the_largest_finite_logits_are_finite(test: Any, dtype: torch.dtype) -> None:
    # Their sum is not: excluded classes often have the lowest finite number as their logit.
    lowest = torch.finfo(dtype).min

    class Excluding(planted.Linear):
        output = "softmax"

        def replay(self, state: Any, attention: Any) -> Tensor:
            logit = super().replay(state, attention)
            excluded = torch.full_like(logit, lowest)
            return torch.cat([logit, -logit, excluded, excluded], -1)

    attention, scores, mask = planted.faithful()[1]
    result = test(Excluding(), (attention.to(dtype), scores.to(dtype), mask))
    assert result.summary().overall.undefined == 0
    if test is _attack:
        assert (result.probabilities[..., 2:] == 0).all()


@EACH
def test_unknown_outputs(test: Any) -> None:
    class Logit(planted.Linear):
        output = "logit"

    with pytest.raises(ValueError, match=r"output must be one of auto, .*got 'logit'"):
        test(Logit(), planted.faithful()[1])


@EACH
def test_views_that_name_nothing(test: Any) -> None:
    model, inputs = planted.faithful()
    with pytest.raises(
        AdapterError, match=r"view must name a site .* got 'layer.3'.*'row' \(6, 9\)"
    ):
        test(model, inputs, view=AttentionView("layer.3"))
    with pytest.raises(ValueError, match=r"view.heads must lie in 0..0 for site 'row'"):
        test(model, inputs, view=AttentionView("row", heads=1))
    with pytest.raises(ValueError, match=r"view.query must lie in 0..0 for site 'row'"):
        test(model, inputs, view=AttentionView("row", query=-2))


@EACH
def test_several_rows_need_a_view(test: Any) -> None:
    _, inputs = planted.faithful()
    heads = {"heads": WEIGHTS[:, None, None].expand(6, 2, 1, 9)}
    with pytest.raises(AdapterError, match=r"view must say which .*AttentionView\('heads'"):
        test(Broken(attention=heads), inputs)


def test_features_without_gradient() -> None:
    _, inputs = planted.faithful()
    plain = {"score": inputs[1][..., None]}
    with pytest.raises(AdapterError, match=r"features\['score'\] must carry gradients"):
        gradient_correlation(Broken(features=plain), inputs)
    with pytest.raises(AdapterError, match="features must hold the model's differentiable inputs"):
        gradient_correlation(Broken(features={}), inputs)


@EACH
def test_an_instance_without_positions_is_counted(test: Any) -> None:
    attention, scores, mask = planted.faithful()[1]
    attention, mask = attention.clone(), mask.clone()
    attention[2], mask[2] = 0, False
    result = test(planted.Sigmoid(), (attention, scores, mask))
    overall = result.summary().overall
    assert (overall.n, overall.undefined) == (6, 1)
    assert math.isnan(float(result.max_attention[2])) and float(result.mass[2]) == 0
    assert sum(group.n for group in result.summary().by_max_attention.values()) == 5


@EACH
def test_a_batch_without_any_position_is_counted(test: Any) -> None:
    attention, scores, mask = planted.faithful()[1]
    result = test(planted.Sigmoid(), (attention * 0, scores, mask & False))
    assert result.summary().overall.undefined == 6
    assert "nan" in str(result.summary())


@EACH
def test_attention_that_is_zero_at_every_position_is_counted(test: Any) -> None:
    # All its weight is elsewhere (or nowhere): there is no distribution to test.
    attention, scores, mask = planted.faithful()[1]
    attention = attention.clone()
    attention[2] = 0
    result = test(planted.Sigmoid(), (attention, scores, mask))
    assert result.summary().overall.undefined == 1


@EACH
def test_one_position_only(test: Any) -> None:
    attention = torch.ones(2, 1).double()
    result = test(planted.Sigmoid(), planted.whole(attention, 2 * attention))
    summary = result.summary().overall
    if test is _attack:  # the original is the only row there is
        assert summary.undefined == 0 and summary.mean == 0
    else:
        assert summary.undefined == 2 and math.isnan(summary.mean)


@EACH
@pytest.mark.parametrize("encoder", ["bilstm", "cnn", "average"])
def test_only_unknown_words(test: Any, encoder: str) -> None:
    ids = torch.tensor([[2, 1, 1, 1, 1, 3], [2, 5, 6, 7, 3, 0]])
    result = test(make_case(f"text-{encoder}-additive").model, ids)
    assert result.summary().overall.n == 2
    if encoder == "average" and test in (gradient_correlation, _loo):
        assert result.statistic.isnan().tolist() == [True, False]


@pytest.mark.parametrize("megabytes", [0, -1, math.nan])
def test_memory_budgets_out_of_range(megabytes: float) -> None:
    with pytest.raises(ValueError, match="megabytes must be positive"), memory_budget(megabytes):
        pass


def test_a_later_run_that_breaks_the_contract() -> None:
    class Unstable(planted.Bag):
        calls = 0

        def run(self, inputs: Any, **options: Any) -> Run:
            run = super().run(inputs, **options)
            self.calls += 1
            if self.calls > 1:
                return dataclasses.replace(run, logits=run.logits * math.nan)
            return run

    case = make_case("bag")
    with pytest.raises(AdapterError, match="logits must be finite"):
        loo_correlation(Unstable(), case.inputs)


def test_a_view_must_be_a_view() -> None:
    model, inputs = planted.faithful()
    with pytest.raises(TypeError, match="view must be an AttentionView or None; got str"):
        permutation_test(model, inputs, view="row")  # type: ignore[arg-type]
    for options in ({"heads": "a"}, {"heads": 0.5}, {"query": 0.5}, {"query": [0, 0]}):
        with pytest.raises(TypeError, match=r"(heads|query) must be an int"):
            AttentionView("row", **options)


@pytest.mark.parametrize("broken", ["shape", "nan"])
def test_a_broken_replay_is_named(broken: str) -> None:
    class Broken(planted.Sigmoid):
        def replay(self, state: Any, attention: Any) -> Tensor:
            logits = super().replay(state, attention)
            if len(logits) == 1:  # the run itself is sound
                return logits
            return logits[0] if broken == "shape" else logits.log()

    message = {"shape": r"replay must return logits of shape \(K, B, C\)", "nan": "NaN or inf"}
    with pytest.raises(AdapterError, match=message[broken]):
        permutation_test(Broken(), planted.faithful()[1], n_permutations=30, seed=0)


def test_numpy_integers_are_integers() -> None:
    model, inputs = planted.faithful()
    result = permutation_test(model, inputs, n_permutations=np.int64(4), seed=np.int64(3))
    assert torch.equal(result.tvd, permutation_test(model, inputs, n_permutations=4, seed=3).tvd)


def test_a_row_of_zeros_beside_a_distribution() -> None:
    for distance in (total_variation_distance, jensen_shannon_divergence, kl_divergence):
        with pytest.raises(ValueError, match="must both be distributions"):
            distance(torch.zeros(2), torch.tensor([0.5, 0.5]))
        with pytest.raises(ValueError, match="at least one position"):
            distance(torch.zeros(3, 0), torch.zeros(3, 0))
