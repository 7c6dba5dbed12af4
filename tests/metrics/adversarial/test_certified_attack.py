"""The certified method on models: lower <= optimum <= upper, by every point of a grid."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from grids import OUTPUTS, Grid, assert_confirmed, bend, readout, simplex
from hypothesis import given, settings
from readouts import Readout, rows, values
from torch import Tensor

from faithattn import (
    AdversarialResult,
    AttentionView,
    Plausible,
    Run,
    adversarial_attention,
    exact_adversary,
)
from faithattn.measures.adversary.outcomes import OUTCOMES

HEADS = AttentionView("row", heads=(0, 1), query=0)
CLASSES = tuple((count, "softmax") for count in (3, 4, 6, 10))
MANY = (*CLASSES, (2, "sigmoid"), (3, "sigmoid"), (2, "identity"), (4, "identity"))
KINDS = pytest.mark.parametrize("kind", MANY, ids=lambda kind: f"{kind[1]}-{kind[0]}")


def certified(model: Any, inputs: Any = None, **options: Any) -> AdversarialResult:
    chosen = {"method": "certified", "seed": 0, "epsilon": 0.05, "n_steps": 100, **options}
    return adversarial_attention(model, inputs, **chosen)


def assert_bracketed(
    result: AdversarialResult, grid: Grid, epsilon: float, allowed: Tensor | None = None
) -> None:
    """The ceiling is above all that is allowed, and what was found is no more than that."""
    best = grid.best(epsilon, allowed)
    assert (result.upper_bound >= best - 1e-9).all()
    assert (result.max_jsd <= grid.best(epsilon + grid.change) + grid.resolution).all()
    # Where the two meet, nothing on the grid is better than what was found.
    assert (result.max_jsd[result.certified] >= best[result.certified] - 1.1e-4).all()


@KINDS
def test_between_grid_and_ceiling(kind: tuple[int, str]) -> None:
    for length in (2, 4):
        model = readout(3, length, kind, seed=length)
        result = certified(model)
        assert_confirmed(model, None, result, "row")
        assert_bracketed(result, Grid(model), 0.05)
        assert result.certified.all() and result.method == "certified"
        assert (result.upper_bound - result.max_jsd <= 1e-4 + 1e-9).all()
        assert set(result.endings) == {"optimum and proven ceiling meet"}


@pytest.mark.parametrize("kind", [(3, "softmax"), (2, "sigmoid"), (2, "identity")])
def test_several_heads(kind: tuple[int, str]) -> None:
    model = readout(3, 3, kind, heads=2)
    result = certified(model, view=HEADS, n_nodes=30)
    assert_confirmed(model, None, result, "row")
    assert_bracketed(result, Grid(model), 0.05)
    assert (result.max_jsd > 0.1).all()


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from(OUTPUTS),
    st.sampled_from([1e-3, 0.02, 0.3, 1.0]),
    st.integers(1, 12),
    st.integers(0, 1000),
)
def test_a_ceiling_stands_whatever_the_budget(
    length: int, kind: tuple[int, str], epsilon: float, n_nodes: int, seed: int
) -> None:
    model = readout(2, length, kind, seed=seed)
    result = certified(model, epsilon=epsilon, n_nodes=n_nodes, n_steps=20, n_adversaries=2)
    assert_confirmed(model, None, result, "row")
    assert_bracketed(result, Grid(model), epsilon)
    assert (result.n_nodes <= n_nodes).all()


def test_one_sigmoid_is_the_closed_form() -> None:
    own, scores = rows(8, 15), values(8, 15, 1)
    result = certified(Readout(own, scores, "sigmoid"))
    expected = exact_adversary(own, scores[..., 0], 0.0, epsilon=0.05)[1]
    torch.testing.assert_close(result.max_jsd, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(result.upper_bound, expected, atol=1e-4, rtol=0)
    assert (result.upper_bound >= expected - 1e-9).all()


def test_at_least_what_the_search_finds() -> None:
    model = readout(6, 12, (4, "softmax"))
    found = certified(model, method="search").max_jsd
    result = certified(model, n_nodes=10)
    assert (result.max_jsd >= found - 1e-12).all()
    assert float(result.max_jsd.mean()) > float(found.mean()) + 0.01


def test_padding_is_left_out() -> None:
    mask = torch.arange(6) < torch.tensor([3, 6, 1, 0])[:, None]
    model = readout(4, 6, (3, "softmax"), mask=mask)
    result = certified(model)
    assert_confirmed(model, None, result, "row")
    assert not result.attention[~mask[:, None].expand(-1, 5, -1)].any()
    assert float(result.max_jsd[2]) == 0 and bool(result.certified[2])
    assert math.isnan(float(result.max_jsd[3])) and not bool(result.certified[3])
    assert result.endings[3] == "undefined: there is no position to put weight on"
    alone = Readout(model.attention[:1, :3], model.values[:1, :3], "softmax")
    torch.testing.assert_close(certified(alone).max_jsd, result.max_jsd[:1], atol=1e-4, rtol=0)
    assert_bracketed(certified(alone), Grid(alone), 0.05)


@pytest.mark.parametrize("heads", [1, 2])
def test_named_positions(heads: int) -> None:
    model = readout(3, 4 if heads == 1 else 3, (3, "softmax"), heads=heads)
    free = torch.tensor([True, True, False, True])[: 4 if heads == 1 else 3]
    view = None if heads == 1 else HEADS
    limits = Plausible(positions=free)
    result = certified(model, view=view, constraints=limits)
    assert_confirmed(model, None, result, "row")
    own = result.original[:, None].expand_as(result.attention)
    torch.testing.assert_close(result.attention[..., ~free], own[..., ~free], atol=1e-12, rtol=0)
    if heads == 1:
        small = simplex(3, 120)
        points = own[:, 0].expand(len(small), -1, -1).clone()
        points[..., free] = small[:, None] * points[..., free].sum(-1, keepdim=True)
        assert_bracketed(result, Grid(model, points), 0.05)


LIMITS = {
    "max_change": Plausible(max_change=0.25),
    "min_entropy": Plausible(min_entropy="original"),
    "max_kl": Plausible(max_kl=0.3),
    "min_support": Plausible(min_support=3, min_weight=0.1),
    "all": Plausible(min_entropy=0.5, min_support=2, max_change=0.5, max_kl=0.8),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_on_rows(name: str) -> None:
    limits = LIMITS[name]
    for length, kind in ((3, (3, "softmax")), (4, (2, "sigmoid"))):
        model = readout(2, length, kind, seed=length)
        result = certified(model, constraints=limits, n_nodes=40)
        assert_confirmed(model, None, result, "row")
        grid = Grid(model)
        within = allowed(limits, grid.points[:, None], model.attention)
        assert_bracketed(result, grid, 0.05, within)
        for k in range(5):
            assert allowed(limits, result.attention[:, k], model.attention, 2e-6).all()


def allowed(limits: Plausible, points: Tensor, own: Tensor, slack: float = 0.0) -> Tensor:
    """Whether rows ``(..., T)`` obey, from the definitions of the limits."""
    entropies = [torch.special.entr(each).sum(-1) for each in (points, own)]
    holds = torch.ones(torch.broadcast_shapes(points.shape, own.shape)[:-1]).bool()
    if limits.min_entropy is not None:
        asked = limits.min_entropy if not isinstance(limits.min_entropy, str) else math.inf
        holds &= entropies[0] >= entropies[1].clamp_max(asked) - slack
    if limits.min_support is not None:
        counted = [(each >= limits.min_weight - slack).sum(-1) for each in (points, own)]
        holds &= counted[0] >= counted[1].clamp_max(limits.min_support)
    if limits.max_change is not None:
        holds &= (points - own).abs().amax(-1) <= limits.max_change + slack
    if limits.max_kl is not None:
        terms = torch.special.xlogy(points, points) - torch.special.xlogy(points, own)
        holds &= terms.sum(-1) <= limits.max_kl + slack
    return holds


def test_limits_on_several_heads() -> None:
    model = readout(2, 3, (3, "softmax"), heads=2)
    limits = Plausible(min_entropy="original", max_change=0.4)
    result = certified(model, view=HEADS, constraints=limits, n_nodes=30)
    assert_confirmed(model, None, result, "row")
    grid = Grid(model)
    each = allowed(limits, grid.points[:, None, :, None], model.attention)
    assert_bracketed(result, grid, 0.05, each.all((2, 3)))


def test_a_budget_that_runs_out() -> None:
    model = readout(4, 10, (5, "softmax"))
    few = certified(model, n_nodes=1)
    assert (few.n_nodes <= 1).all()
    ran_out = few.outcome == OUTCOMES.index(
        "the budget of nodes ran out before the ceiling came down"
    )
    assert ran_out.any() and not few.certified[ran_out].any()
    many = certified(model, n_nodes=20)
    assert (many.n_nodes <= 20).all() and int(many.n_nodes.max()) > 1
    assert (many.upper_bound <= few.upper_bound + 1e-9).all()
    assert (many.upper_bound - many.max_jsd).mean() < (few.upper_bound - few.max_jsd).mean()


class Drifting:
    """Affine to the tolerance of the check, not quite: the model refuses what is at the edge."""

    output = "softmax"

    def __init__(self) -> None:
        self.own, self.scores = rows(2, 4), values(2, 4, 3)

    def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
        weights = (attention or {"row": self.own})["row"]
        logits = self.replay(0, {"row": weights[None]})[0]
        return Run(logits, {"row": weights}, torch.ones(2, 4).bool(), state=0)

    def replay(self, state: Any, attention: Any) -> Tensor:
        rows = attention["row"]
        logits = (rows[..., None] * self.scores).sum(-2)
        far = ((rows - self.own) ** 2).sum(-1, keepdim=True)
        wobble = torch.cat([far, -far, 0 * far], -1)
        return logits + 5e-5 * wobble


def test_a_ceiling_over_what_the_model_does_not_do() -> None:
    """At so small an epsilon the drift away from the affine form is all there is."""
    result = certified(Drifting(), epsilon=1e-6)
    words = "the ceiling allows outputs that the model does not"
    assert set(result.endings) == {words} and not result.certified.any()
    assert result.feasible[:, 0].all() and (result.upper_bound > result.max_jsd + 1e-3).all()


@pytest.mark.parametrize("method", ["certified", "exact"])
def test_a_bent_model_is_refused(method: str) -> None:
    message = (
        f"method must apply to the model; got '{method}', but the logits are not affine in the "
        "attention. Leave it out, and the result names what ran."
    )
    model = Readout(rows(2, 4), values(2, 4, 3), "softmax", bend)
    with pytest.raises(ValueError, match=message):
        certified(model, method=method)


@pytest.mark.parametrize("method", ["certified", "exact"])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_more_logits_than_are_looked_at_are_not_called_bent(method: str, output: str) -> None:
    model = Readout(rows(2, 4), values(2, 4, 17), output)
    with pytest.raises(ValueError, match="are not looked at where there are more than 16, here 17"):
        certified(model, method=method)


@pytest.mark.parametrize("kind", [(3, "softmax"), (2, "sigmoid")])
def test_the_model_confirms_in_its_own_precision(kind: tuple[int, str]) -> None:
    wide = readout(4, 6, kind)
    model = Readout(wide.attention.float(), wide.values.float(), kind[1])
    result = certified(model, epsilon=0.01, n_nodes=30)
    assert result.attention.dtype == torch.float32
    assert result.feasible[:, 0].all() and (result.tvd[:, 0] <= 0.01).all()
    assert_confirmed(model, None, result, "row")
    expected = certified(wide, epsilon=0.01, n_nodes=30)
    torch.testing.assert_close(result.upper_bound.double(), expected.upper_bound, atol=2e-4, rtol=0)
    assert int(result.certified.sum()) >= int(expected.certified.sum()) - 1


def test_more_adversaries_come_from_the_search() -> None:
    model = readout(3, 6, (3, "softmax"))
    result = certified(model, n_adversaries=4)
    assert result.attention.shape == (3, 4, 6) and result.feasible.all()
    assert_confirmed(model, None, result, "row")


def test_a_batch_is_its_instances() -> None:
    model = readout(3, 5, (3, "softmax"))
    whole = certified(model)
    for row in range(1, 3):
        one = Readout(model.attention[row : row + 1], model.values[row : row + 1], "softmax")
        alone = certified(one, instances=torch.tensor([row]))
        torch.testing.assert_close(alone.max_jsd, whole.max_jsd[row : row + 1], atol=1e-4, rtol=0)
        assert bool(alone.certified[0]) and bool(whole.certified[row])
