"""All orders of short instances and the effect in closed form, against enumeration of the model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import oracles
import planted
import pytest
import torch
from cases import LENGTHS, Case, make_case, texts
from oracles import PaperModel
from scipy import stats
from torch import Tensor

from faithattn import AttentionView, PermutationResult, Run, memory_budget, permutation_test

Inputs = tuple[Tensor, Tensor, Tensor]  # attention (B, ..., L), scores (B, ..., L, C), mask (B, L)


class Scored:
    """Logits are a function of sum_t a_t s_t over all rows; rows (B, L) or (B, H, Lq, L)."""

    def __init__(self, output: str, bend: Callable[[Tensor], Tensor] = lambda z: z) -> None:
        self.output, self.bend, self.replays = output, bend, 0

    def run(self, inputs: Inputs, *, attention: Any = None, features: Any = None) -> Run:
        own, scores, mask = inputs
        weights = (attention or {"row": own})["row"]
        return Run(self.logits(scores, weights[None])[0], {"row": weights}, mask, state=scores)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        self.replays += len(attention["row"])
        return self.logits(state, attention["row"])

    def logits(self, scores: Tensor, weights: Tensor) -> Tensor:
        return self.bend((weights[..., None] * scores).flatten(2, -2).sum(2))


def draws(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def padded(lengths: tuple[int, ...], outputs: int = 1, *, heads: int | None = None) -> Inputs:
    """Random rows and scores, padded on both sides."""
    longest = max(lengths) + 2
    mask = torch.zeros(len(lengths), longest, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, 1 : 1 + length] = True
    rows = (len(lengths), longest) if heads is None else (len(lengths), heads, 1, longest)
    spread = mask if heads is None else mask[:, None, None]
    attention = draws(*rows).masked_fill(~spread, -torch.inf).softmax(-1).nan_to_num(0)
    return attention, draws(*rows, outputs, seed=1), mask


def single(inputs: Inputs, row: int) -> Inputs:
    """One instance without its padding."""
    attention, scores, mask = (value[row : row + 1] for value in inputs)
    return attention[..., mask[0]], scores[..., mask[0], :], mask[:, mask[0]]


def enumerated(model: Scored, inputs: Inputs, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, predicted-class probabilities (K, identity first) and logits (K, C) in a loop."""
    attention, scores, _ = single(inputs, row)
    logits = torch.stack(
        [
            model.logits(scores, attention[None][..., list(order)])[0, 0]
            for order in itertools.permutations(range(attention.shape[-1]))
        ]
    )
    outputs = torch.stack([oracles.squash(each, model.output) for each in logits])
    distances = torch.stack([oracles.distance(each, outputs[0], model.output) for each in outputs])
    if model.output == "softmax":
        return distances, outputs[:, int(outputs[0].argmax())], logits
    positive = outputs[:, 0]
    return distances, positive if positive[0] > 0.5 else 1 - positive, logits


def assert_exact(result: PermutationResult, model: Scored, inputs: Inputs, rows: list[int]) -> None:
    for row in rows:
        distances, confidence, _ = enumerated(model, inputs, row)
        median = float(distances.quantile(0.5))
        for value in (result.median_tvd, result.median_low, result.median_high):
            assert float(value[row]) == pytest.approx(median, abs=1e-9)
        if int(result.predicted[row]) >= 0:
            share = float((confidence >= confidence[0] - 1e-6).double().mean())
            assert float(result.pvalue[row]) == pytest.approx(share, abs=1e-12)
            assert float(result.pvalue_error[row]) == 0


OUTPUTS = {
    "sigmoid": ("sigmoid", 1),
    "softmax": ("softmax", 3),
    "labels": ("sigmoid", 2),
    "regression": ("identity", 1),
    "regressions": ("identity", 3),
}


@pytest.mark.parametrize("megabytes", [256, 1e-6])
@pytest.mark.parametrize(("output", "count"), OUTPUTS.values(), ids=OUTPUTS)
def test_up_to_seven_positions_are_enumerated_where_logits_are_affine(
    output: str, count: int, megabytes: float
) -> None:
    model, inputs = Scored(output), padded((2, 7, 9, 3, 6, 1, 0, 6), count)
    with memory_budget(megabytes):
        result = permutation_test(model, inputs, n_permutations=40, seed=0)
    assert result.exact.tolist() == [True, True, False, True, True, False, False, True]
    assert model.replays < 40 + 10 + 2 * count  # none of the orders took a replay
    assert_exact(result, model, inputs, [0, 3, 4, 7] if megabytes < 1 else [0, 1, 3, 4, 7])


