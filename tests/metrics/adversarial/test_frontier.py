"""The frontier: monotone, true of the model, the same as one attack at a time, and in tables."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from cases import make_case, texts
from grids import Grid, readout
from readouts import Readout, rows, values

from faithattn import (
    AdversarialFrontier,
    AttentionView,
    Plausible,
    adversarial_attention,
    adversarial_frontier,
)

EPSILONS = (0.001, 0.01, 0.05, 0.3)
HEADS = AttentionView("row", heads=(0, 1), query=0)
NEAR, FIRST = Plausible(max_change=0.2), Plausible(positions=torch.arange(6) < 3)


def frontier(model: Any, inputs: Any = None, **options: Any) -> AdversarialFrontier:
    chosen = {"epsilons": EPSILONS, "seed": 0, "n_steps": 60, **options}
    return adversarial_frontier(model, inputs, **chosen)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("bent", [False, True], ids=["affine", "bent"])
def test_larger_epsilons_allow_more_and_limits_less(bent: bool, heads: int) -> None:
    model = readout(4, 6, (3, "softmax"), bent=bent, heads=heads)
    asked = (None, NEAR, Plausible(max_change=0.05))
    found = frontier(model, constraints=asked, view=None if heads == 1 else HEADS)
    assert found.max_jsd.shape == found.tvd.shape == found.upper_bound.shape == (4, 3, 4)
    assert (found.max_jsd.diff(dim=-1) >= 0).all()
    assert (found.upper_bound.diff(dim=-1) >= -1e-12).all()
    assert (found.max_jsd.diff(dim=1) <= 1e-12).all()
    assert (found.max_jsd <= found.upper_bound + 1e-9).all()
    assert (found.tvd <= torch.tensor(EPSILONS).double()).all()
    assert found.method == "search" and found.epsilons == EPSILONS
    assert found.constraints == ("none", "max_change=0.2", "max_change=0.05")


@pytest.mark.parametrize("kind", [(1, "sigmoid"), (2, "softmax"), (1, "identity")])
def test_the_closed_form_one_epsilon_at_a_time(kind: tuple[int, str]) -> None:
    model = readout(6, 9, kind)
    found = frontier(model, constraints=(None, Plausible(positions=torch.arange(9) < 4)))
    assert found.method == "exact" and found.certified.all()
    for q, limits in enumerate((None, Plausible(positions=torch.arange(9) < 4))):
        for e, epsilon in enumerate(EPSILONS):
            alone = adversarial_attention(
                model, None, method="exact", epsilon=epsilon, constraints=limits, seed=0
            )
            torch.testing.assert_close(found.max_jsd[:, q, e], alone.max_jsd, atol=1e-9, rtol=0)
            torch.testing.assert_close(
                found.upper_bound[:, q, e], alone.upper_bound, atol=1e-9, rtol=0
            )


def test_named_positions_are_not_served_by_others() -> None:
    """What was found without the limit moves other positions: it is no adversary within it."""
    model = readout(6, 6, (1, "sigmoid"))
    alone = frontier(model, constraints=(FIRST,))
    beside = frontier(model, constraints=(None, FIRST))
    torch.testing.assert_close(beside.max_jsd[:, 1], alone.max_jsd[:, 0], atol=1e-9, rtol=0)
    torch.testing.assert_close(beside.upper_bound[:, 1], alone.upper_bound[:, 0])
    assert (beside.max_jsd[:, 1] < beside.max_jsd[:, 0]).all()


def test_points_serve_each_other() -> None:
    """At least as good as each search alone, and better somewhere."""
    model = readout(16, 8, (3, "softmax"))
    found = frontier(model, constraints=(None, NEAR))
    gains = []
    for q, limits in enumerate((None, NEAR)):
        for e, epsilon in enumerate(EPSILONS):
            alone = adversarial_attention(
                model, None, epsilon=epsilon, constraints=limits, seed=0, n_steps=60,
                n_adversaries=1,
            )  # fmt: skip
            gains.append(found.max_jsd[:, q, e] - alone.max_jsd)
    assert (torch.stack(gains) >= -1e-9).all() and float(torch.stack(gains).max()) > 1e-3


@pytest.mark.parametrize("method", ["auto", "certified"])
def test_a_grid(method: str) -> None:
    model = readout(3, 3, (3, "softmax"))
    grid = Grid(model)
    found = frontier(model, epsilons=(0.02, 0.2), constraints=(None, NEAR), method=method)
    near = ((grid.points[:, None] - model.attention).abs() <= 0.2 + 1e-12).all(-1)
    for q, within in enumerate((None, near)):
        for e, epsilon in enumerate((0.02, 0.2)):
            best = grid.best(epsilon, within)
            assert (found.upper_bound[:, q, e] >= best - 1e-9).all()
            wide = grid.best(epsilon + grid.change) + grid.resolution
            assert (found.max_jsd[:, q, e] <= wide).all()
            sure = found.certified[:, q, e]
            assert (found.max_jsd[sure, q, e] >= best[sure] - 1.1e-4).all()
    assert found.method == ("certified" if method == "certified" else "search")


def test_limits_make_the_methods_differ() -> None:
    model = readout(3, 6, (1, "sigmoid"))
    found = frontier(model, constraints=(None, NEAR))
    assert found.method == "mixed" and found.certified[:, 0].all()


@pytest.mark.parametrize("name", ["text-bilstm-additive", "question-cnn-additive"])
def test_the_encoder_runs_once(name: str) -> None:
    case = make_case(name)
    calls: list[int] = []
    case.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    case.model.train()
    found = frontier(case.model, case.inputs, epsilons=(0.01, 0.1), constraints=(None, NEAR))
    assert len(calls) == 1 and case.model.training
    assert found.max_jsd.shape == (case.size, 2, 2)


def test_no_position_and_one() -> None:
    case = make_case("text-bilstm-additive")
    found = frontier(case.model, texts((5, 1, 0)))
    assert not found.max_jsd[1].any() and found.certified[1].all()
    for values_of in (found.max_jsd, found.upper_bound, found.tvd):
        assert values_of[2].isnan().all() and not values_of[:2].isnan().any()
    assert not found.certified[2].any()
    assert [curve["undefined"] for curve in found.curves()] == [1] * 4
    assert [curve["certified"] for curve in found.curves()] == [2] * 4


def test_curves_records_and_summary() -> None:
    model = readout(5, 6, (1, "sigmoid"))
    found = frontier(model, constraints=(None, NEAR))
    curves = found.curves()
    assert [(c["constraint"], c["epsilon"]) for c in curves] == [
        (name, epsilon) for name in ("none", "max_change=0.2") for epsilon in EPSILONS
    ]
    for index, curve in enumerate(curves):
        q, e = divmod(index, len(EPSILONS))
        assert curve["mean"] == pytest.approx(float(found.max_jsd[:, q, e].mean()))
        assert curve["ceiling"] == pytest.approx(float(found.upper_bound[:, q, e].mean()))
        assert curve["certified"] == int(found.certified[:, q, e].sum())
        assert curve["n"] == 5
    summary = found.summary()
    assert summary.measure == "adversarial_frontier"
    assert summary.quantity == "epsilon-max JSD at 0.3, constraints none"
    assert summary.overall.mean == pytest.approx(float(found.max_jsd[:, 0, -1].mean()))
    json.dumps([curves, found.records()], allow_nan=False)
    assert len(found.records()) == 5


def test_joined_results() -> None:
    own, scores = rows(6, 7), values(6, 7, 1)
    whole = frontier(Readout(own, scores, "sigmoid"))
    parts = [
        frontier(Readout(own[a:b], scores[a:b], "sigmoid"), instances=torch.arange(a, b))
        for a, b in ((0, 2), (2, 6))
    ]
    both = AdversarialFrontier.concatenate(parts)
    torch.testing.assert_close(both.max_jsd, whole.max_jsd)
    assert both.epsilons == EPSILONS and both.method == "exact"
    other = frontier(Readout(own, scores, "sigmoid"), epsilons=(0.001, 0.01, 0.05, 0.4))
    with pytest.raises(ValueError, match="results must share their settings; got epsilons"):
        AdversarialFrontier.concatenate([whole, other])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilons": ()}, ValueError, r"epsilons must hold numbers above 0; got \(\)."),
        ({"epsilons": 0.1}, ValueError, "epsilons must hold numbers above 0; got 0.1. Pass a"),
        ({"epsilons": "ab"}, ValueError, "epsilons must hold numbers above 0; got 'ab'."),
        ({"epsilons": (0.1, 0.05)}, ValueError, "epsilons must ascend, each once; got"),
        ({"epsilons": (0.1, 0.1)}, ValueError, "epsilons must ascend, each once; got"),
        ({"epsilons": (0.0, 0.1)}, ValueError, "epsilons must be above 0 and finite; got 0.0."),
        ({"epsilons": (0.1, math.nan)}, ValueError, "epsilons must be above 0 and finite; got nan"),
        ({"epsilons": (0.1, "b")}, TypeError, "epsilons must be a number; got 'b'."),
        ({"constraints": NEAR}, TypeError, "constraints must be several, one a curve; got Plaus"),
        ({"constraints": None}, TypeError, "constraints must be several, one a curve; got None"),
        ({"constraints": ()}, ValueError, "constraints must hold at least one; got none."),
        ({"constraints": (0.1,)}, TypeError, "constraints must be a Plausible or None; got float"),
        ({"method": "best"}, ValueError, "method must be one of auto, exact, certified, search"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1; got 0."),
        ({"n_nodes": 0}, ValueError, "n_nodes must be at least 1; got 0."),
        ({"seed": 0.5}, TypeError, "seed must be a whole number; got 0.5."),
        (
            {"constraints": (NEAR,), "method": "exact"}, ValueError,
            "got 'exact', but constraints limit more than the positions",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        frontier(readout(2, 4, (1, "sigmoid")), **options)
