"""Every spelling of softmax is seen, and what replaces it is what the model goes on with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watching import Notes, halved, noise, watched

from faithattn.adapters.interception.tap import Tap
from faithattn.adapters.parts import parts_of

SCORES = noise(2, 3, 4)


def out_softmax(scores: Tensor) -> Tensor:
    """The model goes on with the buffer, not with what the function returns."""
    buffer = torch.empty_like(scores)
    torch.softmax(scores, -1, out=buffer)
    return buffer


def out_exp(scores: Tensor) -> Tensor:
    buffer = torch.empty_like(scores)
    torch.exp(scores.log_softmax(-1), out=buffer)
    return buffer


def in_place(scores: Tensor) -> Tensor:
    logarithms = scores.log_softmax(-1)
    logarithms.exp_()
    return logarithms


class Own(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, scores: Tensor) -> Tensor:
        return torch.softmax(scores, -1)


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.softmax": lambda s: F.softmax(s, -1),
    "F.softmax(input=)": lambda s: F.softmax(input=s, dim=-1),
    "F.softmax(dtype=)": lambda s: F.softmax(s, dim=-1, dtype=torch.float64),
    "torch.softmax": lambda s: torch.softmax(s, 2),
    "torch.softmax(input=)": lambda s: torch.softmax(dim=-1, input=s),
    "torch.softmax(out=)": out_softmax,
    "torch.special.softmax": lambda s: torch.special.softmax(s, -1),
    "torch.special.softmax(input=)": lambda s: torch.special.softmax(input=s, dim=-1),
    "torch._safe_softmax": lambda s: torch._safe_softmax(s, -1),
    "torch._softmax": lambda s: torch._softmax(s, -1, False),
    "Tensor.softmax": lambda s: s.softmax(-1),
    "Tensor.softmax(dim=)": lambda s: s.softmax(dim=2, dtype=torch.float64),
    "nn.Softmax": lambda s: nn.Softmax(-1)(s),
    "nn.Softmin": lambda s: nn.Softmin(-1)(-s),
    "F.softmin": lambda s: F.softmin(-s, -1),
    "log_softmax().exp()": lambda s: s.log_softmax(-1).exp(),
    "F.log_softmax().exp()": lambda s: F.log_softmax(s, -1).exp(),
    "F.log_softmax(input=)": lambda s: torch.exp(F.log_softmax(input=s, dim=-1)),
    "torch.exp(input=)": lambda s: torch.exp(input=torch.log_softmax(s, -1)),
    "torch.special.log_softmax": lambda s: torch.special.log_softmax(s, -1).exp(),
    "nn.LogSoftmax": lambda s: nn.LogSoftmax(-1)(s).exp(),
    "torch.exp(out=)": out_exp,
    "exp_()": in_place,
    "aten.softmax": lambda s: torch.ops.aten.softmax.int(s, -1),
    "aten.softmax packet": lambda s: torch.ops.aten.softmax(s, -1),
    "aten._softmax": lambda s: torch.ops.aten._softmax.default(s, -1, False),
    "aten._safe_softmax": lambda s: torch.ops.aten._safe_softmax.default(s, -1),
    "inside autograd.Function": Own.apply,
}


@torch.no_grad()
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling(name: str) -> None:
    def call() -> Tensor:
        return SPELLINGS[name](SCORES) * 1

    expected = SCORES.exp() / SCORES.exp().sum(-1, keepdim=True)
    out, notes = watched(call)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    (weights,) = notes.found
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    assert notes.support().all()
    changed, _ = watched(call, halved)
    torch.testing.assert_close(changed, halved(expected), rtol=0, atol=1e-12)


GRADED = [name for name in SPELLINGS if "out=" not in name and name not in ("exp_()",)]
GRADED.remove("inside autograd.Function")  # refused, see test_guards.py


@pytest.mark.parametrize("name", GRADED)
def test_gradients_flow_through_every_spelling(name: str) -> None:
    leaf = SCORES.clone().requires_grad_()
    value = noise(2, 4, 3, seed=2)
    out, notes = watched(lambda: SPELLINGS[name](leaf) @ value)
    (slope,) = torch.autograd.grad(out.sum(), notes.found, retain_graph=True)
    torch.testing.assert_close(slope, value.sum(-1)[:, None].expand(2, 3, 4))
    (actual,) = torch.autograd.grad(out.sum(), leaf)
    (expected,) = torch.autograd.grad((torch.softmax(leaf, -1) @ value).sum(), leaf)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 2, 3, 4)], ids=str)
def test_no_dimension_is_the_one_torch_takes(shape: tuple[int, ...]) -> None:
    scores = noise(*shape)
    with pytest.warns(UserWarning, match="Implicit dimension"):
        expected = F.softmax(scores)
    with pytest.warns(UserWarning, match="Implicit dimension"):
        out, notes = watched(lambda: F.softmax(scores))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        notes.found[0].sum(-1), torch.ones(()).expand(notes.found[0].shape[:-1]).double()
    )
    with pytest.warns(UserWarning, match="Implicit dimension"):
        _, notes = watched(lambda: F.log_softmax(scores).exp())
    torch.testing.assert_close(notes.found[0].movedim(-1, notes.dims[0]), expected)


CLOSED = SCORES.clone()
CLOSED[0, 1] = -torch.inf
CLOSED[1, :, 2:] = -torch.inf


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n in SPELLINGS if "_safe" not in n])
def test_a_row_that_may_use_no_key_is_zero(name: str) -> None:
    out, notes = watched(lambda: SPELLINGS[name](CLOSED) * 1)
    expected = CLOSED.exp() / CLOSED.exp().sum(-1, keepdim=True)
    expected[0, 1] = 0
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(notes.found[0], expected, rtol=0, atol=1e-12)
    assert torch.equal(notes.support(), ~CLOSED.isinf())


@pytest.mark.parametrize("name", GRADED)
def test_a_row_that_may_use_no_key_has_no_nan_gradients(name: str) -> None:
    leaf = SCORES.clone().requires_grad_()
    bias = CLOSED.isinf().double().masked_fill(CLOSED.isinf(), -torch.inf)
    out, _ = watched(lambda: SPELLINGS[name](leaf + bias).square().sum())
    (slope,) = torch.autograd.grad(out, leaf)
    assert slope.isfinite().all()
    assert (slope[0, 1] == 0).all()
    assert (slope[1, :, 2:] == 0).all()
    assert (slope[0, 0] != 0).all()


@torch.no_grad()
@pytest.mark.parametrize("name", SPELLINGS)
def test_nan_is_not_taken_for_a_mask(name: str) -> None:
    broken = CLOSED.clone()
    broken[0, 0, 1] = torch.nan
    broken[1, 0, 3] = torch.inf  # its row is nan, too
    out, notes = watched(lambda: SPELLINGS[name](broken) * 1)
    for found in (out, notes.found[0]):
        assert found[0, 0].isnan().all()
        assert found[1, 0].isnan().any()
        assert not found[0, 1:].isnan().any()


def test_an_exponential_of_something_else_is_none_of_it() -> None:
    def call() -> Tensor:
        logarithms = SCORES.log_softmax(-1)
        return (logarithms * 2).exp() + SCORES.exp() + logarithms.clone().exp()

    _, notes = watched(call)
    assert len(notes.found) == 0


def test_an_exponential_after_a_change_in_place_is_what_it_is() -> None:
    def call() -> Tensor:
        logarithms = SCORES.log_softmax(-1)
        logarithms[..., 0] = -torch.inf
        return logarithms.exp()

    out, notes = watched(call)
    torch.testing.assert_close(out, SCORES.softmax(-1).index_fill(-1, torch.tensor([0]), 0))
    for found in notes.found:
        torch.testing.assert_close(found, out)


@torch.no_grad()
def test_gumbel_softmax_is_seen_inside() -> None:
    def forward(scores: Tensor) -> Tensor:
        return torch.nn.functional.gumbel_softmax(scores, tau=0.5, hard=True, dim=-1)

    scores = torch.randn(3, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = forward(scores)
    notes = Notes()
    with torch.random.fork_rng(), Tap(parts_of(nn.Identity()), notes):
        torch.manual_seed(0)
        found = forward(scores)
    assert torch.equal(found, expected)
    (soft,) = notes.found
    assert torch.equal(torch.zeros(3, 4).scatter(1, soft.argmax(1, keepdim=True), 1), expected)
