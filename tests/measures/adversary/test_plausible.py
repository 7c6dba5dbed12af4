"""Limits on adversaries: what they hold against definitions, slopes against autograd, errors."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import planted
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from faithattn import Plausible
from faithattn.measures.adversary.plausible import (
    Limits,
    check_constraints,
    resolve_limits,
    row_entropy,
)

LENGTHS = (6, 3, 1, 0)
EVERY = {
    "min_entropy": Plausible(min_entropy="original"),
    "an entropy": Plausible(min_entropy=1.2),
    "min_support": Plausible(min_support=3, min_weight=0.15),
    "max_change": Plausible(max_change=0.1),
    "max_kl": Plausible(max_kl=0.2),
    "all": Plausible(min_entropy=0.9, min_support=2, max_change=0.3, max_kl=0.5),
}
EACH = pytest.mark.parametrize("limits", EVERY.values(), ids=EVERY)


def batch(n_rows: int = 2) -> tuple[Tensor, Tensor]:
    """Rows (B, R, L) with padding, and what is valid."""
    valid = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    valid = valid[:, None].expand(-1, n_rows, -1)
    logits = planted.rows(4 * n_rows, max(LENGTHS), spread=1.5).log().view(4, n_rows, -1)
    return logits.masked_fill(~valid, -math.inf).softmax(-1).nan_to_num(0), valid


def resolved(limits: Plausible | None) -> Limits:
    return resolve_limits(limits, *batch())


def random_rows(count: int, seed: int, spread: float = 1.0) -> Tensor:
    """Rows (B, K, R, L) near the original and far from it."""
    original, valid = batch()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, count, *original.shape[1:], generator=generator).double()
    logits = original.clamp_min(1e-9).log()[:, None] + spread * noise
    return logits.masked_fill(~valid[:, None], -math.inf).softmax(-1).nan_to_num(0)


def held(limits: Plausible, rows: Tensor, original: Tensor) -> bool:
    """One row against the definitions, in plain Python."""
    new, old = rows.tolist(), original.tolist()

    def entropy(row: list[float]) -> float:
        return -sum(x * math.log(x) for x in row if x > 0)

    def support(row: list[float]) -> int:
        return sum(x >= limits.min_weight for x in row)

    asked = limits.min_entropy
    if asked is not None:
        least = entropy(old) if isinstance(asked, str) else min(asked, entropy(old))
        if entropy(new) < least:
            return False
    if limits.min_support is not None and support(new) < min(limits.min_support, support(old)):
        return False
    change = max(abs(x - y) for x, y in zip(new, old, strict=True))
    if limits.max_change is not None and change > limits.max_change:
        return False
    if limits.max_kl is not None:
        far = sum(x * math.log(x / y) for x, y in zip(new, old, strict=True) if x > 0)
        if far > limits.max_kl:
            return False
    return True


@EACH
def test_what_holds_is_what_the_definitions_say(limits: Plausible) -> None:
    original, _ = batch()
    rows = torch.cat([random_rows(40, seed, spread) for seed, spread in ((0, 0.1), (1, 1.0))], 1)
    found = resolved(limits).hold(rows)
    both = set()
    for b in range(4):
        for k in range(80):
            expected = all(held(limits, rows[b, k, r], original[b, r]) for r in range(2))
            assert bool(found[b, k]) is expected
            both.add(expected)
    assert both == {True, False}


@EACH
def test_the_original_is_always_allowed(limits: Plausible) -> None:
    original, _ = batch()
    rows = original[:, None]
    assert resolved(limits).hold(rows).all()
    assert (resolved(limits).excess(rows) <= 1e-12).all()
    strictest = Plausible(min_entropy=9.0, min_support=50, max_change=0, max_kl=0)
    assert resolved(strictest).hold(rows).all()
    assert not resolved(strictest).hold(random_rows(1, 0))[:2].any()


def test_no_limit_holds_everything() -> None:
    for limits in (None, Plausible(), Plausible(positions=torch.zeros(6).bool())):
        assert resolved(limits).shape_free
        assert resolved(limits).hold(random_rows(3, 0)).all()
        assert not resolved(limits).excess(random_rows(3, 0)).any()


@EACH
def test_excess_is_by_how_much(limits: Plausible) -> None:
    original, _ = batch()
    rows = random_rows(20, 3)
    found = resolved(limits).excess(rows)
    parts = []
    if limits.min_entropy is not None:
        own = row_entropy(original)
        asked = own if isinstance(limits.min_entropy, str) else own.clamp_max(limits.min_entropy)
        parts.append(asked[:, None] - row_entropy(rows))
    if limits.min_support is not None:
        counts = [(x >= limits.min_weight).sum(-1) for x in (original, rows)]
        parts.append((counts[0].clamp_max(limits.min_support)[:, None] - counts[1]).double())
    if limits.max_change is not None:
        parts.append((rows - original[:, None]).abs().amax(-1) - limits.max_change)
    if limits.max_kl is not None:
        terms = torch.special.xlogy(rows, rows) - torch.special.xlogy(rows, original[:, None])
        parts.append(terms.sum(-1) - limits.max_kl)
    torch.testing.assert_close(found, torch.stack(parts).amax(0), atol=1e-9, rtol=0)


def test_entropy_against_its_definition() -> None:
    rows = random_rows(5, 0)
    expected = torch.special.entr(rows).sum(-1)
    torch.testing.assert_close(row_entropy(rows), expected)
    assert row_entropy(torch.tensor([0.0, 1.0, 0.0])) == 0


@pytest.mark.parametrize("name", ["min_entropy", "an entropy", "max_change", "max_kl"])
def test_slopes_against_autograd(name: str) -> None:
    """Along rows, where a constant does not matter: the softmax takes it out."""
    limits = EVERY[name]
    bound, rows = resolved(limits), random_rows(15, 4)[:2].clone()
    bound = resolve_limits(limits, *(each[:2] for each in batch()))
    original = bound.original[:, None]
    leaf = rows.clone().requires_grad_()
    if limits.min_entropy is not None:
        over = bound.entropy[:, None] - torch.special.entr(leaf).sum(-1)
    elif limits.max_kl is not None:
        terms = torch.special.xlogy(leaf, leaf) - torch.special.xlogy(leaf, original)
        over = terms.sum(-1) - limits.max_kl
    else:
        over = ((leaf - original).abs() - limits.max_change).clamp_min(0).sum(-1)
    (expected,) = torch.autograd.grad(over.clamp_min(0).sum(), leaf)
    valid = bound.free[:, None].expand_as(rows)
    broken = (over > 0)[..., None].expand_as(rows) & valid
    assert broken.any() and not broken[valid].all()
    found = bound.slope(rows)
    torch.testing.assert_close(found[broken], expected[broken])
    assert not found[valid & ~broken].any()


def test_the_slope_of_support_raises_what_is_nearest() -> None:
    original = torch.tensor([[[0.4, 0.3, 0.2, 0.1]]]).double()
    limits = Plausible(min_support=3, min_weight=0.1)
    bound = resolve_limits(limits, original, original > 0)
    rows = torch.tensor([[[[0.93, 0.05, 0.02, 0.0]], [[0.5, 0.3, 0.2, 0.0]]]]).double()
    slope = bound.slope(rows)
    assert slope[0, 0, 0].tolist() == [0, -1, -1, 0]
    assert not slope[0, 1].any()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(EVERY)),
    st.integers(0, 10_000),
    st.floats(0.05, 3),
)
def test_a_step_down_the_slope_breaks_less(name: str, seed: int, spread: float) -> None:
    """Finite differences of what is broken, in the direction of the slope within the simplex."""
    limits = EVERY[name]
    if name in ("min_support", "all"):  # counts have no derivative
        limits = Plausible(min_entropy=0.9, max_change=0.3, max_kl=0.5)
    original, valid = (each[:1] for each in batch())
    bound = resolve_limits(limits, original, valid)
    rows = random_rows(1, seed, spread)[:1].clamp_min(1e-6)
    rows = rows / rows.sum(-1, keepdim=True)

    def broken(at: Tensor) -> float:
        """The sum of all excesses, of which the slope is the gradient."""
        total = torch.zeros(())
        if bound.entropy is not None:
            total = total + (bound.entropy[:, None] - row_entropy(at)).clamp_min(0).sum()
        if bound.max_change is not None:
            change = (at - original[:, None]).abs()
            total = total + (change - bound.max_change).clamp_min(0).sum()
        if bound.max_kl is not None:
            far = (torch.special.xlogy(at, at / original[:, None])).sum(-1)
            total = total + (far - bound.max_kl).clamp_min(0).sum()
        return float(total)

    if broken(rows) == 0:
        assert not bound.slope(rows).any()
        return
    slope = bound.slope(rows)
    within = slope - (slope * rows).sum(-1, keepdim=True)
    step = -rows * within
    if float(step.abs().max()) < 1e-9:
        return
    size = 1e-6 / float(step.abs().max())
    assert broken(rows + size * step) < broken(rows)


def test_named_positions() -> None:
    original, valid = batch()
    flags = torch.tensor([True, False, True, True, False, True])
    one = resolved(Plausible(positions=flags)).free
    assert torch.equal(one, valid & flags)
    each = torch.stack([flags, ~flags, flags, flags])
    several = resolved(Plausible(positions=each)).free
    assert torch.equal(several, valid & each[:, None])
    moved = original[:, None].clone()
    moved[0, 0, 0, 0] -= 0.1
    moved[0, 0, 0, 2] += 0.1
    limits = resolved(Plausible(positions=flags))
    assert limits.unmoved(moved).all()
    moved[0, 0, 0, 1] += 0.1
    moved[0, 0, 0, 2] -= 0.1
    assert limits.unmoved(moved).tolist() == [[False], [True], [True], [True]]
    assert resolved(None).unmoved(moved).all()


@EACH
def test_padding_changes_nothing(limits: Plausible) -> None:
    original, valid = batch()
    rows = random_rows(6, 5)
    wide = [torch.nn.functional.pad(each, (0, 4)) for each in (original, valid)]
    bound, padded = resolved(limits), resolve_limits(limits, *wide)
    more = torch.nn.functional.pad(rows, (0, 4))
    assert torch.equal(bound.hold(rows), padded.hold(more))
    torch.testing.assert_close(bound.excess(rows), padded.excess(more))
    inside = valid[:, None].expand_as(rows)
    torch.testing.assert_close(padded.slope(more)[..., :6][inside], bound.slope(rows)[inside])


def test_in_words() -> None:
    assert str(Plausible()) == "none"
    assert str(Plausible(min_weight=0.3)) == "none"
    assert str(Plausible(min_entropy="original")) == "min_entropy='original'"
    assert str(Plausible(min_support=3, max_kl=0.5)) == "min_support=3, max_kl=0.5, min_weight=0.01"
    named = Plausible(max_change=0, positions=torch.ones(3).bool())
    assert str(named) == "max_change=0, positions"
    assert not named.only_positions and Plausible(positions=torch.ones(3).bool()).only_positions


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_entropy": "own"}, TypeError, "min_entropy must be a number; got 'own'. Pass nats,"),
        ({"min_entropy": -0.1}, ValueError, "min_entropy must be 0 or more and finite; got -0.1."),
        ({"min_entropy": math.inf}, ValueError, "min_entropy must be 0 or more and finite; got"),
        ({"min_support": 0}, ValueError, "min_support must be at least 1; got 0. Pass 1 or more."),
        ({"min_support": 1.5}, TypeError, "min_support must be a whole number; got 1.5."),
        ({"min_weight": None}, TypeError, "min_weight must be a number; got None. Pass the weight"),
        ({"min_weight": 1.5}, ValueError, r"min_weight must be 0..1; got 1.5. Pass the weight"),
        ({"max_change": 1.01}, ValueError, r"max_change must be 0..1; got 1.01. Pass the largest"),
        ({"max_change": math.nan}, ValueError, r"max_change must be 0..1; got nan"),
        ({"max_change": True}, TypeError, "max_change must be a number; got True"),
        ({"max_kl": -1}, ValueError, "max_kl must be 0 or more and finite; got -1. Pass nats."),
        ({"max_kl": "x"}, TypeError, "max_kl must be a number; got 'x'. Pass nats."),
        ({"positions": [True]}, TypeError, "positions must be a boolean tensor; got list. Mark"),
        ({"positions": torch.ones(3)}, TypeError, "positions must be a boolean tensor; got torch"),
    ],
)
def test_limits_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Plausible(**options)


@pytest.mark.parametrize("shape", [(5,), (3, 6), (4, 5), (4, 2, 6), ()])
def test_positions_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"positions must have shape \(4, 6\) or \(6,\); got"):
        resolved(Plausible(positions=torch.ones(shape).bool()))


@pytest.mark.parametrize("given", [0.1, {"max_change": 0.1}, [Plausible()], Plausible])
def test_what_is_no_limit(given: Any) -> None:
    with pytest.raises(TypeError, match="constraints must be a Plausible or None; got"):
        check_constraints(given)
    check_constraints(None)
    check_constraints(Plausible())


def test_limits_with_positions_can_be_compared() -> None:
    one, other = (Plausible(positions=torch.ones(3).bool()) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2