def test_other_models_are_enumerated_where_orders_are_no_more_than_shuffles() -> None:
    model, inputs = Scored("softmax", lambda z: (2 * z).tanh() * 3), padded((2, 5, 4, 3, 9), 3)
    result = permutation_test(model, inputs, n_permutations=24, seed=0)
    assert result.exact.tolist() == [True, False, True, True, False]
    assert model.replays <= 24 + 24 + 5
    assert_exact(result, model, inputs, [0, 2, 3])
    assert result.effect.isnan().all() and result.effect_spread.isnan().all()
    fewer = permutation_test(model, inputs, n_permutations=23, seed=0)
    assert fewer.exact.tolist() == [True, False, False, True, False]
    assert not permutation_test(model, inputs, n_permutations=1, seed=0).exact.any()


@pytest.mark.parametrize("name", ["text-bilstm-additive", "question-cnn-scaled_dot"])
def test_published_models(name: str) -> None:
    case = make_case(name)
    result = permutation_test(case.model, case.inputs, n_permutations=30, seed=0)
    affine = name.startswith("text")
    assert result.exact.tolist() == [affine or length <= 4 for length in LENGTHS]
    assert result.effect.isnan().tolist() == [not affine] * 5
    checked = 0
    for row in range(case.size):
        one = PaperModel(case.model, case.inputs, row)
        if int(one.words.sum()) > 5 or not result.exact[row]:
            continue
        own = one.attention().detach()

        def decode(words: Tensor, one: PaperModel = one) -> Tensor:
            weights = torch.zeros(len(one.ids), dtype=torch.float64)
            weights[one.words] = words
            return one.outputs(weights).detach()

        exact = oracles.permutation_effects(own[one.words], decode, case.model.output)
        assert float(result.median_tvd[row]) == pytest.approx(float(exact.quantile(0.5)), abs=1e-9)
        checked += 1
    assert checked == (3 if affine else 2)


def test_seven_words_through_the_model_itself() -> None:
    model, ids = make_case("text-cnn-additive").model.float(), texts((7,))
    result = permutation_test(model, ids, seed=0)
    run = model.run(ids)
    own, words = run.attention["attention"].detach(), run.mask[0]
    moved = own.expand(5040, 1, -1).clone()
    orders = list(itertools.permutations(own[0, words].tolist()))
    moved[:, 0, words] = torch.tensor(orders)
    positive = model.replay(run.state, {"attention": moved}).detach().sigmoid()[:, 0, 0]
    confidence = positive if positive[0] > 0.5 else 1 - positive
    median = (positive - positive[0]).abs().quantile(0.5)
    assert bool(result.exact)
    assert float(result.median_tvd) == pytest.approx(float(median), abs=1e-6)
    low, high = (
        float((confidence >= confidence[0] - slack).double().mean()) for slack in (5e-7, 2e-6)
    )
    assert low - 1e-6 <= float(result.pvalue) <= high + 1e-6


def test_ties_count_in_any_precision() -> None:
    # The own order is the most confident; two pairs of equal weights make it four of the 5,040.
    attention = torch.tensor([[0.05, 0.1, 0.1, 0.15, 0.15, 0.2, 0.25]])
    scores = torch.tensor([[-20.0, -1, 0.5, 2, 3, 5, 30]])
    for dtype in (torch.float32, torch.float64):
        inputs = planted.whole(attention.to(dtype), scores.to(dtype))
        result = permutation_test(planted.Sigmoid(), inputs, seed=0)
        assert float(result.pvalue) == pytest.approx(4 / 5040, rel=1e-6)


def heads_affine() -> tuple[Scored, Inputs]:
    return Scored("softmax"), padded((4, 7, 2, 8), 3, heads=3)


def test_heads_share_one_order() -> None:
    model, inputs = heads_affine()
    result = permutation_test(model, inputs, n_permutations=10, seed=0, view=AttentionView("row"))
    assert result.exact.tolist() == [True, True, True, False]
    assert_exact(result, model, inputs, [0, 1, 2])
    for row in (0, 1, 2):
        assert_effect(result, model, inputs, row)


def test_a_head_of_several_moves_alone() -> None:
    model, inputs = heads_affine()
    view = AttentionView("row", heads=1)
    result = permutation_test(model, inputs, n_permutations=10, seed=0, view=view)
    attention, scores, mask = inputs
    constant = (attention[..., None] * scores)[:, [0, 2]].flatten(1, 3).sum(1)

    def add(z: Tensor, constant: Tensor = constant[:1]) -> Tensor:
        return z + constant

    part = (attention[:1, 1, 0], scores[:1, 1, 0], mask[:1])
    assert_exact(result, Scored("softmax", add), part, [0])


class Supported(Scored):
    """Row r of three may use the keys up to r + 1."""

    def run(self, inputs: Inputs, *, attention: Any = None, features: Any = None) -> Run:
        run = super().run(inputs, attention=attention)
        support = torch.ones(1, 1, 3, 4).tril(1) > 0
        return Run(run.logits, run.attention, run.mask, support={"row": support}, state=run.state)


