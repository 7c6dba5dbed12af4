"""The top weight against others: by a slow loop, by hand, and where there is no answer."""

from __future__ import annotations

import itertools
import math
from typing import Any

import oracles
import planted
import pytest
import torch
from cases import Case, make_case
from erasing import Replayed, Scored, Slow, draws, instances
from scipy import stats

from faithattn import SingleErasure, single_weight_erasure
from faithattn.measures.draws import sort_keys
from faithattn.measures.matched import matched_pvalue

EITHER = pytest.mark.parametrize("renormalize", [True, False], ids=["renormalized", "zeroed"])
FIELDS = ("flipped_top", "flipped_other", "change_top", "change_other")


def effect(slow: Slow, position: int, renormalize: bool) -> tuple[float, float]:
    """Whether the decision flips, and the divergence of the output."""
    rows = slow.without([position], renormalize)
    if rows is None:
        return math.nan, math.nan
    before, after = slow.outputs(slow.rows).tolist(), slow.outputs(rows).tolist()
    if slow.output == "identity":
        return math.nan, sum(abs(p - q) for p, q in zip(before, after, strict=True)) / len(before)
    if len(before) == 1:
        before, after = ([p[0], 1 - p[0]] for p in (before, after))
    return float(slow.decision(rows) != slow.decision(slow.rows)), oracles.jsd(before, after)


def agrees_with_the_loop(
    model: Any, inputs: Any, site: str, renormalize: bool, n_random: int | None
) -> SingleErasure:
    result = single_weight_erasure(
        model, inputs, renormalize=renormalize, n_random=n_random, seed=7
    )
    mask = model.run(inputs).mask
    keys = sort_keys(7, torch.arange(len(mask)), 0, 1, mask)[:, 0]
    for b, slow in enumerate(instances(model, inputs, site)):
        if len(slow.positions) < 2:
            assert all(getattr(result, name)[b].isnan() for name in FIELDS)
            assert result.n_others[b] == 0 and not result.exact[b]
            continue
        top, *others = slow.by(slow.weights)
        others = sorted(others, key=lambda t, b=b: int(keys[b, t]))[:n_random]
        assert int(result.n_others[b]) == len(others)
        assert bool(result.exact[b]) == (len(others) == len(slow.positions) - 1)
        of_top = effect(slow, top, renormalize)
        of_others = [effect(slow, t, renormalize) for t in others]
        means = [sum(each) / len(others) for each in zip(*of_others, strict=True)]
        expected = (of_top[0], means[0], of_top[1], means[1])
        for name, value in zip(FIELDS, expected, strict=True):
            found = float(getattr(result, name)[b])
            assert found == pytest.approx(value, abs=1e-12, nan_ok=True), name
        assert float(result.delta_change[b]) == pytest.approx(expected[2] - expected[3], abs=1e-12)
        gap = float(slow.weights[top] - slow.weights[others].mean())
        assert float(result.delta_attention[b]) == pytest.approx(gap)
    return result


@EITHER
@pytest.mark.parametrize("n_random", [1, 3, None])
def test_agrees_with_the_loop(n_random: int | None, renormalize: bool) -> None:
    for name in ("bag", "text-bilstm-additive", "question-average-additive"):
        case = make_case(name)
        (site,) = case.model.run(case.inputs).attention
        agrees_with_the_loop(case.model, case.inputs, site, renormalize, n_random)


@EITHER
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
def test_outputs_of_every_kind(output: str, renormalize: bool) -> None:
    count = 1 if output == "sigmoid" else 3
    for kind in (Scored, Replayed):
        model = kind(draws(9, 5).softmax(-1), 2 * draws(9, 5, count), constant=[0.1] * count,
                     output=output)  # fmt: skip
        result = agrees_with_the_loop(model, None, "row", renormalize, 2)
        assert result.flipped_top.isnan().all() == (output == "identity")
        table = result.flips()
        assert table.undefined == (9 if output == "identity" else 0)
        assert math.isnan(table.pvalue) == (output == "identity")


