"""AttentionView: the chosen rows, and alternatives put back in their place."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError, AttentionView, Run
from faithattn.adapters.rows import Rows, choose_rows

B, H, Q, L, K = 3, 4, 5, 6, 2
SHAPES = {2: (B, L), 3: (B, Q, L), 4: (B, H, Q, L)}
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0]]).bool()


def weights(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).softmax(-1)


def make_run(ndim: int, **fields: Any) -> Run:
    attention = fields.pop("attention", weights(*SHAPES[ndim]))
    return Run(torch.zeros(B, 1), {"a": attention}, **{"mask": MASK, **fields})


def slow_rows(run: Run, view: AttentionView) -> tuple[Tensor, Tensor, list[list[tuple[int, ...]]]]:
    """Conditional rows, masses and the place of each row, one instance, row and key at a time."""
    attention = run.attention["a"]
    four = attention.reshape(B, *(1,) * (4 - attention.ndim), *attention.shape[1:])
    heads, queries = range(four.shape[1]), range(four.shape[2])
    chosen_heads = (
        heads if view.heads is None else [view.heads] if isinstance(view.heads, int) else view.heads
    )
    places: list[list[tuple[int, ...]]] = []
    rows, masses = [], []
    for b in range(B):
        if isinstance(view.query, Tensor):
            chosen: Any = [int(view.query[b])]
        else:
            chosen = queries if view.query is None else [view.query]
        pairs = [(heads[h], queries[q]) for h, q in itertools.product(chosen_heads, chosen)]
        places.append(pairs)
        for h, q in pairs:
            mass, row = 0.0, []
            for t in range(L):
                inside = bool(MASK[b, t])
                if run.support is not None:
                    support = run.support["a"].reshape(four.shape)
                    inside = inside and bool(support[b, h, q, t])
                row.append(float(four[b, h, q, t]) if inside else 0.0)
                mass += row[-1]
            rows.append([value / mass if mass else 0.0 for value in row])
            masses.append(mass)
    shape = (B, len(places[0]))
    return (
        torch.tensor(rows, dtype=torch.float64).view(*shape, L),
        torch.tensor(masses, dtype=torch.float64).view(shape),
        places,
    )


def slow_override(run: Run, rows: Rows, new: Tensor, places: list[list[tuple[int, ...]]]) -> Tensor:
    attention = run.attention["a"]
    four = attention.reshape(1, B, *(1,) * (4 - attention.ndim), *attention.shape[1:])
    full = four.repeat(len(new), 1, 1, 1, 1)
    for k, b in itertools.product(range(len(new)), range(B)):
        for r, (h, q) in enumerate(places[b]):
            for t in range(L):
                if rows.valid[b, r, t]:
                    full[k, b, h, q, t] = new[k, b, r, t] * rows.mass[b, r]
    return full.reshape(len(new), *attention.shape)


VIEWS = [
    (2, AttentionView("a")),
    (2, AttentionView("a", heads=0, query=-1)),
    (3, AttentionView("a")),
    (3, AttentionView("a", query=2)),
    (3, AttentionView("a", query=-1)),
    (3, AttentionView("a", query=torch.tensor([0, 4, -2]))),
    (4, AttentionView("a")),
    (4, AttentionView("a", heads=1)),
    (4, AttentionView("a", heads=-1, query=0)),
    (4, AttentionView("a", heads=(3, 0), query=-2)),
    (4, AttentionView("a", heads=[2, 1])),
    (4, AttentionView("a", heads=range(4), query=torch.tensor([3, -1, 0]))),
]


@pytest.mark.parametrize("limited", [False, True], ids=["unlimited", "support"])
@pytest.mark.parametrize(("ndim", "view"), VIEWS, ids=[f"{n}d {v}" for n, v in VIEWS])
def test_rows_and_override_agree_with_a_slow_loop(
    ndim: int, view: AttentionView, limited: bool
) -> None:
    support = None
    if limited:
        generator = torch.Generator().manual_seed(1)
        support = {"a": torch.rand(SHAPES[ndim], generator=generator) < 0.6}
    run = make_run(ndim, support=support)
    rows = choose_rows(run, view)
    conditional, mass, places = slow_rows(run, view)
    torch.testing.assert_close(rows.conditional, conditional)
    torch.testing.assert_close(rows.mass, mass)
    torch.testing.assert_close(rows.explanation, (conditional * mass[..., None]).mean(1))
    highest = conditional.amax(-1).mean(1).masked_fill(mass.sum(1) == 0, torch.nan)
    torch.testing.assert_close(rows.max_attention, highest, equal_nan=True)
    new = weights(K, *conditional.shape, seed=2) * rows.valid
    before = run.attention["a"].clone()
    override = rows.override(new)
    torch.testing.assert_close(override, slow_override(run, rows, new, places))
    assert torch.equal(run.attention["a"], before)
    torch.testing.assert_close(rows.override(rows.conditional[None])[0], before)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_override_is_differentiable_in_the_rows(ndim: int) -> None:
    run = make_run(ndim)
    rows = choose_rows(run, AttentionView("a"))
    new = weights(K, *rows.conditional.shape).requires_grad_()
    assert torch.autograd.gradcheck(rows.override, (new,))


def test_override_keeps_the_dtype_of_the_model() -> None:
    run = make_run(4, attention=weights(*SHAPES[4]).bfloat16())
    rows = choose_rows(run, AttentionView("a", heads=0, query=0))
    assert rows.conditional.dtype == torch.float32
    assert rows.override(rows.conditional[None]).dtype == torch.bfloat16


def test_special_tokens_keep_their_weight() -> None:
    attention = torch.tensor([[0.90, 0.06, 0.04]], dtype=torch.float64)
    run = Run(torch.zeros(1, 1), {"a": attention}, torch.tensor([[False, True, True]]))
    rows = choose_rows(run, None)
    torch.testing.assert_close(rows.mass, torch.tensor([[0.1]]).double())
    torch.testing.assert_close(rows.conditional, torch.tensor([[[0.0, 0.6, 0.4]]]).double())
    torch.testing.assert_close(rows.explanation, torch.tensor([[0.0, 0.06, 0.04]]).double())
    swapped = rows.override(torch.tensor([[[[0.0, 0.4, 0.6]]]]).double())
    torch.testing.assert_close(swapped, torch.tensor([[[0.90, 0.04, 0.06]]]).double())


def test_an_instance_without_positions_is_undefined() -> None:
    mask = MASK.clone()
    mask[1] = False
    rows = choose_rows(make_run(2, mask=mask), None)
    assert rows.max_attention.isnan().tolist() == [False, True, False]
    assert rows.mass[1].item() == 0
    assert not rows.conditional.isnan().any()


def test_a_row_without_weight_at_its_positions_has_none() -> None:
    attention = torch.tensor([[[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]], dtype=torch.float64)
    run = Run(torch.zeros(1, 1), {"a": attention}, torch.tensor([[False, True, True]]))
    rows = choose_rows(run, AttentionView("a"))
    assert rows.valid.tolist() == [[[False, False, False], [False, True, True]]]
    torch.testing.assert_close(rows.conditional[0, 1], torch.tensor([0, 0.375, 0.625]).double())
    assert not rows.conditional.isnan().any()
    override = rows.override(torch.tensor([[[[0, 0.5, 0.5]] * 2]]).double())
    expected = torch.tensor([[[[1.0, 0.0, 0.0], [0.2, 0.4, 0.4]]]]).double()
    torch.testing.assert_close(override, expected)
    empty = choose_rows(run, AttentionView("a", query=0))
    assert empty.max_attention.isnan().all()


def test_a_view_is_not_needed_for_one_row() -> None:
    for shape in ((B, L), (B, 1, L), (B, 1, 1, L)):
        rows = choose_rows(make_run(2, attention=weights(*shape)), None)
        assert rows.view == AttentionView("a")
        assert rows.conditional.shape == (B, 1, L)
        assert rows.override(rows.conditional[None]).shape == (1, *shape)


def test_masks_by_site_or_feature() -> None:
    other = ~MASK
    by_site = make_run(2, mask={"a": MASK, "x": other})
    by_feature = make_run(2, mask={"x": MASK})
    assert torch.equal(choose_rows(by_site, AttentionView("a", feature="x")).mask, MASK)
    assert torch.equal(choose_rows(by_feature, AttentionView("a", feature="x")).mask, MASK)
    with pytest.raises(AdapterError, match="mask must cover the site 'a'; got masks for 'x'"):
        choose_rows(by_feature, None)


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (AttentionView("a"), "a"),
        (AttentionView("a", heads=2), "a, head 2"),
        (AttentionView("a", heads=[1, -1], query=-1), "a, heads 1 and -1, query -1"),
        (AttentionView("a", query=torch.tensor([1, 2])), "a, one query per instance"),
    ],
)
def test_a_view_says_what_it_shows(view: AttentionView, text: str) -> None:
    assert str(view) == text


ERRORS: list[tuple[int, AttentionView | None, type[Exception], str]] = [
    (3, None, AdapterError, r"the model has 'a' \(3, 5, 6\)\. .*AttentionView\('a', heads=None"),
    (4, None, AdapterError, "view must say which attention rows are the explanation"),
    (2, AttentionView("b"), AdapterError, r"got 'b', and the sites are 'a' \(3, 6\)"),
    (4, AttentionView("a", heads=4), ValueError, r"view.heads must lie in 0..3 for site 'a'"),
    (4, AttentionView("a", heads=-5), ValueError, r"view.heads must lie in .* got \[-5\]"),
    (4, AttentionView("a", heads=()), ValueError, r"view.heads must lie in .* got \[\]"),
    (4, AttentionView("a", heads=(1, -3)), ValueError, "must name each head once; got .1, -3"),
    (3, AttentionView("a", heads=1), ValueError, "view.heads must lie in 0..0"),
    (2, AttentionView("a", query=1), ValueError, "view.query must lie in 0..0"),
    (
        4,
        AttentionView("a", query=5),
        ValueError,
        r"view.query must lie in 0..4 .* got \[5\]",
    ),
    (3, AttentionView("a", query=torch.tensor([0, 5, 1])), ValueError, r"got \[0, 5, 1\]"),
    (3, AttentionView("a", query=torch.tensor([0, 1])), ValueError, r"shape \(3,\), int64; .*2,"),
    (3, AttentionView("a", query=torch.ones(3)), ValueError, r"got torch.float32 \(3,\)"),
]


@pytest.mark.parametrize(
    ("ndim", "view", "error", "message"), ERRORS, ids=[message for *_, message in ERRORS]
)
def test_a_view_that_does_not_fit_is_refused(
    ndim: int, view: AttentionView | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        choose_rows(make_run(ndim), view)


def test_several_sites_need_a_view() -> None:
    attention = {"a": weights(B, L), "b": weights(B, 1, L + 1)}
    run = Run(torch.zeros(B, 1), attention, MASK)
    with pytest.raises(AdapterError, match=r"the model has 'a' \(3, 6\), 'b' \(3, 1, 7\)"):
        choose_rows(run, None)
    assert choose_rows(run, AttentionView("a")).attention.shape == (B, L)
    with pytest.raises(AdapterError, match=r"mask must have shape \(3, 7\) for the site 'b'; got"):
        choose_rows(run, AttentionView("b"))
