"""Slabs that hold all outputs within epsilon, ceilings over grids, and the best K vertices."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from faithattn import exact_adversary, memory_budget
from faithattn.measures.adversary.gains import NONE, gain
from faithattn.measures.adversary.pairs import best_vertices
from faithattn.measures.adversary.slabs import (
    free_slab,
    margin,
    relaxed_slabs,
    sigmoid_slab,
    slab_bound,
    slab_of,
)
from faithattn.measures.adversary.vertices import Slab, Vertices, share_at

OUTPUTS = ((1, "sigmoid"), (3, "sigmoid"), (3, "softmax"), (5, "softmax"), (3, "identity"))
KINDS = pytest.mark.parametrize("kind", OUTPUTS, ids=lambda kind: f"{kind[1]}-{kind[0]}")


def problem(
    size: int, length: int, count: int, seed: int = 0, spread: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (B, L), scores (B, L, C), constants (B, C)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, length, count + 1, generator=generator).double()
    constant = torch.randn(size, count, generator=generator).double()
    return (1.5 * noise[..., 0]).softmax(-1), spread * noise[..., 1:], constant


def squashed(logits: Tensor, output: str) -> Tensor:
    if output == "identity":
        return logits
    return logits.sigmoid() if output == "sigmoid" else logits.softmax(-1)


def moved(rows: Tensor, case: tuple[Tensor, Tensor, Tensor], output: str) -> Tensor:
    """Change of the output of rows ``(K, B, L)`` from the original's, ``(K, B)``."""
    weights, scores, constant = case
    outputs = [
        squashed(torch.einsum("kbl,blc->kbc", each, scores) + constant, output)
        for each in (rows, weights[None])
    ]
    change = (outputs[0] - outputs[1]).abs()
    return change.sum(-1) / 2 if output == "softmax" else change.mean(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    parts = [torch.special.xlogy(x, x) - torch.special.xlogy(x, middle) for x in (p, q)]
    return (parts[0] + parts[1]).sum(-1) / 2


def slabs_of(
    case: tuple[Tensor, Tensor, Tensor], epsilon: float, output: str
) -> list[tuple[Tensor, Tensor, Tensor]]:
    weights, scores, constant = case
    logits = torch.einsum("bl,blc->bc", weights, scores) + constant
    return relaxed_slabs(scores, constant, logits, epsilon, output)


def simplex(length: int, steps: int) -> Tensor:
    cuts = itertools.combinations_with_replacement(range(steps + 1), length - 1)
    return torch.tensor([(0, *cut, steps) for cut in cuts]).diff(dim=1).double() / steps


@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 0.4, 2.0])
@KINDS
def test_every_row_within_epsilon_lies_in_every_slab(kind: tuple[int, str], epsilon: float) -> None:
    """Rows drawn near the original and far from it, so that some touch epsilon."""
    case = problem(8, 6, kind[0])
    generator = torch.Generator().manual_seed(1)
    draws = torch.empty(600, 8, 6).double().exponential_(generator=generator)
    far = draws / draws.sum(-1, keepdim=True)
    shares = torch.rand(600, 8, 1, generator=generator).double() ** 4
    rows = case[0] + shares * (far - case[0])
    within = moved(rows, case, kind[1]) <= epsilon
    assert within.any(0).all()
    slabs = slabs_of(case, epsilon, kind[1])
    assert len(slabs) == (kind[0] * (kind[0] - 1) // 2 if kind[1] == "softmax" else kind[0])
    for scores, low, high in slabs:
        sums = (rows * scores).sum(-1)
        assert ((sums >= low - 1e-9) & (sums <= high + 1e-9))[within].all()
        own = (case[0] * scores).sum(-1)
        assert ((own >= low) & (own <= high)).all()


@pytest.mark.parametrize("output", ["sigmoid", "identity"])
def test_slabs_are_no_wider_than_they_must_be(output: str) -> None:
    """One number alone decides: at its ends the output has moved by epsilon exactly."""
    case = problem(5, 4, 1)
    scores, low, high = slabs_of(case, 0.05, output)[0]
    value = (case[0] * scores).sum(-1)
    for end in (low, high):
        change = squashed(end + case[2][:, 0], output) - squashed(value + case[2][:, 0], output)
        torch.testing.assert_close(change.abs(), torch.full((5,), 0.05).double())


def test_the_ends_of_a_sigmoid() -> None:
    logits = torch.linspace(-40, 40, 81).double()
    for epsilon in (1e-9, 0.01, 0.7, 1.0, 3.0):
        low, high = sigmoid_slab(logits, epsilon)
        assert (low < logits).all() or epsilon < 1e-8
        assert (low <= logits).all() and (high >= logits).all()
        finite = low.isfinite()
        change = logits.sigmoid() - low.sigmoid()
        torch.testing.assert_close(
            change[finite], torch.full_like(change[finite], epsilon), atol=1e-12, rtol=1e-6
        )
        assert torch.equal(~finite, logits.sigmoid() <= epsilon)
        mirrored = sigmoid_slab(-logits, epsilon)
        torch.testing.assert_close(-mirrored[1], low, atol=1e-9, rtol=1e-9)


def test_the_number_that_decides() -> None:
    _, scores, constant = problem(2, 4, 2)
    found = margin(scores, constant, "softmax")
    assert found is not None
    torch.testing.assert_close(found[0], scores[..., 1] - scores[..., 0])
    torch.testing.assert_close(found[1], constant[:, 1] - constant[:, 0])
    for output in ("sigmoid", "identity"):
        assert margin(scores, constant, output) is None
        one = margin(scores[..., :1], constant[:, :1], output)
        assert one is not None and torch.equal(one[0], scores[..., 0])
    # The only class of a softmax has probability 1 whatever its logit.
    only = margin(scores[..., :1], constant[:, :1], "softmax")
    assert only is not None and not only[0].any() and not only[1].any()
    assert slab_of(torch.tensor(2.0), 0.5, "identity") == (1.5, 2.5)


@pytest.mark.parametrize("epsilon", [0.01, 0.2])
@pytest.mark.parametrize(
    "kind", [*((count, "softmax") for count in (3, 4, 5)), (2, "sigmoid"), (2, "identity")]
)
def test_a_ceiling_over_every_grid(kind: tuple[int, str], epsilon: float) -> None:
    for length, steps in ((2, 500), (3, 80), (4, 30)):
        case = problem(5, length, kind[0], seed=length)
        points = simplex(length, steps)[:, None].expand(-1, 5, -1)
        within = moved(points, case, kind[1]) <= epsilon
        best = torch.where(within, divergence(points, case[0]), 0).amax(0)
        slabs = slabs_of(case, epsilon, kind[1])
        ceiling = slab_bound(case[0], slabs, torch.ones(5, length).bool())
        assert (ceiling >= best - 1e-12).all()
        # A slab is one constraint less: never below the closed form of any of them alone.
        for scores, low, high in slabs:
            alone = slab_bound(case[0], [(scores, low, high)], torch.ones(5, length).bool())
            assert (ceiling <= alone).all()


def test_a_ceiling_where_positions_are_fixed() -> None:
    case = problem(6, 4, 3)
    free = torch.tensor([True, False, True, True]).expand(6, 4)
    points = case[0].expand(496, -1, -1).clone()
    mass = case[0][free].view(6, 3).sum(-1)
    points[:, free] = (simplex(3, 30)[:, None] * mass[:, None]).flatten(1)
    within = moved(points, case, "softmax") <= 0.05
    best = torch.where(within, divergence(points, case[0]), 0).amax(0)
    ceiling = slab_bound(case[0], slabs_of(case, 0.05, "softmax"), free)
    assert (ceiling >= best - 1e-12).all() and (best > 0).any()


def test_one_sigmoid_is_the_closed_form() -> None:
    case = problem(20, 12, 1)
    ceiling = slab_bound(case[0], slabs_of(case, 0.03, "sigmoid"), torch.ones(20, 12).bool())
    exact = exact_adversary(case[0], case[1][..., 0], case[2][:, 0], epsilon=0.03)[1]
    torch.testing.assert_close(ceiling, exact, atol=1e-12, rtol=0)


def test_no_slab_proves_nothing() -> None:
    case = problem(2, 3, 1)
    assert slab_bound(case[0], [], torch.ones(2, 3).bool()).tolist() == [math.inf] * 2
    assert slabs_of(case, 0.1, "softmax") == []


def test_a_row_without_mass_that_moves_proves_nothing_wrong() -> None:
    weights = torch.tensor([[0.0, 0.0, 1.0]]).double()
    free = torch.tensor([[True, True, False]])
    scores = torch.tensor([[1.0, -1.0, 5.0]]).double()
    slab = free_slab(weights, scores, torch.tensor([4.0]), torch.tensor([6.0]), free)
    assert float(slab.mass) == 1 and not slab.weights.any()
    assert float(slab_bound(weights, [(scores, slab.low + 5, slab.high + 5)], free)) >= 0


# The best K vertices.


def whole_slab(weights: Tensor, scores: Tensor, epsilon: float, free: Tensor | None = None) -> Slab:
    value = (weights * scores).sum(-1)
    low, high = sigmoid_slab(value, epsilon)
    free = torch.ones(weights.shape).bool() if free is None else free
    return free_slab(weights, scores, low, high, free)


def by_all_pairs(slab: Slab, mask: Tensor) -> tuple[float, set[int]]:
    """The best of one instance on a mask: every position, every pair at both ends."""
    weights, scores, mass = slab.weights[0], slab.scores[0], float(slab.mass)
    low, high = float(slab.low) / mass, float(slab.high) / mass
    places = mask.nonzero()[:, 0]
    tried = [
        torch.zeros_like(weights).index_fill_(0, t, mass)
        for t in places
        if low <= float(scores[t]) <= high
    ]
    for end in (low, high):
        if not math.isfinite(end):
            continue
        left, right = places[scores[places] < end], places[scores[places] > end]
        first, second = (each.flatten() for each in torch.meshgrid(left, right, indexing="ij"))
        share = (scores[second] - end) / (scores[second] - scores[first])
        pairs = torch.zeros(len(first), len(weights)).double()
        pairs.scatter_(1, first[:, None], mass * share[:, None])
        tried += list(pairs.scatter_(1, second[:, None], mass * (1 - share[:, None])))
    if not tried:
        return NONE, set()
    values = divergence(torch.stack(tried), weights)
    best = int(values.argmax())
    return float(values[best]), set(tried[best].nonzero()[:, 0].tolist())


def assert_the_best(slab: Slab, count: int) -> Vertices:
    """Each vertex of one instance is the best of what the ones before it leave."""
    found = best_vertices(slab, count)
    mask = slab.mask[0].clone()
    for k in range(count):
        expected = by_all_pairs(slab, mask)[0]
        value = float(found.value[0, k])
        assert value == expected or value == pytest.approx(expected, abs=1e-9)
        if value == NONE:
            continue
        ends = {int(found.first[0, k]), int(found.second[0, k])}
        assert all(bool(mask[end]) for end in ends)
        row = found.rows(slab)[0, k]
        assert float(divergence(row, slab.weights[0])) == pytest.approx(value, abs=1e-9)
        assert float(row.sum()) == pytest.approx(float(slab.mass)) and (row >= 0).all()
        total = float((row * slab.scores[0]).sum())
        assert float(slab.low) - 1e-9 <= total <= float(slab.high) + 1e-9
        mask[list(ends)] = False
    return found


@pytest.mark.parametrize("length", [3, 5, 20, 64, 65, 100])
def test_the_best_several(length: int) -> None:
    for seed in range(2):
        weights, scores, _ = problem(1, length, 1, seed=seed)
        assert_the_best(whole_slab(weights, scores[..., 0], 0.02), 6)


@pytest.mark.parametrize("length", [30, 80, 100])
def test_where_many_are_asked_for(length: int) -> None:
    """More than the lists of the most promising positions hold."""
    weights, scores, _ = problem(1, length, 1, seed=3)
    found = assert_the_best(whole_slab(weights, scores[..., 0], 0.02), length // 2 + 3)
    assert float(found.value[0, -1]) == NONE  # nothing is left that meets the slab
    filled = found.filled()
    assert float(filled.value[0, -1]) == float(found.value[0, 0])


@pytest.mark.parametrize("length", [10, 70, 100])
@pytest.mark.parametrize("weights_are", ["uniform", "two values", "one position"])
def test_ties(weights_are: str, length: int) -> None:
    weights = {
        "uniform": torch.full((1, length), 1 / length),
        "two values": torch.tensor([1.0, 2.0]).repeat(length // 2)[None] / (1.5 * length),
        "one position": torch.eye(length)[:1],
    }[weights_are].double()
    scores = problem(1, length, 1, seed=5)[1][..., 0]
    assert_the_best(whole_slab(weights, scores, 0.05), 4)
    few = scores.sign() * 2
    assert_the_best(whole_slab(weights, few, 0.05), 4)


@pytest.mark.parametrize("length", [6, 90])
def test_equal_scores_leave_single_positions(length: int) -> None:
    weights = problem(1, length, 1)[0]
    found = assert_the_best(whole_slab(weights, torch.ones(1, length).double(), 0.01), 5)
    assert torch.equal(found.first, found.second)
    least = weights[0].argsort()[:5]
    assert found.first[0].tolist() == least.tolist()


@pytest.mark.parametrize("length", [8, 75])
def test_masses_and_free_positions(length: int) -> None:
    for seed in range(2):
        weights, scores, _ = problem(1, length, 1, seed=seed)
        free = (torch.arange(length) % 3 != 0)[None]
        slab = whole_slab(weights, scores[..., 0], 0.02, free)
        assert float(slab.mass) == pytest.approx(float(weights[free].sum()))
        found = assert_the_best(slab, 4)
        chosen = torch.cat([found.first, found.second])[:, found.value[0] > NONE]
        assert free[0, chosen].all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any),
            st.lists(st.integers(-3, 3), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    ),
    st.sampled_from([0.003, 0.05, 0.4]),
    st.integers(1, 5),
)
def test_few_values_and_many_ties(
    case: tuple[list[int], list[int], list[bool]], epsilon: float, count: int
) -> None:
    weights, scores = (torch.tensor(each).double()[None] for each in case[:2])
    weights, free = weights / weights.sum(), torch.tensor(case[2])[None]
    assume(bool(weights[free].any()))
    slab = whole_slab(weights, scores * 1.1, epsilon, free)
    assert_the_best(slab, count)


def test_a_batch_is_its_instances_and_budgets_do_not_matter() -> None:
    weights, scores, _ = problem(5, 90, 1)
    slab = whole_slab(weights, scores[..., 0], 0.02)
    whole = best_vertices(slab, 20)
    with memory_budget(1e-6):
        cut = best_vertices(slab, 20)
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other)
    for row in range(5):
        alone = best_vertices(slab.take(torch.tensor([row])), 20)
        torch.testing.assert_close(alone.value[0], whole.value[row])