def test_several_labels_have_no_decision_and_a_mean_divergence() -> None:
    model = Replayed(draws(2, 3).softmax(-1), draws(2, 3, 2), constant=(0, 0), output="sigmoid")
    result = single_weight_erasure(model, None, n_random=None)
    assert result.flipped_top.isnan().all() and result.flips().undefined == 2
    for b, slow in enumerate(instances(model, None, "row")):
        top = slow.by(slow.weights)[0]
        rows = slow.without([top], True)
        pairs = zip(slow.outputs(slow.rows).tolist(), slow.outputs(rows).tolist(), strict=True)
        each = [oracles.jsd([p, 1 - p], [q, 1 - q]) for p, q in pairs]
        assert float(result.change_top[b]) == pytest.approx(sum(each) / 2)


def test_by_hand() -> None:
    # z = .6 - .5 + .1 = .2: without the top -.4 / .4 = -1, without the next .7 / .5 = 1.4.
    own = torch.tensor([[0.6, 0.25, 0.15]], dtype=torch.float64)
    scores = torch.tensor([[[1.0], [-2.0], [2 / 3]]], dtype=torch.float64)
    result = single_weight_erasure(Replayed(own, scores), None, n_random=None)
    p, top, others = (
        [[1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))] for z in zs]
        for zs in ([0.2], [-1.0], [0.7 / 0.75, 0.1 / 0.85])
    )
    assert float(result.change_top) == pytest.approx(oracles.jsd(p[0], top[0]))
    mean = sum(oracles.jsd(p[0], each) for each in others) / 2
    assert float(result.change_other) == pytest.approx(mean)
    assert result.flipped_top == 1 and result.flipped_other == 0 and result.exact.all()
    assert float(result.delta_attention) == pytest.approx(0.4)
    table = result.flips()
    assert (table.both, table.only_top, table.only_other, table.neither) == (0, 1, 0, 0)
    assert table.pvalue == pytest.approx(1 / 3)  # one of the three flips, and it is the top


def test_indifferent_weights_change_nothing() -> None:
    result = single_weight_erasure(*planted.indifferent(), seed=0)
    assert float(result.change_top.max()) < 1e-15 and (result.flipped_top == 0).all()
    assert result.flips().pvalue == 1 and result.flips().neither == 6


def test_the_table_is_mcnemars() -> None:
    own, scores = (0.7 * draws(400, 4)).softmax(-1), 3 * draws(400, 4, 1, seed=1)
    result = single_weight_erasure(Replayed(own, scores), None, seed=0)
    table = result.flips()
    assert table.both + table.only_top + table.only_other + table.neither == 400
    assert table.only_top > table.only_other > 5
    discordant = int(table.only_top + table.only_other)
    exact = stats.binomtest(int(table.only_top), discordant, 0.5).pvalue
    assert table.pvalue == pytest.approx(exact)
    # The table of all others is what the tables of one random other are on average.
    every = single_weight_erasure(Replayed(own, scores), None, n_random=None).flips()
    drawn = [single_weight_erasure(Replayed(own, scores), None, seed=s).flips() for s in range(60)]
    for name in ("both", "only_top", "only_other", "neither"):
        mean = sum(getattr(each, name) for each in drawn) / 60
        assert getattr(every, name) == pytest.approx(mean, abs=2.5), name


def test_matched_sets_by_enumeration() -> None:
    case = torch.tensor([1, 1, 0, 1, 0, 1]).bool().numpy()
    controls = torch.tensor([1, 0, 1, 2, 0, 3]).numpy()
    n_controls = torch.tensor([3, 1, 1, 4, 2, 3]).numpy()
    shares = [(int(c) + int(k)) / (1 + int(n)) for c, k, n in zip(case, controls, n_controls)]  # noqa: B905
    chance = [0.0] * 7
    for marks in itertools.product((0, 1), repeat=6):
        weight = math.prod(q if m else 1 - q for q, m in zip(shares, marks, strict=True))
        chance[sum(marks)] += weight
    seen = chance[int(case.sum())]
    expected = sum(each for each in chance if each <= seen * (1 + 1e-9))
    assert matched_pvalue(case, controls, n_controls) == pytest.approx(expected)
    assert matched_pvalue(case[:0], controls[:0], n_controls[:0]) == 1
    every = torch.ones(900).bool().numpy()
    assert 0 < matched_pvalue(every, 0 * every.astype(int), 50 * every.astype(int)) < 1e-300


