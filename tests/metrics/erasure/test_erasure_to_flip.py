"""Steps to the flip against a slow loop, the optimum against all sets, and what is undefined."""

from __future__ import annotations

import math
from typing import Any

import planted
import pytest
import torch
from cases import Case, make_case
from erasing import Replayed, Scored, Slow, draws, instances
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faithattn import (
    AdapterError,
    AttentionView,
    FlipResult,
    Run,
    erasure_to_flip,
    explain,
    memory_budget,
)
from faithattn.adapters.reading import read
from faithattn.explanations import controls
from faithattn.explanations.kinds import KINDS
from faithattn.measures.draws import sort_keys
from faithattn.metrics.erasure.steps import Foreseen, first_flips
from tests.metrics.stack import Stack
from tests.metrics.stack import inputs as stacked

ORDERS = ("attention", "attention_gradient", "gradient_attention", "random", "optimal")
EITHER = pytest.mark.parametrize("renormalize", [True, False], ids=["renormalized", "zeroed"])


def assert_flip(
    result: FlipResult, b: int, order: int, expected: tuple[int, float] | None, length: int
) -> None:
    count, mass = expected or (math.nan, math.nan)
    assert float(result.count[b, order]) == pytest.approx(count, nan_ok=True)
    assert float(result.fraction[b, order]) == pytest.approx(count / length, nan_ok=True)
    assert float(result.removed_mass[b, order]) == pytest.approx(mass, nan_ok=True, abs=1e-9)
    assert float(result.flipped[b, order]) == float(expected is not None)
    censored = count / length if expected else 1.0
    assert float(result.censored[b, order]) == pytest.approx(censored)


def agrees_with_the_loop(
    model: Any, inputs: Any, site: str, renormalize: bool, exact: bool = True
) -> FlipResult:
    given = draws(*model.run(inputs).mask.shape, seed=9)
    result = erasure_to_flip(
        model, inputs, orders=(*ORDERS, given), renormalize=renormalize, seed=4, n_random=3
    )
    assert result.orders == (*ORDERS, "given scores")
    mask = model.run(inputs).mask
    keys = -sort_keys(4, torch.arange(len(mask)), 0, 3, mask).double()
    least = 2 if renormalize else 1
    for b, slow in enumerate(instances(model, inputs, site)):
        length = len(slow.positions)
        if length < least:
            assert result.flipped[b].isnan().all() and result.censored[b].isnan().all()
            continue
        slope = slow.gradient().sum(0)
        product = (slow.gradient() * slow.rows).sum(0)
        orders = {0: slow.weights, 1: slope, 2: product, 5: given[b]}
        for index, scores in orders.items():
            assert_flip(result, b, index, slow.flip(slow.by(scores), renormalize), length)
        each = [slow.flip(slow.by(keys[b, draw]), renormalize) for draw in range(3)]
        shares = [flip[0] / length if flip else math.nan for flip in each]
        assert result.random_fraction[b].tolist() == pytest.approx(shares, nan_ok=True)
        assert float(result.flipped[b, 3]) == pytest.approx(sum(map(bool, each)) / 3)
        whole = [1.0 if math.isnan(share) else share for share in shares]
        assert float(result.censored[b, 3]) == pytest.approx(sum(whole) / 3)
        if exact:
            assert_fewest(result, b, 4, slow, renormalize)
        else:
            assert result.flipped[b, 4].isnan() and result.censored[b, 4].isnan()
    return result


def assert_fewest(result: FlipResult, b: int, order: int, slow: Slow, renormalize: bool) -> None:
    fewest = slow.fewest(renormalize)
    assert float(result.flipped[b, order]) == float(fewest is not None)
    assert float(result.count[b, order]) == pytest.approx(fewest or math.nan, nan_ok=True)


@EITHER
@pytest.mark.parametrize("name", ["bag", "text-bilstm-additive", "text-cnn-scaled_dot"])
def test_one_sigmoid_agrees_with_the_loop(name: str, renormalize: bool) -> None:
    case = make_case(name)
    result = agrees_with_the_loop(case.model, case.inputs, site_of(case), renormalize)
    assert float(result.flipped[:, 4].nanmean()) > 0
    assert result.replay == "adapter"


