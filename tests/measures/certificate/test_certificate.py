"""The certificate against grids over the simplex and the closed form of one sigmoid."""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from certificate_cases import (
    best_of_all_directions,
    best_of_grid,
    case,
    change,
    divergence,
    entropy_floor,
    resolution,
)
from hypothesis import given, settings

from faithattn import exact_adversary
from faithattn.measures.certificate.problem import Array, Certificate, Problem
from faithattn.measures.certificate.tree import certify

LN2 = math.log(2)


def require_valid(problem: Problem, found: Certificate) -> None:
    """Rows that are allowed, worth what is said, and no better point of the grid."""
    rows, shape = found.rows, problem.attention.shape
    lower, upper = (np.broadcast_to(x, shape) for x in (problem.lower, problem.upper))
    assert (rows >= lower - 1e-12).all() and (rows <= upper + 1e-12).all()
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-12)
    assert change(rows, problem) <= problem.epsilon + 1e-12
    assert all(constraint(rows)[0] >= -1e-8 for constraint in problem.concave)
    assert found.value == pytest.approx(float(divergence(rows, problem.attention)), abs=1e-12)
    assert 0 <= found.value <= found.upper <= LN2
    assert best_of_grid(problem) <= found.upper + 1e-12


def require_optimal(problem: Problem, found: Certificate) -> None:
    """Valid, closed, and the grid comes as near as its resolution lets it."""
    require_valid(problem, found)
    assert found.outcome == "closed" and found.gap <= 1e-4
    n_rows, length = problem.attention.shape
    step = resolution(n_rows, length) / length
    slack = n_rows * length * step * max(1.0, abs(problem.scores).max())
    assert best_of_grid(problem, slack) >= found.upper - resolution(n_rows, length) - 1e-4


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_grid_over_the_simplex(length: int, n_outputs: int, output: str) -> None:
    for seed, epsilon in enumerate((0.01, 0.05, 0.3)):
        problem = case(length, n_outputs, seed, output, epsilon=epsilon)
        require_optimal(problem, certify(problem, n_nodes=2000))


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("n_outputs", [2, 3, 4])
def test_all_directions_from_the_original(n_outputs: int, output: str) -> None:
    """Never above the bound, and as near as the angle's step of .0016 leaves a corner."""
    for seed in range(4):
        problem = case(3, n_outputs, seed, output, epsilon=(0.02, 0.1)[seed % 2])
        found, best = certify(problem, n_nodes=1000), best_of_all_directions(problem)
        require_valid(problem, found)
        assert found.outcome == "closed"
        assert best - 1e-9 <= found.upper <= best + 5e-3


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize(("length", "n_outputs"), [(2, 1), (2, 3), (3, 2)])
def test_two_rows(length: int, n_outputs: int, output: str) -> None:
    problem = case(length, n_outputs, 0, output, n_rows=2)
    require_optimal(problem, certify(problem, n_nodes=2000))