def test_shares_for_narrower_slabs() -> None:
    weights, scores, _ = problem(4, 20, 1)
    slab = whole_slab(weights, scores[..., 0], 0.05)
    found = best_vertices(slab, 3)
    value = (weights * scores[..., 0]).sum(-1)
    ends = [torch.stack(each) for each in zip(*(sigmoid_slab(value, e) for e in (0.05, 0.02)))]  # noqa: B905
    shares = share_at(slab, found, *ends)
    assert shares.shape == (2, 4, 3)
    torch.testing.assert_close(shares[0], found.share)
    rows = found.rows(slab, shares)
    pair = (found.first != found.second) & (found.value > NONE)
    sums = (rows * slab.scores[:, None]).sum(-1)
    for n in range(2):
        inside = (sums[n] >= ends[0][n, :, None] - 1e-9) & (sums[n] <= ends[1][n, :, None] + 1e-9)
        assert inside[pair].all()


def test_what_a_weight_adds() -> None:
    """Summed over positions, the divergence from its definition."""
    p, q = problem(5, 7, 1)[0], problem(5, 7, 1, seed=9)[0]
    with_nothing = math.log(2) / 2
    total = gain(p, q).sum(-1) + with_nothing
    torch.testing.assert_close(total, divergence(p, q), atol=1e-12, rtol=0)
    assert float(gain(torch.zeros(1), torch.zeros(1))) == 0