@EITHER
def test_a_decoder_with_a_bend_agrees_with_the_loop(renormalize: bool) -> None:
    case = make_case("question-bilstm-scaled_dot")
    agrees_with_the_loop(case.model, case.inputs, site_of(case), renormalize, exact=False)


@EITHER
@pytest.mark.parametrize("kind", [Replayed, Scored])
@pytest.mark.parametrize("count", [1, 3])
def test_logits_agree_with_the_loop(kind: type[Scored], count: int, renormalize: bool) -> None:
    flips = 0.0
    for seed in range(3):
        attention = draws(8, 6, seed=seed).softmax(-1)
        constant = (0.4,) if count == 1 else (0.0, 0.3, -0.2)
        scores = 2 * draws(8, 6, count, seed=10 + seed)
        model = kind(attention, scores, constant=constant)
        result = agrees_with_the_loop(model, None, "row", renormalize)
        flips += float(result.flipped[:, 4].mean())
        assert result.replay == ("adapter" if kind is Replayed else "whole forwards")
    assert flips > 1.5


@EITHER
@pytest.mark.parametrize("kind", [Replayed, Scored])
def test_bent_logits_agree_with_the_loop(kind: type[Scored], renormalize: bool) -> None:
    attention, scores = draws(8, 6).softmax(-1), 2 * draws(8, 6, 3, seed=1)
    model = kind(attention, scores, constant=(0.0, 0.3, -0.2), head=lambda z: (2 * z).sin())
    agrees_with_the_loop(model, None, "row", renormalize, exact=False)


def test_several_rows_lose_the_same_positions() -> None:
    own = (2 * draws(40, 3, 1, 5)).softmax(-1)  # masses without the first differ by row
    mask = torch.ones(40, 5, dtype=torch.bool)
    mask[:, 0] = False  # a special token keeps its weight in every row
    scores = 2 * draws(40, 3, 1, 5, 1, seed=3)
    view = AttentionView("row")
    for renormalize in (True, False):
        model = Replayed(own, scores, constant=(0.2,), mask=mask)
        result = erasure_to_flip(
            model, None, orders=ORDERS, renormalize=renormalize, seed=4, view=view
        )
        for b, slow in enumerate(instances(model, None, "row")):
            slope = slow.gradient()
            every = (slow.weights, slope.sum(0), (slope * slow.rows).sum(0))
            for index, by in enumerate(every):
                assert_flip(result, b, index, slow.flip(slow.by(by), renormalize), 4)
            if renormalize:
                assert result.flipped[b, 4].isnan()  # no closed form: sums of ratios
            else:
                assert_fewest(result, b, 4, slow, renormalize)


@pytest.mark.parametrize("causal", [False, True])
def test_rows_of_a_transformer(causal: bool) -> None:
    model, inputs = Stack(causal=causal), stacked()
    view = AttentionView(0, heads=1)
    result = erasure_to_flip(model, inputs, orders=("attention",), view=view)
    own = model.run(inputs)
    weights = own.attention["layers.0"].detach()
    for b in range(3):
        real = inputs["real"][b]
        rows = real.nonzero()[:, 0].tolist()
        valid = torch.zeros(len(rows), 6, dtype=torch.bool) | inputs["mask"][b]
        valid &= own.support["layers.0"][b, 1][rows] if own.support else True

        def logits(changed: Tensor, b: int = b, rows: Any = rows) -> Tensor:
            mixed = weights.clone()
            mixed[b, 1, rows] = changed
            return model.run(inputs, attention={"layers.0": mixed}).logits[b]

        slow = Slow(weights[b, 1, rows], valid, logits, "softmax")
        expected = slow.flip(slow.by((slow.rows * valid).sum(0)), True)
        assert_flip(result, b, 0, expected, len(slow.positions))


def site_of(case: Case) -> str:
    (site,) = case.model.run(case.inputs).attention
    return site