halves = st.integers(-8, 8).map(lambda n: n / 2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Weights of 0, ties, equal scores, saturated outputs."""
    length, n_outputs = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    counts = st.lists(st.integers(0, 4), min_size=length, max_size=length).filter(any)
    weights = np.array([draw(counts)], dtype=float)
    size = length * n_outputs
    scores = np.array(draw(st.lists(halves, min_size=size, max_size=size)))
    constant = draw(st.lists(st.sampled_from([0.0, 0.3, 12.0, -40.0]), min_size=n_outputs,
                             max_size=n_outputs))  # fmt: skip
    return Problem(
        weights / weights.sum(),
        scores.reshape(1, length, n_outputs),
        np.array(constant),
        draw(st.sampled_from(["sigmoid", "softmax", "identity"])),
        draw(st.sampled_from([0.001, 0.05, 0.6, 2.0])),
    )


@settings(max_examples=60, deadline=None)
@given(problems())
def test_ties_zeros_and_saturation(problem: Problem) -> None:
    found = certify(problem, n_nodes=1000)
    require_valid(problem, found)
    assert found.outcome == "closed"


@pytest.mark.parametrize("n_nodes", [1, 2, 7])
def test_a_bound_stands_wherever_the_search_ends(n_nodes: int) -> None:
    outcomes = set()
    for seed in range(6):
        problem = case(4, 4, seed)
        found = certify(problem, n_nodes=n_nodes)
        require_valid(problem, found)
        assert found.nodes <= n_nodes
        outcomes.add(found.outcome)
        best = certify(problem, n_nodes=2000)
        assert found.value <= best.upper and best.value <= found.upper
    assert "nodes" in outcomes


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_one_sigmoid_is_the_closed_form(length: int, epsilon: float) -> None:
    for seed in range(4):
        problem = case(length, 1, seed, "sigmoid", epsilon=epsilon)
        found = certify(problem, n_nodes=1000, tolerance=1e-6)
        exact = exact_adversary(
            torch.from_numpy(problem.attention),
            torch.from_numpy(problem.scores[..., 0]),
            torch.from_numpy(problem.constant),
            epsilon=epsilon,
        )[1].item()
        assert found.outcome == "closed"
        assert found.value == pytest.approx(exact, abs=1e-6)
        assert found.upper == pytest.approx(exact, abs=1e-6) and found.upper >= exact - 1e-12


def test_two_classes_are_one_sigmoid() -> None:
    for seed in range(4):
        problem = case(12, 2, seed)
        scores = problem.scores[..., 0] - problem.scores[..., 1]
        bias = torch.from_numpy(problem.constant[:1] - problem.constant[1:])
        exact = exact_adversary(
            torch.from_numpy(problem.attention), torch.from_numpy(scores), bias, epsilon=0.05
        )[1].item()
        found = certify(problem, n_nodes=1000, tolerance=1e-6)
        assert found.value == pytest.approx(exact, abs=1e-6)
        assert found.outcome == "closed" and found.upper >= exact - 1e-12


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_a_box(output: str, radius: float) -> None:
    for seed in range(3):
        free = case(3, 3, seed, output, epsilon=0.2)
        problem = case(
            3, 3, seed, output, epsilon=0.2,
            lower=np.maximum(free.attention - radius, 0), upper=free.attention + radius,
        )  # fmt: skip
        found = certify(problem, n_nodes=2000)
        require_optimal(problem, found)
        assert found.upper <= certify(free, n_nodes=2000).upper + 1e-4


@pytest.mark.parametrize(("share", "n_rows"), [(0.5, 1), (0.9, 1), (1.0, 1), (0.7, 2)])
def test_an_entropy_floor(share: float, n_rows: int) -> None:
    for seed in range(3):
        length = 3 if n_rows == 1 else 2
        free = case(length, 2, seed, epsilon=0.2, n_rows=n_rows)
        own = entropy_floor(0.0)(free.attention)[0]
        problem = case(length, 2, seed, epsilon=0.2, n_rows=n_rows,
                       concave=(entropy_floor(share * own),))  # fmt: skip
        require_optimal(problem, certify(problem, n_nodes=2000))


def test_a_masked_position_stays_empty() -> None:
    attention = np.array([[0.6, 0.4, 0.0]])
    scores = np.array([[[1.0, 0.0], [-1.0, 0.5], [0.0, 0.0]]])
    masked = Problem(
        attention, scores, np.zeros(2), "softmax", 0.05, upper=np.array([[1.0, 1.0, 0.0]])
    )
    short = Problem(attention[:, :2], scores[:, :2], np.zeros(2), "softmax", 0.05)
    found, other = (certify(each, n_nodes=100) for each in (masked, short))
    assert found.rows[0, 2] == 0 and found.outcome == "closed"
    assert found.value == pytest.approx(other.value, abs=1e-4)


def test_a_large_epsilon_frees_the_simplex() -> None:
    problem = case(6, 3, 0, epsilon=1.0)
    found = certify(problem, n_nodes=100)
    corners = divergence(np.eye(6)[:, None], problem.attention).max()
    assert found.value == pytest.approx(corners, abs=1e-9) and found.outcome == "closed"


def test_equal_scores_free_the_simplex() -> None:
    attention = np.array([[0.5, 0.3, 0.2]])
    found = certify(Problem(attention, np.ones((1, 3, 4)), np.zeros(4), "softmax", 1e-6), n_nodes=9)
    assert found.value == pytest.approx(divergence(np.eye(3)[2:], attention).item(), abs=1e-9)
    assert found.outcome == "closed" and found.nodes == 1


def test_one_position_cannot_move() -> None:
    found = certify(case(1, 3, 0), n_nodes=5)
    assert (found.value, found.outcome, found.rows.tolist()) == (0.0, "closed", [[1.0]])
    assert found.upper < 1e-8


def of_a_model(problem: Problem, offset: float = 0.0) -> Callable[[Array], Array]:
    """A model in float32, which may see more distance than the affine form."""

    def confirm(rows: Array) -> Array:
        logits = rows.reshape(len(rows), -1).astype(np.float32) @ problem.scores.reshape(
            -1, problem.scores.shape[-1]
        ).astype(np.float32) + problem.constant.astype(np.float32)
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        moved = odds / odds.sum(-1, keepdims=True) - problem.outputs(problem.attention)
        return (abs(moved.astype(np.float32)).sum(-1) / 2) + offset

    return confirm


@pytest.mark.parametrize("offset", [0.0, 1e-7, 1e-6])
def test_the_model_confirms_what_it_is_offered(offset: float) -> None:
    for seed in range(5):
        problem = case(8, 3, seed)
        confirm = of_a_model(problem, offset)
        found = certify(problem, n_nodes=500, confirm=confirm)
        assert confirm(found.rows[None])[0] <= problem.epsilon
        assert found.outcome == "closed"


def test_a_model_that_is_not_affine_keeps_the_gap_open() -> None:
    problem = case(8, 3, 0)
    found = certify(problem, n_nodes=500, confirm=of_a_model(problem, 0.02))
    best = certify(problem, n_nodes=500)
    assert best.outcome == "closed" and best.value > 0.1
    assert found.outcome == "relaxation" and found.gap > 1e-3
    assert found.upper >= best.value
    refused = certify(problem, n_nodes=500, confirm=lambda rows: np.full(len(rows), np.nan))
    assert refused.outcome == "relaxation" and refused.value == 0
    np.testing.assert_array_equal(refused.rows, problem.attention)


def test_rows_that_are_known_are_a_start_and_are_offered() -> None:
    problem = case(20, 5, 0)
    alone = certify(problem, n_nodes=1)
    best = certify(problem, n_nodes=1000)
    assert best.value > alone.value + 1e-3
    started = certify(problem, n_nodes=1, known=best.rows)
    assert started.value == pytest.approx(best.value, abs=1e-9)
    seen = []

    def confirm(rows: Array) -> Array:
        seen.extend(rows)
        return np.zeros(len(rows))

    certify(problem, n_nodes=1, known=best.rows, confirm=confirm)
    assert any(abs(rows - best.rows).max() < 1e-12 for rows in seen)


def test_the_same_answer_twice() -> None:
    first, second = (certify(case(10, 4, 0), n_nodes=50) for _ in range(2))
    np.testing.assert_array_equal(first.rows, second.rows)
    assert (first.upper, first.nodes) == (second.upper, second.nodes)


@pytest.mark.parametrize(
    ("change_of", "message"),
    [
        ({"attention": np.ones(3) / 3}, r"attention must have shape \(R, T\)"),
        ({"attention": np.array([[0.5, 0.2, 0.1]])}, "attention must hold rows of weights"),
        ({"scores": np.ones((1, 2, 2))}, r"scores must have shape \(R, T, C\)"),
        ({"scores": np.full((1, 3, 2), np.nan)}, "scores must be finite; got NaN or infinity"),
        ({"constant": np.ones(3)}, r"constant must have shape \(2,\); got \(3,\)"),
        ({"output": "auto"}, "output must be one of sigmoid, softmax, identity; got 'auto'"),
        ({"epsilon": 0.0}, "epsilon must be a number above 0; got 0.0"),
        ({"lower": 0.5}, "lower must leave room for the original; got a weight 0.3"),
        ({"upper": np.ones(3)}, r"upper must be a number or have shape \(1, 3\)"),
        ({"concave": (lambda x: (-0.5, x),)}, "got -0.5 from the one at 0"),
    ],
)
def test_problems_that_make_no_sense(change_of: dict[str, object], message: str) -> None:
    arguments = {
        "attention": np.array([[0.5, 0.3, 0.2]]),
        "scores": np.ones((1, 3, 2)),
        "constant": np.zeros(2),
        "output": "softmax",
        "epsilon": 0.05,
    }
    with pytest.raises(ValueError, match=message):
        Problem(**{**arguments, **change_of})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_nodes": 0}, "n_nodes must be at least 1; got 0"),
        ({"tolerance": 0.0}, r"tolerance must be above 0; got 0\.0"),
        ({"known": np.ones((1, 2))}, "known must have the shape of attention"),
        ({"confirm": lambda _: np.zeros(1)}, "confirm must give one distance for each of"),
    ],
)
def test_calls_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify(case(3, 2, 0), **{"n_nodes": 5, **options})


VANISHING = {
    "softmax": (
        [0.27482848566514484, 0.12594865378911602, 0.5992228605457393],
        [
            [-63.16518384662776, 13.496433581239222, 96.21160061090796, 13.711245746804],
            [-4.468732853630526, -3.6951203998626, -14.664194540268328, 60.37442853438374],
            [21.643597919395436, -46.67114144200389, -3.794762541341878, -33.820778511115904],
        ],
        [-9.604348263344523, 15.122229094728548, 0.7256423698342037, -27.282270724673797],
        0.034969926114778345,
    ),
    "sigmoid": (
        [0.5705940165178303, 0.4294059834821697],
        [
            [-69.8405038717004, 17.430646743650836, -41.61597441135536, -42.378623955850394],
            [-32.52421542559769, -0.5688766272625942, 1.0213129276927355, 22.11488269836375],
        ],
        [-7.7402054735128525, 5.0671200551981554, 4.858005185117254, 5.889848319995264],
        0.7899697359947354,
    ),
}


@pytest.mark.parametrize("output", VANISHING)
def test_a_bound_holds_where_a_probability_vanishes(output: str) -> None:
    """What is left of it is a difference whose logarithm is wrong by far more than rounding."""
    attention, scores, constant, epsilon = VANISHING[output]
    problem = Problem(
        np.array([attention]), np.array([scores]), np.array(constant), output, epsilon
    )
    corners = np.eye(len(attention))[:, None]
    allowed = corners[problem.distance(corners) <= epsilon]
    for n_nodes in (1, 60):
        found = certify(problem, n_nodes=n_nodes)
        assert found.upper >= problem.divergence(allowed).max() - 1e-12