@pytest.mark.parametrize("count", [23, 24])
def test_rows_of_different_support_follow_one_order_and_have_no_closed_form(count: int) -> None:
    model = Supported("identity")
    attention = draws(1, 1, 3, 4).masked_fill(torch.ones(3, 4).tril(1) == 0, -torch.inf)
    inputs = attention.softmax(-1), draws(1, 1, 3, 4, 1, seed=1), torch.ones(1, 4) > 0
    result = permutation_test(
        model, inputs, n_permutations=count, seed=0, view=AttentionView("row")
    )
    assert bool(result.exact) is (count == 24)
    assert bool(result.effect.isnan()) and bool(result.effect_spread.isnan())
    if count < 24:
        return
    changes = []
    for order in itertools.permutations(range(4)):
        moved = inputs[0].clone()
        for row in range(3):  # the keys that a row may use, in the order that all share
            kept = [key for key in order if key <= row + 1]
            moved[0, 0, row, : row + 2] = inputs[0][0, 0, row, kept]
        changes.append(float(((moved - inputs[0])[..., None] * inputs[1]).sum().abs()))
    assert float(result.median_tvd) == pytest.approx(float(np.median(changes)))


def assert_effect(result: PermutationResult, model: Scored, inputs: Inputs, row: int) -> None:
    logits = enumerated(model, inputs, row)[2]
    if model.output == "softmax":
        best, second = logits[0].topk(2).indices.tolist()
        margin = logits[:, best] - logits[:, second]
    else:
        negative = model.output == "sigmoid" and logits[0, 0] <= 0
        margin = -logits[:, 0] if negative else logits[:, 0]
    spread = float(margin.std(correction=0))
    assert float(result.effect_spread[row]) == pytest.approx(spread)
    assert float(result.effect[row]) == pytest.approx(float(margin[0] - margin.mean()) / spread)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "regression"])
def test_effect_is_that_of_enumeration(name: str) -> None:
    output, count = OUTPUTS[name]
    model, inputs = Scored(output), padded((2, 6, 5, 3, 4), count)
    result = permutation_test(model, inputs, n_permutations=40, seed=0)
    if name == "sigmoid":
        assert set(result.predicted.tolist()) == {0, 1}
    for row in range(5):
        assert_effect(result, model, inputs, row)


def test_effect_of_one_row_is_a_correlation() -> None:
    attention, scores = planted.rows(4, 60), draws(4, 60, seed=3)
    result = permutation_test(planted.Linear(), planted.whole(attention, scores), seed=0)
    assert not result.exact.any()
    for row in range(4):
        expected = stats.pearsonr(attention[row].numpy(), scores[row].numpy()).statistic
        assert float(result.effect[row]) == pytest.approx(expected * math.sqrt(59))


@pytest.mark.parametrize("name", ["labels", "regressions"])
def test_several_outputs_without_a_prediction_have_no_margin(name: str) -> None:
    output, count = OUTPUTS[name]
    result = permutation_test(Scored(output), padded((2, 9), count), seed=0)
    assert result.effect.isnan().all() and result.effect_spread.isnan().all()
    assert result.pvalue.isnan().all() and result.pvalue_error.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_order_does_not_matter_there_is_no_effect(dtype: torch.dtype) -> None:
    even = torch.full((2, 9), 1 / 9, dtype=dtype)
    scores = draws(2, 9, seed=1).to(dtype)
    equal = torch.full((2, 9), 0.7, dtype=dtype)
    for attention, values in ((even, scores), (planted.rows(2, 9).to(dtype), equal)):
        result = permutation_test(planted.Sigmoid(), planted.whole(attention, values), seed=0)
        assert result.effect.isnan().all()
        assert (result.effect_spread < 1e-6).all()
        assert (result.pvalue == 1).all()


def test_an_excluded_class_is_no_runner_up() -> None:
    def exclude(z: Tensor) -> Tensor:
        lowest = torch.full_like(z[..., :1], torch.finfo(z.dtype).min)
        return torch.cat([z, lowest], -1)

    inputs = padded((5, 6), 3)
    expected = permutation_test(Scored("softmax"), inputs, seed=0)
    result = permutation_test(Scored("softmax", exclude), inputs, seed=0)
    for name in ("median_tvd", "pvalue", "effect", "effect_spread", "exact"):
        torch.testing.assert_close(getattr(result, name), getattr(expected, name))


def test_an_instance_that_bends_leaves_the_others_alone() -> None:
    inputs = padded((6, 6, 9, 9))
    bent = torch.tensor([False, True, False, True])[:, None]

    def fold(z: Tensor) -> Tensor:
        return torch.where(bent[: z.shape[1]], z.square(), z)

    result = permutation_test(Scored("sigmoid", fold), inputs, n_permutations=40, seed=0)
    assert result.exact.tolist() == [True, False, False, False]
    assert result.effect.isnan().tolist() == [False, True, False, True]