def test_by_hand() -> None:
    # z = .5 * 1 + .3 * (-2) + .2 * 1 + .05 = .15: the decision is 1.
    own = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    scores = torch.tensor([[[1.0], [-2.0], [1.0]]], dtype=torch.float64)
    model = Replayed(own, scores, constant=(0.05,))
    orders = (
        "attention",
        "attention_gradient",
        "gradient_attention",
        "optimal",
        torch.tensor([[1.0, 3, 2]]),
    )
    zeroed = erasure_to_flip(model, None, orders=orders, renormalize=False)
    # Without position 0: -.35. Without 1 and 2: .55, which stays 1; without all: .05, stays.
    assert zeroed.count[0, :4].tolist() == [1, 1, 1, 1]
    assert zeroed.removed_mass[0].tolist()[:4] == pytest.approx([0.5] * 4)
    assert zeroed.flipped[0, 4] == 0 and zeroed.count[0, 4].isnan()
    assert zeroed.censored[0].tolist() == pytest.approx([1 / 3] * 4 + [1])
    # Renormalised, 1 and 2 gone leave a weight of 1 on position 0: z = 1.05.
    whole = erasure_to_flip(model, None, orders=orders)
    assert whole.count[0, :4].tolist() == [1, 1, 1, 1] and whole.flipped[0, 4] == 0


def test_a_flip_need_not_last_and_the_first_counts() -> None:
    own = torch.tensor([[0.4, 0.35, 0.25]], dtype=torch.float64)
    scores = torch.tensor([[[2.0], [-2.0], [0.5]]], dtype=torch.float64)
    model = Replayed(own, scores)  # z = .225; without 0: -.575; without 0 and 1: .125
    result = erasure_to_flip(model, None, orders="attention", renormalize=False)
    assert result.count[0, 0] == 1
    model = Replayed(own, scores, head=lambda z: z + 0 * z.square())  # the same by replay
    assert erasure_to_flip(model, None, orders="attention", renormalize=False).count[0, 0] == 1


def test_equal_values_never_flip_and_that_is_proved() -> None:
    result = erasure_to_flip(*planted.indifferent(), orders=ORDERS)
    assert (result.flipped == 0).all() and result.fraction.isnan().all()
    assert (result.censored == 1).all()
    assert result.table()[4]["flipped"] == 0
    notes = result.summary().notes
    assert notes["never flipped by attention"] == 6 and notes["mean share by optimal"] == 1
    # Zeroed weights shrink the logit of .7, which only without any of them is 0.
    zeroed = erasure_to_flip(*planted.indifferent(), orders=ORDERS, renormalize=False)
    assert (zeroed.count == 9).all() and (zeroed.censored == 1).all()
    assert (zeroed.flipped == 1).all() and (zeroed.removed_mass > 1 - 1e-9).all()


def test_faithful_attention_is_in_the_optimal_order_of_what_supports_the_decision() -> None:
    _, (attention, signs, mask) = planted.faithful(40)
    inputs = (attention, signs, mask)
    supports = torch.where((attention * signs).sum(-1, keepdim=True) > 0, signs, -signs)
    result = erasure_to_flip(
        planted.Sigmoid(),
        inputs,
        orders={"signed": attention * supports, "least": "optimal", "chance": "random"},
        renormalize=False,
        seed=0,
    )
    assert result.orders == ("signed", "least", "chance")
    torch.testing.assert_close(result.censored[:, 0], result.censored[:, 1])
    assert 0.05 < float(result.censored[:, 0].mean()) < float(result.censored[:, 2].mean())


