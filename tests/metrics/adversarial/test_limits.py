"""Limits on adversaries of models: every feasible one obeys, the original always does."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from grids import Grid, assert_confirmed, divergence, readout
from hypothesis import given, settings
from readouts import Readout, rows, values
from torch import Tensor

from faithattn import AdversarialResult, AttentionView, Plausible, adversarial_attention

HEADS = AttentionView("row", heads=(0, 1), query=0)
SLACK = 2e-6
LIMITS = {
    "own entropy": Plausible(min_entropy="original"),
    "an entropy": Plausible(min_entropy=1.3),
    "support": Plausible(min_support=4, min_weight=0.05),
    "change": Plausible(max_change=0.15),
    "kl": Plausible(max_kl=0.1),
    "all": Plausible(min_entropy=1.0, min_support=3, max_change=0.4, max_kl=0.6),
}
EACH = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
BENT = pytest.mark.parametrize("bent", [False, True], ids=["affine", "bent"])


def attacked(model: Any, limits: Plausible | None, **options: Any) -> AdversarialResult:
    chosen = {"seed": 0, "epsilon": 0.05, "n_steps": 100, "method": "search", **options}
    return adversarial_attention(model, None, constraints=limits, **chosen)


def entropy(rows: Tensor) -> Tensor:
    return torch.special.entr(rows).sum(-1)


def obeyed(limits: Plausible, rows: Tensor, own: Tensor) -> Tensor:
    """Whether rows ``(..., T)`` obey, from the definitions."""
    holds = torch.ones(torch.broadcast_shapes(rows.shape, own.shape)[:-1]).bool()
    if limits.min_entropy is not None:
        asked = math.inf if isinstance(limits.min_entropy, str) else limits.min_entropy
        holds &= entropy(rows) >= entropy(own).clamp_max(asked) - SLACK
    if limits.min_support is not None:
        counts = [(each >= limits.min_weight - SLACK).sum(-1) for each in (rows, own)]
        holds &= counts[0] >= counts[1].clamp_max(limits.min_support)
    if limits.max_change is not None:
        holds &= (rows - own).abs().amax(-1) <= limits.max_change + SLACK
    if limits.max_kl is not None:
        far = torch.special.xlogy(rows, rows) - torch.special.xlogy(rows, own)
        holds &= far.sum(-1) <= limits.max_kl + SLACK
    return holds


@pytest.mark.parametrize("heads", [1, 2])
@BENT
@EACH
def test_every_feasible_adversary_obeys(limits: Plausible, bent: bool, heads: int) -> None:
    mask = torch.arange(7) < torch.tensor([7, 5, 3])[:, None]
    model = readout(3, 7, (3, "softmax"), bent=bent, heads=heads, mask=mask)
    result = attacked(model, limits, view=None if heads == 1 else HEADS, n_adversaries=3)
    assert_confirmed(model, None, result, "row")
    assert result.feasible[:, 0].all() and result.constraints == str(limits)
    assert not result.attention[~mask.view(3, *[1] * (1 if heads == 1 else 3), 7).expand_as(
        result.attention)].any()  # fmt: skip
    holds = obeyed(limits, result.attention, result.original[:, None])
    assert (holds if heads == 1 else holds.all(-1).all(-1))[result.feasible].all()


@EACH
def test_something_is_found_under_every_limit(limits: Plausible) -> None:
    model = readout(12, 7, (1, "sigmoid"))
    result, free = attacked(model, limits, epsilon=0.2), attacked(model, None, epsilon=0.2)
    assert (result.max_jsd <= free.upper_bound + 1e-9).all()
    assert (result.max_jsd > 1e-4).double().mean() > 0.9
    assert float(result.max_jsd.mean()) < float(free.max_jsd.mean())


@pytest.mark.parametrize("method", ["search", "certified"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_the_strictest_limits_leave_the_original(output: str, method: str) -> None:
    model = readout(3, 5, (3 if output == "softmax" else 2, output))
    for strict in (Plausible(max_change=0), Plausible(max_kl=0)):
        result = attacked(model, strict, method=method, n_nodes=20)
        assert result.feasible[:, 0].all()
        assert (result.max_jsd <= 1e-5).all()
        assert (result.strongest - result.original).abs().max() < 2e-3
    none = Plausible(positions=torch.zeros(5).bool())
    result = attacked(model, none, method=method)
    assert torch.equal(result.strongest, result.original)
    assert result.max_jsd.tolist() == [0, 0, 0] and result.certified.all()


def test_more_entropy_than_there_is_asks_for_what_there_is() -> None:
    model = readout(4, 6, (1, "sigmoid"))
    own = attacked(model, Plausible(min_entropy="original"), epsilon=0.3)
    more = attacked(model, Plausible(min_entropy=50.0), epsilon=0.3)
    assert torch.equal(own.attention, more.attention)
    assert (entropy(own.strongest) >= entropy(own.original) - SLACK).all()


def test_the_same_weights_in_other_places() -> None:
    """Alike positions: reversing the order keeps entropy, support and output, and moves far."""
    own = torch.tensor([[0.6, 0.25, 0.1, 0.05]]).double()
    model = Readout(own, torch.ones(1, 4, 1).double(), "sigmoid")
    limits = Plausible(min_entropy="original", min_support=4, min_weight=0.05)
    result = attacked(model, limits)
    turned = float(divergence(own.flip(-1), own))
    assert float(result.max_jsd) >= turned - 1e-9


CASES = (
    Plausible(max_change=0.3),
    Plausible(min_entropy="original"),
    Plausible(max_kl=0.3),
    Plausible(min_support=3, min_weight=0.1),
)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(2, 4),
    st.sampled_from(CASES),
    st.sampled_from([(1, "sigmoid"), (3, "softmax"), (2, "identity")]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_grid_under_limits(
    length: int, limits: Plausible, kind: tuple[int, str], bent: bool, seed: int
) -> None:
    model = readout(2, length, kind, bent=bent, seed=seed)
    result = attacked(model, limits, n_steps=40)
    grid = Grid(model)
    within = obeyed(limits, grid.points[:, None], model.attention)
    assert (result.upper_bound >= grid.best(0.05, within) - 1e-9).all()
    assert (result.max_jsd <= grid.best(0.05 + grid.change) + grid.resolution).all()
    assert obeyed(limits, result.attention[:, 0], model.attention).all()


@pytest.mark.parametrize("kind", [(1, "sigmoid"), (3, "softmax")])
def test_tighter_limits_keep_a_true_ceiling(kind: tuple[int, str]) -> None:
    """Each ceiling stands above the grid of its limit, and falls with it, to the tolerance."""
    model = readout(3, 4, kind)
    grid, before = Grid(model), torch.full((3,), math.log(2)).double()
    for change in (1.0, 0.5, 0.2, 0.1):
        limits = Plausible(max_change=change)
        result = attacked(model, limits, method="certified", n_nodes=60)
        within = obeyed(limits, grid.points[:, None], model.attention)
        assert (result.upper_bound >= grid.best(0.05, within) - 1e-9).all()
        assert (result.max_jsd <= before + 1e-9).all()
        before = result.upper_bound


def test_limits_that_the_published_search_does_not_know() -> None:
    model = readout(2, 4, (1, "sigmoid"))
    for limits in (Plausible(max_change=0.1), Plausible(positions=torch.arange(4) < 2)):
        with pytest.raises(ValueError, match="but constraints are unknown to the published search"):
            attacked(model, limits, method="published")
    everywhere = Plausible(positions=torch.ones(4).bool())
    assert attacked(model, everywhere, method="published").method == "published"


@pytest.mark.parametrize("method", ["auto", "search", "certified", "published"])
def test_positions_of_another_shape(method: str) -> None:
    model = readout(2, 4, (1, "sigmoid"))
    wrong = Plausible(positions=torch.ones(5).bool())
    with pytest.raises(ValueError, match=r"positions must have shape \(2, 4\) or \(4,\); got \(5,"):
        attacked(model, wrong, method=method)


def test_limits_of_another_type() -> None:
    with pytest.raises(TypeError, match="constraints must be a Plausible or None; got float"):
        attacked(readout(2, 4, (1, "sigmoid")), 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [0.0, 0.1, 0.5])
def test_the_ceiling_under_a_largest_change_is_that_of_the_box(change: float) -> None:
    """Proven without the output: no row of the box is farther, and it is far below the corner's."""
    own, scores = rows(8, 4), values(8, 4, 3)
    result = adversarial_attention(
        Readout(own, scores, "softmax"), None, method="search", epsilon=5.0, seed=0, n_steps=40,
        constraints=Plausible(max_change=change),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    tried = torch.rand(4000, 4, generator=generator).double() ** 3
    tried = tried / tried.sum(-1, keepdim=True)
    for row in range(8):
        moved = (tried - own[row]) * change
        inside = own[row] + moved * (change / moved.abs().amax(-1, keepdim=True).clamp_min(1e-12)
                                     ).clamp_max(1)  # fmt: skip
        allowed = (inside >= 0).all(-1) & ((inside - own[row]).abs() <= change + 1e-12).all(-1)
        far = divergence(inside[allowed], own[row]).max()
        assert far <= result.upper_bound[row] + 1e-9
    if change == 0:
        assert result.certified.all() and not result.max_jsd.any()
    if change == 0.1:
        assert (result.upper_bound < 0.2).all()