def test_matched_sets_keep_their_level() -> None:
    generator = torch.Generator().manual_seed(0)
    size = torch.randint(2, 6, (300, 40), generator=generator)
    marked = (torch.rand(300, 40, generator=generator) * (size + 1)).long()
    case = torch.rand(300, 40, generator=generator) < marked / size
    pvalues = [
        matched_pvalue(c.numpy(), (m - c.long()).numpy(), (n - 1).numpy())
        for c, m, n in zip(case, marked, size, strict=True)
    ]
    assert 0.01 < sum(p <= 0.05 for p in pvalues) / 300 < 0.07


def test_short_instances_and_zero_weights() -> None:
    mask = torch.tensor([[True, True], [True, False], [False, False], [True, True]])
    own = torch.tensor([[0.6, 0.4], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    model = Replayed(own, torch.ones(4, 2, 1, dtype=torch.float64), constant=(-0.1,), mask=mask)
    whole = single_weight_erasure(model, None, seed=0)
    for name in (*FIELDS, "delta_change", "delta_attention"):
        assert getattr(whole, name).isnan().tolist() == [False, True, True, True]
    assert whole.n_others.tolist() == [1, 0, 0, 0]
    assert whole.flips().undefined == 3 and whole.summary().overall.undefined == 3
    zeroed = single_weight_erasure(model, None, seed=0, renormalize=False)
    assert zeroed.delta_change.isnan().tolist() == [False, True, True, False]
    assert zeroed.flipped_top[3] == 1  # nothing is left but the constant


def test_bins_of_the_difference_in_attention() -> None:
    own, scores = (1.5 * draws(300, 5)).softmax(-1), 2 * draws(300, 5, 1, seed=1)
    result = single_weight_erasure(Replayed(own, scores), None, seed=0)
    rows = result.by_delta_attention()
    assert sum(row["n"] for row in rows) == 300
    for row in rows:
        inside = (result.delta_attention >= row["from"]) & (result.delta_attention < row["to"])
        chosen = result.delta_change[inside]
        assert row["mean"] == pytest.approx(float(chosen.mean()))
        assert row["negative"] == pytest.approx(float((chosen < 0).double().mean()))
    assert rows[0]["negative"] > rows[-1]["negative"]
    gaps, changes = result.delta_attention.numpy(), result.delta_change.numpy()
    slope = result.summary().notes["slope on the difference of weights"]
    assert slope == pytest.approx(stats.linregress(gaps, changes).slope)
    outside = result.by_delta_attention((0.1, 0.2))
    inside = (result.delta_attention >= 0.1) & (result.delta_attention <= 0.2)
    assert outside[0]["n"] == int(inside.sum()) < int((result.delta_attention >= 0.1).sum())


def test_draws_are_different_others_and_nested(text_case: Case) -> None:
    def changes(count: int | None, seed: int) -> Any:
        return single_weight_erasure(
            text_case.model, text_case.inputs, n_random=count, seed=seed
        ).change_other

    assert not torch.equal(changes(1, 0), changes(1, 1))
    torch.testing.assert_close(changes(1, 3), changes(1, 3), atol=0, rtol=0)
    every = single_weight_erasure(text_case.model, text_case.inputs, n_random=100, seed=5)
    torch.testing.assert_close(every.change_other, changes(None, 2))
    assert every.exact.all()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n_random": 0}, ValueError, "n_random must be at least 1; got 0"),
        ({"n_random": 1.5}, TypeError, r"n_random must be a whole number; got 1.5"),
        ({"seed": "a"}, TypeError, "seed must be a whole number; got 'a'"),
        ({"instances": torch.arange(2)}, ValueError, "instances must have one id per row"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        single_weight_erasure(*planted.indifferent(), **options)