class Stubborn(Scored):
    """Replays in ways that have no derivative."""

    way = "detach"

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        weights = attention["row"]
        if self.way == "detach":
            return super().replay(state, attention).detach()
        if self.way == "half":
            return super().replay(state, {"row": (weights + weights.detach()) / 2})
        if self.way == "no_grad":
            with torch.no_grad():
                return super().replay(state, attention)
        if self.way == "inference_mode":
            with torch.inference_mode():
                return super().replay(state, attention)
        if self.way == "numpy":
            return torch.from_numpy(super().replay(state, {"row": weights}).numpy())
        logits = super().replay(state, attention).sigmoid()
        logits.mul_(2)  # overwrites what the derivative of the sigmoid needs
        return logits.div_(2).logit()


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "way", ["detach", "half", "no_grad", "inference_mode", "numpy", "in place"]
)
def test_no_gradient_is_asked_of_anybody(way: str, outputs: int) -> None:
    model, inputs = Stubborn("sigmoid" if outputs == 1 else "softmax"), padded((3, 6, 9), outputs)
    model.way = way
    result = permutation_test(model, inputs, n_permutations=40, seed=0)
    assert result.exact.tolist() == [True, False, False]
    assert result.effect.isnan().all()
    plain = permutation_test(Scored(model.output), inputs, n_permutations=40, seed=0)
    torch.testing.assert_close(result.tvd, plain.tvd)
    torch.testing.assert_close(result.median_tvd[0], plain.median_tvd[0])


def test_whole_forwards_are_not_spent_on_an_affine_form() -> None:
    class Whole(Scored):
        replay = None  # type: ignore[assignment]
        runs = 0

        def run(self, inputs: Inputs, **options: Any) -> Run:
            self.runs += 1
            run = super().run(inputs, **options)
            return Run(run.logits, run.attention, run.mask)

    model = Whole("sigmoid")
    result = permutation_test(model, padded((5, 9)), n_permutations=40, seed=0)
    assert result.replay == "whole forwards" and model.runs == 1 + 40
    assert not result.exact.any() and result.effect.isnan().all()


def true_median(attention: Tensor, scores: Tensor) -> tuple[float, float]:
    """Median distance and p-value of one sigmoid over all orders of eight positions."""
    orders = np.array(list(itertools.permutations(range(8))))
    positive = 1 / (1 + np.exp(-(attention.numpy()[orders] @ scores.numpy())))
    confidence = positive if positive[0] > 0.5 else 1 - positive
    share = float((confidence >= confidence[0] - 1e-6).mean())
    return float(np.median(np.abs(positive - positive[0]))), share


def test_intervals_cover_the_median_and_errors_the_pvalue() -> None:
    attention, scores = planted.rows(1, 8), draws(1, 8, seed=2)
    median, share = true_median(attention[0], scores[0])
    size = 1500
    inputs = planted.whole(attention.expand(size, -1), scores.expand(size, -1))
    result = permutation_test(planted.Sigmoid(), inputs, n_permutations=60, seed=0)
    assert not result.exact.any() and 0.1 < share < 0.9
    covered = (result.median_low <= median) & (median <= result.median_high)
    nominal = 1 - 2 * stats.binom.cdf(21, 60, 0.5)  # between the ranked 22nd and 39th
    assert 0.95 < nominal < 0.98
    rate = float(covered.double().mean())
    assert rate == pytest.approx(nominal, abs=4 * math.sqrt(nominal * (1 - nominal) / size))
    assert (result.median_low <= result.median_tvd).all()
    assert (result.median_tvd <= result.median_high).all()
    spread = float(result.pvalue.std())
    assert float(result.pvalue_error.mean()) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_shuffles_give_their_extremes(count: int) -> None:
    result = permutation_test(
        planted.Sigmoid(), planted.whole(planted.rows(3, 9), draws(3, 9)),
        n_permutations=count, seed=0,
    )  # fmt: skip
    assert torch.equal(result.median_low, result.tvd.amin(1))
    assert torch.equal(result.median_high, result.tvd.amax(1))


def test_summary_counts_what_was_enumerated(text_case: Case) -> None:
    ids = texts((5, 9, 3, 10))
    result = permutation_test(text_case.model, ids, n_permutations=20, seed=0)
    notes = result.summary().notes
    assert notes["instances with every order enumerated"] == 2
    expected = float(result.effect.mean())
    assert notes["mean effect of the own order in standard deviations"] == pytest.approx(expected)
    none = permutation_test(Scored("softmax", torch.tanh), padded((9, 8), 3), seed=0).summary()
    notes = none.to_dict()["notes"]
    assert notes["mean effect of the own order in standard deviations"] is None
