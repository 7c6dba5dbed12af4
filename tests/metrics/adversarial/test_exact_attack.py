"""The exact method on models: which it takes, what the model confirms, and what K optima share."""

from __future__ import annotations

import itertools
import math
from typing import Any

import oracles
import planted
import pytest
import torch
from cases import Case, make_case, texts
from readouts import Readout, distance, rows, squashed, values
from torch import Tensor

from faithattn import (
    AdversarialResult,
    AttentionView,
    Plausible,
    adversarial_attention,
    exact_adversary,
    total_variation_distance,
)

LN2 = math.log(2)


def exact(model: Any, inputs: Any = None, **options: Any) -> AdversarialResult:
    return adversarial_attention(model, inputs, method="exact", seed=0, **options)


@pytest.mark.parametrize("epsilon", [1e-6, 0.01, 0.05, 0.7])
@pytest.mark.parametrize("name", ["text-bilstm-additive", "text-average-scaled_dot", "bag"])
def test_agrees_with_the_pure_function_and_the_model(name: str, epsilon: float) -> None:
    case = make_case(name)
    result = exact(case.model, case.inputs, epsilon=epsilon)
    run = case.model.run(case.inputs)
    (site,) = run.attention
    own = run.attention[site].detach()
    mask = run.mask
    ones = torch.eye(own.shape[1]).double()[:, None].expand(-1, len(own), -1)
    scores = case.model.replay(run.state, {site: ones})[..., 0].T.detach()
    rest = case.model.replay(run.state, {site: 0 * own[None]})[0, :, 0].detach()
    scores = (scores - rest[:, None]).masked_fill(~mask, 0)
    expected = exact_adversary(own, scores, rest, epsilon=epsilon, mask=mask)[1]
    torch.testing.assert_close(result.max_jsd, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(result.upper_bound, expected, atol=1e-9, rtol=0)
    assert result.certified.all() and result.method == "exact"
    assert set(result.endings) == {"the optimum, in closed form"}
    for k in range(5):
        after = case.model.run(case.inputs, attention={site: result.attention[:, k]}).logits
        change = (after.sigmoid() - run.logits.sigmoid()).abs()[:, 0]
        torch.testing.assert_close(result.tvd[:, k], change)
        assert (change <= epsilon + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_confirms_every_optimum_in_its_own_precision(dtype: torch.dtype) -> None:
    model = Readout(rows(400, 12).to(dtype), values(400, 12, 1, scale=4).to(dtype), "sigmoid")
    result = exact(model, epsilon=0.01)
    assert (result.tvd <= 0.01).all() and result.feasible.all() and result.certified.all()
    assert float((result.upper_bound - result.max_jsd).max()) <= 1e-4


def test_two_classes_are_one_number() -> None:
    own, two = rows(20, 9), values(20, 9, 2)
    softmax = exact(Readout(own, two, "softmax"), epsilon=0.03)
    sigmoid = exact(Readout(own, two[..., 1:] - two[..., :1], "sigmoid"), epsilon=0.03)
    torch.testing.assert_close(softmax.max_jsd, sigmoid.max_jsd)


def test_regression_of_one_number_against_a_grid() -> None:
    own, scores = rows(6, 3), values(6, 3, 1)
    result = exact(Readout(own, scores, "identity"), epsilon=0.2)
    steps = 400
    cuts = itertools.combinations_with_replacement(range(steps + 1), 2)
    grid = torch.tensor([(a, b - a, steps - b) for a, b in cuts]).double() / steps
    for row in range(6):
        before = (own[row] * scores[row, :, 0]).sum()
        near = (grid * scores[row, :, 0]).sum(-1)
        jsd = divergence(grid, own[row])
        assert jsd[(near - before).abs() <= 0.2].max() <= result.max_jsd[row] + 1e-9
        wide = (near - before).abs() <= 0.2 + 3 / steps * float(scores[row].abs().max())
        assert jsd[wide].max() >= result.max_jsd[row] - 3 * math.log(steps) / steps


def divergence(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    parts = [torch.special.xlogy(x, x) - torch.special.xlogy(x, middle) for x in (p, q)]
    return (parts[0] + parts[1]).sum(-1) / 2


@pytest.mark.parametrize("length", [9, 70, 200])
def test_optima_share_no_position_and_are_the_best_of_what_is_left(length: int) -> None:
    own, scores = rows(5, length), values(5, length, 1)
    result = exact(Readout(own, scores, "sigmoid"), n_adversaries=4, epsilon=0.02)
    logit = (own * scores[..., 0]).sum(-1)
    for row in range(5):
        mask, expected = torch.ones(length).bool(), []
        for _ in range(4):
            best = best_of_all(own[row], scores[row, :, 0], float(logit[row]), mask)
            if best is None:  # nothing is left that meets epsilon: the first again
                best = (expected[0][0], expected[0][1])
            expected.append(best)
            mask &= best[1] == 0
        values_found = sorted((value for value, _ in expected), reverse=True)
        assert result.jsd[row].tolist() == pytest.approx(values_found, abs=1e-6)
        distinct = {tuple(one.nonzero()[:, 0].tolist()) for one in result.attention[row]}
        assert sum(map(len, distinct)) == len({place for one in distinct for place in one})


def best_of_all(
    own: Tensor, scores: Tensor, logit: float, mask: Tensor
) -> tuple[float, Tensor] | None:
    """Every single position and every pair of a mask, at both ends."""
    ends = [math.log(p / (1 - p)) for p in (sigmoid(logit) - 0.02, sigmoid(logit) + 0.02)
            if 0 < p < 1]  # fmt: skip
    open_ends = [-math.inf, math.inf]
    low = ends[0] if sigmoid(logit) > 0.02 else open_ends[0]
    high = ends[-1] if sigmoid(logit) < 0.98 else open_ends[1]
    places = mask.nonzero()[:, 0]
    tried = [torch.zeros_like(own).index_fill_(0, t, 1) for t in places if low <= scores[t] <= high]
    for end in (low, high):
        if not math.isfinite(end):
            continue
        left, right = places[scores[places] < end], places[scores[places] > end]
        first, second = (each.flatten() for each in torch.meshgrid(left, right, indexing="ij"))
        share = (scores[second] - end) / (scores[second] - scores[first])
        pairs = torch.zeros(len(first), len(own)).double()
        pairs.scatter_(1, first[:, None], share[:, None])
        tried += list(pairs.scatter_(1, second[:, None], 1 - share[:, None]))
    if not tried:
        return None
    jsd = divergence(torch.stack(tried), own)
    return float(jsd.max()), tried[int(jsd.argmax())]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_only_named_positions_change() -> None:
    own, scores = rows(30, 8), values(30, 8, 1)
    free = torch.arange(8) % 2 == 0
    result = exact(Readout(own, scores, "sigmoid"), constraints=Plausible(positions=free))
    torch.testing.assert_close(result.attention[..., ~free], own[:, None, ~free].expand(-1, 5, -1))
    sums = result.attention.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    # The named positions by themselves: a smaller simplex, whose logit the others shift.
    mass = own[:, free].sum(-1)
    inner, rest = own[:, free] / mass[:, None], (own * scores[..., 0])[:, ~free].sum(-1)
    for row in range(30):
        alone = exact_adversary(
            inner[row : row + 1], mass[row] * scores[row : row + 1, free, 0], rest[row],
            epsilon=0.01,
        )[1]  # fmt: skip
        assert float(result.max_jsd[row]) == pytest.approx(float(mass[row] * alone), abs=1e-6)


def test_rows_without_a_free_position_stay() -> None:
    own, scores = rows(2, 4), values(2, 4, 1)
    none = Plausible(positions=torch.zeros(4).bool())
    result = exact(Readout(own, scores, "sigmoid"), constraints=none)
    torch.testing.assert_close(result.attention[:, 0], own)
    assert result.max_jsd.tolist() == [0, 0] and result.certified.all()


def test_one_word_and_no_word(text_case: Case) -> None:
    result = exact(text_case.model, texts((5, 1, 0)))
    assert float(result.max_jsd[1]) == 0 and bool(result.certified[1])
    assert math.isnan(float(result.max_jsd[2])) and not bool(result.certified[2])
    assert result.attention.isfinite().all() and result.strongest.isfinite().all()


def test_saturated_outputs_leave_all_room() -> None:
    own, scores = rows(4, 6), 200 + values(4, 6, 1)
    result = exact(Readout(own, scores, "sigmoid"))
    corners = [
        max(oracles.jsd(list(one), row) for one in torch.eye(6).tolist()) for row in own.tolist()
    ]
    assert result.max_jsd.tolist() == pytest.approx(corners, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "view", "constraints", "reason"),
    [
        (Readout(rows(2, 4), values(2, 4, 3), "softmax"), None, None, "a function of 3 logits"),
        (
            Readout(rows(2, 4), values(2, 4, 1), "sigmoid", lambda z: 3 * z.sin()),
            None, None, "not affine",
        ),
        (planted.Heads(), AttentionView("heads", heads=(0, 1), query=0), None, "has 2 rows"),
        (
            Readout(rows(2, 4), values(2, 4, 1), "sigmoid"), None, Plausible(max_change=0.1),
            "constraints limit more than the positions",
        ),
    ],
)  # fmt: skip
def test_where_there_is_no_closed_form(
    model: Any, view: Any, constraints: Any, reason: str
) -> None:
    inputs = torch.zeros(3)
    with pytest.raises(
        ValueError, match=f"method must apply to the model; got 'exact', but .*{reason}"
    ):
        exact(model, inputs, view=view, constraints=constraints)
    result = adversarial_attention(model, inputs, view=view, constraints=constraints, seed=0)
    assert result.method == "search"


def test_never_below_the_published_search() -> None:
    model = Readout(rows(64, 15), values(64, 15, 1), "sigmoid")
    found = adversarial_attention(model, None, method="published", seed=0)
    best = exact(model)
    assert (best.max_jsd >= found.max_jsd - 1e-9).all()
    assert (found.upper_bound <= best.max_jsd + 1e-6).all()  # the published one is bounded by it


def test_outputs_are_those_of_the_model() -> None:
    own, two = rows(7, 5), values(7, 5, 2)
    result = exact(Readout(own, two, "softmax"), n_adversaries=2)
    for k in range(2):
        logits = (result.attention[:, k, :, None] * two).sum(1)
        torch.testing.assert_close(result.probabilities[:, k], squashed(logits, "softmax"))
        before = squashed((own[..., None] * two).sum(1), "softmax")
        expected = total_variation_distance(result.probabilities[:, k], before)
        torch.testing.assert_close(result.tvd[:, k], expected)
        torch.testing.assert_close(
            expected, distance(result.probabilities[:, k], before, "softmax")
        )


def test_where_rounding_hides_the_optimum_nothing_is_certified() -> None:
    """Equal scores so large that their mean is none of them, to more than epsilon."""
    own, alike = rows(40, 5), torch.full((40, 5, 1), 1e6 / 3).double()
    result = exact(Readout(own, alike, "identity"), epsilon=1e-12)
    corners = divergence(torch.eye(5).double(), own[:, None]).amax(-1)
    assert (result.upper_bound >= corners - 1e-9).all()
    hidden = result.max_jsd < corners - 1e-3
    assert hidden.any() and not hidden.all() and not result.certified[hidden].any()
    assert {result.endings[row] for row in hidden.nonzero()[:, 0].tolist()} == {
        "the optimum, but the model itself exceeds epsilon on it"
    }