@given(
    st.integers(0, 10**6), st.integers(2, 7), st.sampled_from([1, 2, 3]), st.booleans(),
    st.floats(0.1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_order_is_earlier_than_the_optimum(
    seed: int, length: int, count: int, renormalize: bool, spread: float
) -> None:
    attention = (spread * draws(4, length, seed=seed)).softmax(-1)
    model = Replayed(attention, draws(4, length, count, seed=seed + 1), constant=[0.1] * count)
    result = erasure_to_flip(model, None, orders=ORDERS, renormalize=renormalize, seed=seed)
    assert (result.censored[:, 4:] <= result.censored + 1e-12).all()
    assert ((result.flipped[:, 4] == 1) | (result.flipped == 0).all(-1)).all()
    for b, slow in enumerate(instances(model, None, "row")):
        assert_fewest(result, b, 4, slow, renormalize)
    # The same positions in another order are the same.
    turned = Replayed(attention.flip(-1), model.scores.flip(1), constant=[0.1] * count)
    other = erasure_to_flip(turned, None, orders=ORDERS[:3], renormalize=renormalize)
    torch.testing.assert_close(other.censored, result.censored[:, :3])


def test_the_model_overrules_what_was_foreseen() -> None:
    model = Replayed(draws(30, 6).softmax(-1), 2 * draws(30, 6, 1, seed=1))
    reading = read(model, None)
    ranks = draws(30, 2, 6, seed=2).argsort(-1).argsort(-1)
    possible = torch.ones(30, 2, 6, dtype=torch.bool)
    true = first_flips(reading, ranks, possible, None, renormalize=False)
    assert len(true.unique()) > 3
    every, none = possible, ~possible
    # A flip that does not come has all steps asked again.
    at_once = first_flips(reading, ranks, possible, Foreseen(none, every), renormalize=False)
    assert torch.equal(at_once, true)
    # So has one that comes a step earlier than was said, or at the end of what never flips.
    late = torch.arange(1, 7) == true[..., None] + 1
    found = first_flips(reading, ranks, possible, Foreseen(~late, late), renormalize=False)
    assert torch.equal(found[true < 6], true[true < 6])
    last = Replayed(model.attention, model.scores, head=lambda z: z.abs() - 1e-9)
    reading = read(last, None)  # without any weight alone the logit is negative
    found = first_flips(reading, ranks, possible, Foreseen(every, none), renormalize=False)
    assert (found == 6).all()


class Normalised(Replayed):
    """Divides by the sum of the weights: affine on the simplex, bent off it."""

    def logits(self, weights: Tensor) -> Tensor:
        total = weights.sum(-1, keepdim=True)
        return super().logits(weights / torch.where(total > 0, total, 1)) - (total == 0) * 9.0


def test_affine_on_the_simplex_alone_is_seen() -> None:
    model = Normalised(draws(8, 6).softmax(-1), 2 * draws(8, 6, 1, seed=1), constant=(0.3,))
    agrees_with_the_loop(model, None, "row", True)
    agrees_with_the_loop(model, None, "row", False, exact=False)


def test_affine_models_are_asked_for_little() -> None:
    model = Replayed(draws(8, 60).softmax(-1), 2 * draws(8, 60, 1, seed=1), constant=(0.3,))
    erasure_to_flip(model, None, seed=0)
    affine = model.replays
    model = Replayed(
        draws(8, 60).softmax(-1), 2 * draws(8, 60, 1, seed=1), head=lambda z: z + (9 * z).sin()
    )
    erasure_to_flip(model, None, seed=0)
    assert affine < 40 < model.replays


@EITHER
def test_whole_forwards_stop_at_the_last_flip(renormalize: bool) -> None:
    model = Scored(
        draws(1, 12).softmax(-1), 2 * draws(1, 12, 1, seed=1), head=lambda z: z + z.square()
    )
    result = erasure_to_flip(model, None, orders="attention", renormalize=renormalize)
    steps = 12 - renormalize if result.count.isnan().any() else int(result.count[0, 0])
    # The run itself, 4 of a look for a bend, at most 4 at first.
    assert model.forwards <= 1 + 4 + max(steps, 4) + 1


@pytest.mark.parametrize("output", ["identity", "sigmoid"])
def test_what_decides_nothing_is_undefined(output: str) -> None:
    model = Replayed(draws(3, 5).softmax(-1), draws(3, 5, 2), constant=(0, 0), output=output)
    result = erasure_to_flip(model, None, orders=ORDERS)
    for name in ("fraction", "censored", "count", "removed_mass", "flipped"):
        assert getattr(result, name).isnan().all(), name
    assert result.summary().overall.undefined == 3


def test_short_instances() -> None:
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    own = torch.tensor([[0.6, 0.4], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    scores = torch.tensor([[[2.0], [-1.0]]] * 3, dtype=torch.float64)
    model = Replayed(own, scores, constant=(-0.1,), mask=mask)
    whole = erasure_to_flip(model, None, orders=("attention", "random"))
    assert whole.flipped[:, 0].tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert whole.summary().overall.undefined == 2
    zeroed = erasure_to_flip(model, None, orders=("attention", "random"), renormalize=False)
    assert zeroed.count[:, 0].tolist() == pytest.approx([1, 1, math.nan], nan_ok=True)


def test_weights_of_zero_leave_nothing_to_renormalise() -> None:
    own = torch.tensor([[0.7, 0.3, 0.0, 0.0]], dtype=torch.float64)
    scores = torch.tensor([[[1.0], [1.0], [-9.0], [-9.0]]], dtype=torch.float64)
    model = Replayed(own, scores, constant=(-0.5,))
    result = erasure_to_flip(model, None, orders=ORDERS, seed=0)
    assert (result.flipped == 0).all()  # not even by all sets: what is left is 1 on some of 0, 1
    assert (erasure_to_flip(model, None, orders=ORDERS, renormalize=False).flipped == 1).all()


def test_ties_at_the_threshold_are_the_models() -> None:
    """Without any weight the logit is 0 and the decision 0, up to the last bit."""
    for dtype in (torch.float32, torch.float64):
        own = draws(20, 9, seed=5).softmax(-1).to(dtype)
        scores = draws(20, 9, 1, seed=6).abs().to(dtype)
        model = Replayed(own, scores)
        result = erasure_to_flip(model, None, orders=ORDERS, renormalize=False, seed=0)
        assert (result.count == 9).all() and (result.removed_mass > 1 - 1e-6).all()


def test_a_saturated_probability_has_an_order_by_gradient() -> None:
    own = torch.full((1, 4), 0.25)
    scores = torch.tensor([[[100.0], [900.0], [500.0], [900.0]]])
    model = Replayed(own, scores, constant=(-310.0,))
    assert model.run(None).logits.sigmoid() == 1
    result = erasure_to_flip(
        model, None, orders=("attention_gradient", "attention"), renormalize=False
    )
    assert result.count[0].tolist() == [2, 3]


def test_given_scores() -> None:
    model = Replayed(draws(2, 4).softmax(-1), draws(2, 4, 1, seed=1))
    scores = draws(2, 4, seed=2)
    scores[1, 2] = torch.nan
    one = erasure_to_flip(model, None, orders=scores, renormalize=False)
    assert one.orders == ("given scores",) and one.flipped[1].isnan().all()
    assert not one.flipped[0].isnan().any()
    two = erasure_to_flip(model, None, orders=[scores, -scores], seed=0)
    assert two.orders == ("given scores", "given scores 2")
    records = two.records()[1]
    assert records["censored_given scores 2"] is None and "flipped_given scores" in records


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"orders": ()}, ValueError, "orders must name at least one order; got none"),
        ({"orders": [3]}, TypeError, r"orders must hold names or scores \(B, L\); got int"),
        ({"orders": ["random", "random"]}, ValueError, "name each order once; got 'random' twice"),
        ({"orders": {}}, ValueError, "orders must name at least one order; got none"),
        ({"orders": 3}, TypeError, "orders must be a name, scores .*, or a mapping.*; got int"),
        ({"orders": {"mine": 3}}, TypeError, r"orders must hold names or scores .*; got int"),
        ({"orders": ["best"]}, ValueError, r"orders must hold 'optimal' or names.*; got 'best'"),
        ({"orders": torch.zeros(6, 3)}, ValueError, r"one score a position, shape \(6, 9\)"),
        ({"n_random": 0}, ValueError, "n_random must be at least 1; got 0"),
        ({"seed": 0.5}, TypeError, "seed must be a whole number; got 0.5"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        erasure_to_flip(*planted.indifferent(), **options)
    result = erasure_to_flip(*planted.indifferent(), seed=0)
    with pytest.raises(ValueError, match=r"order must be one of attention, .*; got 'flow'"):
        result.summary("flow")


def test_an_order_that_never_flips_is_later_than_random() -> None:
    own = torch.tensor([[0.5, 0.3, 0.2]] * 40, dtype=torch.float64)
    scores = torch.tensor([[[1.0], [-2.0], [1.0]]] * 40, dtype=torch.float64)
    model = Replayed(own, scores, constant=(0.05,))
    never, first = (torch.tensor([order] * 40).double() for order in ([1, 3, 2], [3, 1, 2]))
    result = erasure_to_flip(
        model, None, orders={"never": never, "first": first, "random": "random"},
        renormalize=False, n_random=1, seed=0,
    )  # fmt: skip
    flips = result.flipped[:, 2] == 1
    assert 0 < int(flips.sum()) < 40 and (result.flipped[:, 0] == 0).all()
    rows = {row["order"]: row for row in result.table()}
    # The first order flips at once; random ones do at 1 or 2 of 3 weights, or never.
    assert rows["never"]["earlier_than_random"] == 0
    assert rows["first"]["earlier_than_random"] == 1


def test_scores_that_are_drawn_go_with_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """As random orders do: by seed and id, whatever else is in the batch."""
    monkeypatch.setitem(KINDS, "drawn", controls.random)
    case, ids = make_case("text-bilstm-additive"), torch.tensor([4, 9, 2, 7, 5])
    options: dict[str, Any] = {"renormalize": False, "seed": 3}
    whole = erasure_to_flip(case.model, case.inputs, orders="drawn", instances=ids, **options)
    scores = explain(case.model, case.inputs, kind="drawn", seed=3, instances=ids)
    own = erasure_to_flip(case.model, case.inputs, orders=scores, **options)
    assert torch.equal(whole.censored, own.censored)
    other = erasure_to_flip(case.model, case.inputs, orders="drawn", **options)
    assert not torch.equal(whole.censored, other.censored)


def test_a_model_without_derivative() -> None:
    class Numbers(Replayed):
        def logits(self, weights: Tensor) -> Tensor:
            return torch.from_numpy(super().logits(weights).numpy())

    model = Numbers(draws(2, 4).softmax(-1), draws(2, 4, 1, seed=1))
    with pytest.raises(AdapterError, match=r"orders must not hold a gradient where .*RuntimeError"):
        erasure_to_flip(model, None)
    plain = erasure_to_flip(model, None, orders=("attention", "random", "optimal"), seed=0)
    assert plain.flipped[:, 2].isnan().all() and not plain.flipped[:, :2].isnan().any()


def test_attention_that_does_not_matter_has_no_gradient() -> None:
    class Deaf(Replayed):
        def logits(self, weights: Tensor) -> Tensor:
            return super().logits(torch.ones_like(weights))

    scores = draws(2, 4, 1).requires_grad_()
    result = erasure_to_flip(Deaf(draws(2, 4).softmax(-1), scores), None, seed=0)
    assert (result.flipped == 0).all()


def test_a_chunk_is_as_good_as_the_whole(case: Case) -> None:
    whole = erasure_to_flip(case.model, case.inputs, orders=ORDERS, seed=1)
    with memory_budget(1e-6):
        pieces = erasure_to_flip(case.model, case.inputs, orders=ORDERS, seed=1)
    for name in ("censored", "removed_mass", "random_fraction", "flipped"):
        torch.testing.assert_close(getattr(pieces, name), getattr(whole, name), equal_nan=True)


def test_run_is_not_kept(text_case: Case) -> None:
    weights = {name: value.clone() for name, value in text_case.model.state_dict().items()}
    erasure_to_flip(text_case.model, text_case.inputs, orders=ORDERS, seed=1)
    assert all(value.grad is None for value in text_case.model.parameters())
    for name, value in text_case.model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert isinstance(text_case.model.run(text_case.inputs), Run)