def test_a_slab_that_rounding_closes_is_the_original() -> None:
    """Equal scores, whose sum is not quite one of them, and no room beside it."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        own = torch.randn(1, 5, generator=generator).double().softmax(-1)
        scores = (3 * torch.randn(1, generator=generator).double()).expand(1, 5)
        found, jsd = exact_adversary(own, scores, 0.0, epsilon=1e-17)
        assert float(jsd) >= 0
        torch.testing.assert_close(divergence(found, own), jsd, atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("length", [70, 130, 220])
def test_long_rows_are_picked_as_from_all_pairs_at_once(
    length: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(2, 3, length, generator=generator).double()
        weights = (noise[0] * (0.02, 1.5, 4)[seed % 3]).softmax(-1)
        scores = noise[1] * (0.3, 5)[seed % 2] if seed < 4 else noise[1].round()
        low, high = sigmoid_slab((weights * scores).sum(-1), 0.02)
        everywhere = torch.ones_like(weights, dtype=torch.bool)
        slab = Slab(weights, scores, low, high, everywhere, torch.ones(3).double())
        found = best_vertices(slab, count).value
        with monkeypatch.context() as patch:
            patch.setattr("faithattn.measures.adversary.pairs._EVERY", length)
            expected = best_vertices(slab, count).value
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
