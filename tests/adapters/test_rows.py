"""Rows: what a view chooses of a run, and alternatives put back in their place."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError, AttentionView, Run
from faithattn.adapters.rows import Rows, choose_rows

B, H, Q, L, K = 3, 4, 5, 6, 2
SHAPES = {2: (B, L), 3: (B, Q, L), 4: (B, H, Q, L)}
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0]]).bool()
REAL = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]]).bool()


def weights(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).softmax(-1)


def make_run(ndim: int, **fields: Any) -> Run:
    attention = fields.pop("attention", weights(*SHAPES[ndim]))
    return Run(torch.zeros(B, 1), {"a": attention}, **{"mask": MASK, **fields})


def self_attention(n_sites: int, *, real: Tensor | None = REAL, **fields: Any) -> Run:
    """Sites whose queries are their keys, some of them padding."""
    attention = {f"l.{n}": weights(B, 2, L, L, seed=n) for n in range(n_sites)}
    state = None if real is None else SimpleNamespace(real=dict.fromkeys(attention, real))
    return Run(torch.zeros(B, 1), attention, **{"mask": MASK, "state": state, **fields})


Places = list[list[tuple[str, int, int]]]


def four(weights: Tensor) -> Tensor:
    return weights.reshape(B, *(1,) * (4 - weights.ndim), *weights.shape[1:])


def chosen_places(run: Run, view: AttentionView, sites: list[str]) -> Places:
    """Site, head and query of each row of each instance."""
    places: Places = []
    for b in range(B):
        places.append([])
        for site in sites:
            shape = four(run.attention[site]).shape
            heads, queries = range(shape[1]), range(shape[2])
            if view.heads is None:
                chosen: Any = heads
            else:
                chosen = [view.heads] if isinstance(view.heads, int) else view.heads
            if view.query is None:
                rows: Any = queries
            elif isinstance(view.query, str):
                last = (MASK if run.state is None else REAL)[b].nonzero()[-1]
                rows = [int(last) if len(queries) == L else 0]
            else:
                rows = [int(view.query[b]) if isinstance(view.query, Tensor) else view.query]
            pairs = itertools.product(chosen, rows)
            places[b] += [(site, heads[h], queries[q]) for h, q in pairs]
    return places


def slow_rows(run: Run, places: Places) -> tuple[Tensor, Tensor]:
    """Conditional rows and masses, one instance, row and key at a time."""
    rows, masses = [], []
    for b, (site, h, q) in [(b, place) for b, each in enumerate(places) for place in each]:
        mass, row = 0.0, []
        for t in range(L):
            inside = bool(MASK[b, t])
            if run.support is not None:
                inside = inside and bool(four(run.support[site])[b, h, q, t])
            row.append(float(four(run.attention[site])[b, h, q, t]) if inside else 0.0)
            mass += row[-1]
        rows.append([value / mass if mass else 0.0 for value in row])
        masses.append(mass)
    shape = (B, len(places[0]))
    double = {"dtype": torch.float64}
    return torch.tensor(rows, **double).view(*shape, L), torch.tensor(masses, **double).view(shape)


def slow_override(run: Run, rows: Rows, new: Tensor, places: Places) -> dict[str, Tensor]:
    full = {
        site: four(run.attention[site])[None].repeat(len(new), 1, 1, 1, 1)
        for site in rows.attention
    }
    for k, b in itertools.product(range(len(new)), range(B)):
        for r, (site, h, q) in enumerate(places[b]):
            for t in range(L):
                if rows.valid[b, r, t]:
                    full[site][k, b, h, q, t] = new[k, b, r, t] * rows.mass[b, r]
    return {site: full[site].reshape(len(new), *run.attention[site].shape) for site in full}


VIEWS = [
    (2, AttentionView("a")),
    (2, AttentionView("a", heads=0, query=-1)),
    (2, AttentionView("a", query="last")),
    (3, AttentionView("a")),
    (3, AttentionView("a", query=2)),
    (3, AttentionView("a", query=-1)),
    (3, AttentionView("a", query=torch.tensor([0, 4, -2]))),
    (4, AttentionView("a")),
    (4, AttentionView("a", heads=1)),
    (4, AttentionView("a", heads=-1, query=0)),
    (4, AttentionView("a", heads=(3, 0), query=-2)),
    (4, AttentionView("a", heads=[2, 1])),
    (4, AttentionView("a", heads=(1, 0, 2, 3))),
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
    assert_rows_as_in_a_loop(run, choose_rows(run, view), chosen_places(run, view, ["a"]))


def assert_rows_as_in_a_loop(run: Run, rows: Rows, places: Places) -> None:
    conditional, mass = slow_rows(run, places)
    torch.testing.assert_close(rows.conditional, conditional)
    torch.testing.assert_close(rows.mass, mass)
    torch.testing.assert_close(rows.mean_mass, mass.mean(1))
    torch.testing.assert_close(rows.explanation, (conditional * mass[..., None]).mean(1))
    highest = conditional.amax(-1).mean(1).masked_fill(mass.sum(1) == 0, torch.nan)
    torch.testing.assert_close(rows.max_attention, highest, equal_nan=True)
    assert rows.counted.all()
    new = weights(K, *conditional.shape, seed=2) * rows.valid
    before = {name: value.clone() for name, value in run.attention.items()}
    override = rows.override(new)
    assert list(override) == list(rows.attention) == list(dict.fromkeys(p[0] for p in places[0]))
    torch.testing.assert_close(override, slow_override(run, rows, new, places))
    assert all(torch.equal(run.attention[name], before[name]) for name in before)
    for name, same in rows.override(rows.conditional[None]).items():
        torch.testing.assert_close(same[0], before[name])


SEVERAL = [
    (AttentionView(["l.2", "l.0"]), ["l.2", "l.0"]),
    (AttentionView((0, -1), heads=1), ["l.0", "l.2"]),
    (AttentionView(("l.1",), query=0), ["l.1"]),
    (AttentionView(["l.0", 1], heads=(1, 0), query=torch.tensor([0, 5, 2])), ["l.0", "l.1"]),
    (AttentionView(None, query=3), ["l.0", "l.1", "l.2"]),
    (AttentionView(None, query="last"), ["l.0", "l.1", "l.2"]),
    (AttentionView.mean(), ["l.0", "l.1", "l.2"]),
    (AttentionView.cls(layer=1), ["l.1"]),
    (AttentionView.last_query(heads=0), ["l.2"]),
]


@pytest.mark.parametrize(("view", "sites"), SEVERAL, ids=[str(view) for view, _ in SEVERAL])
@pytest.mark.parametrize("limited", [False, True], ids=["unlimited", "causal"])
@pytest.mark.parametrize("known", [False, True], ids=["padding unknown", "padding known"])
def test_rows_of_several_sites_follow_each_other(
    view: AttentionView, sites: list[str], limited: bool, known: bool
) -> None:
    support = {f"l.{n}": torch.ones(B, 2, L, L).tril().bool() for n in range(3)}
    run = self_attention(3, real=REAL if known else None, support=support if limited else None)
    if view.query is None and known:  # all rows that are no padding: tested below
        view = AttentionView(view.site, view.heads, torch.tensor([2, 3, 4]))
    assert_rows_as_in_a_loop(run, choose_rows(run, view), chosen_places(run, view, sites))


def test_queries_that_are_padding_take_no_part() -> None:
    run = self_attention(2)
    rows = choose_rows(run, AttentionView.mean())
    counted = REAL.repeat(1, 4)  # two sites, two heads
    assert torch.equal(rows.counted, counted)
    assert not rows.valid[~counted].any() and rows.valid[counted].any()
    every = torch.stack([run.attention[f"l.{n}"] for n in range(2)], 1)  # (B, S, H, L, L)
    inside = every * MASK[:, None, None, None]
    for b in range(B):
        real = inside[b][:, :, REAL[b]]
        torch.testing.assert_close(rows.explanation[b], real.mean((0, 1, 2)))
        torch.testing.assert_close(rows.mean_mass[b], real.sum(-1).mean())
        highest = (real / real.sum(-1, keepdim=True)).amax(-1).mean()
        torch.testing.assert_close(rows.max_attention[b], highest)
    new = weights(K, B, 4 * L, L, seed=3)
    override = rows.override(new / new.sum(-1, keepdim=True))
    for name, value in override.items():
        padding = value.transpose(2, 3)[:, ~REAL]
        expected = run.attention[name].transpose(1, 2)[~REAL].expand(padding.shape)
        assert torch.equal(padding, expected)


def test_rows_are_numbered_without_padding() -> None:
    narrow = choose_rows(self_attention(2, real=REAL), AttentionView.mean())
    shift = 2
    attention = {
        f"l.{n}": torch.nn.functional.pad(weights(B, 2, L, L, seed=n), (shift, 0, shift, 0))
        for n in range(2)
    }
    pad = (shift, 0)
    real, mask = (torch.nn.functional.pad(flags, pad) for flags in (REAL, MASK))
    state = SimpleNamespace(real=dict.fromkeys(attention, real))
    wide = choose_rows(Run(torch.zeros(B, 1), attention, mask, state=state), AttentionView.mean())
    for b in range(B):
        kept = [rows.numbers[b][rows.counted[b]] for rows in (narrow, wide)]
        assert torch.equal(*kept) and len(kept[0].unique()) == len(kept[0])
    torch.testing.assert_close(wide.explanation[:, shift:], narrow.explanation)
    torch.testing.assert_close(wide.max_attention, narrow.max_attention)


def test_the_last_query_on_either_side_of_the_padding() -> None:
    view = AttentionView.last_query()
    known = self_attention(1)
    last = [5, 3, 5]
    for b, q in enumerate(last):
        expected = known.attention["l.0"][b, :, q].mean(0) * MASK[b]
        torch.testing.assert_close(choose_rows(known, view).explanation[b], expected)
    unknown = choose_rows(self_attention(1, real=None), view)  # the mask is all there is
    for b, q in enumerate([5, 3, 2]):
        expected = known.attention["l.0"][b, :, q].mean(0) * MASK[b]
        torch.testing.assert_close(unknown.explanation[b], expected)
    nothing = self_attention(1, real=REAL & False)
    assert choose_rows(nothing, view).explanation.isfinite().all()
    empty = choose_rows(nothing, AttentionView.mean())
    assert not empty.counted.any() and not empty.explanation.any()
    assert empty.max_attention.isnan().all() and (empty.mean_mass == 0).all()


def test_padding_of_keys_says_nothing_about_queries_of_cross_attention() -> None:
    attention = {"cross_attn": weights(B, L, L), "cross": weights(B, Q, L)}
    state = SimpleNamespace(real=dict.fromkeys(attention, REAL))
    run = Run(torch.zeros(B, 1), attention, MASK, state=state)
    for name in attention:
        rows = choose_rows(run, AttentionView(name))
        assert rows.counted.all()
        last = choose_rows(run, AttentionView(name, query="last"))
        torch.testing.assert_close(last.explanation, attention[name][:, -1] * MASK)


@pytest.mark.parametrize("state", [torch.ones(B, 2), 0, 1.5, "state", SimpleNamespace(real=True)])
def test_a_state_that_says_nothing_about_padding(state: Any) -> None:
    # Tensors and numbers have a part that is called real, too.
    rows = choose_rows(self_attention(1, real=None, state=state), AttentionView.mean())
    assert rows.counted.all()


def test_keys_beyond_the_queries() -> None:
    # A learned key at the end (add_bias_kv): the mask is as long as the keys.
    attention = {"self_attn": weights(B, 2, L, L + 1)}
    mask, real = (torch.nn.functional.pad(flags, (0, 1)) for flags in (MASK, REAL))
    state = SimpleNamespace(real={"self_attn": real})
    run = Run(torch.zeros(B, 1), attention, mask, state=state)
    rows = choose_rows(run, AttentionView.mean())
    assert torch.equal(rows.counted, REAL.repeat(1, 2))
    last = choose_rows(run, AttentionView.last_query())
    expected = torch.stack([attention["self_attn"][b, :, q] for b, q in enumerate([5, 3, 5])])
    torch.testing.assert_close(last.explanation, expected.mean(1) * mask)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_override_is_differentiable_in_the_rows(ndim: int) -> None:
    run = make_run(ndim)
    for view in (AttentionView("a"), AttentionView("a", query=0)):
        rows = choose_rows(run, view)
        new = weights(K, *rows.conditional.shape).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, rows=rows: rows.override(x)["a"], (new,))


def test_override_keeps_the_dtype_of_the_model() -> None:
    run = make_run(4, attention=weights(*SHAPES[4]).bfloat16())
    for view in (AttentionView("a", heads=0, query=0), AttentionView("a")):
        rows = choose_rows(run, view)
        assert rows.conditional.dtype == torch.float32
        assert rows.override(rows.conditional[None])["a"].dtype == torch.bfloat16


def test_special_tokens_keep_their_weight() -> None:
    attention = torch.tensor([[0.90, 0.06, 0.04]], dtype=torch.float64)
    run = Run(torch.zeros(1, 1), {"a": attention}, torch.tensor([[False, True, True]]))
    rows = choose_rows(run, None)
    torch.testing.assert_close(rows.mass, torch.tensor([[0.1]]).double())
    torch.testing.assert_close(rows.conditional, torch.tensor([[[0.0, 0.6, 0.4]]]).double())
    torch.testing.assert_close(rows.explanation, torch.tensor([[0.0, 0.06, 0.04]]).double())
    swapped = rows.override(torch.tensor([[[[0.0, 0.4, 0.6]]]]).double())["a"]
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
    assert rows.counted.all()  # it is an explanation that points nowhere
    torch.testing.assert_close(rows.conditional[0, 1], torch.tensor([0, 0.375, 0.625]).double())
    torch.testing.assert_close(rows.explanation, torch.tensor([[0, 0.15, 0.25]]).double())
    assert not rows.conditional.isnan().any()
    override = rows.override(torch.tensor([[[[0, 0.5, 0.5]] * 2]]).double())["a"]
    expected = torch.tensor([[[[1.0, 0.0, 0.0], [0.2, 0.4, 0.4]]]]).double()
    torch.testing.assert_close(override, expected)
    empty = choose_rows(run, AttentionView("a", query=0))
    assert empty.max_attention.isnan().all()


def test_a_view_is_not_needed_for_one_row() -> None:
    for shape in ((B, L), (B, 1, L), (B, 1, 1, L)):
        run = make_run(2, attention=weights(*shape))
        for view in (None, AttentionView.only()):
            rows = choose_rows(run, view)
            assert rows.view == AttentionView("a")
            assert rows.conditional.shape == (B, 1, L)
            assert rows.override(rows.conditional[None])["a"].shape == (1, *shape)


def test_masks_by_site_or_feature() -> None:
    other = ~MASK
    by_site = make_run(2, mask={"a": MASK, "x": other})
    by_feature = make_run(2, mask={"x": MASK})
    assert torch.equal(choose_rows(by_site, AttentionView("a", feature="x")).mask, MASK)
    assert torch.equal(choose_rows(by_feature, AttentionView("a", feature="x")).mask, MASK)
    with pytest.raises(AdapterError, match="mask must cover the site 'a'; got masks for 'x'"):
        choose_rows(by_feature, None)


def test_sites_over_other_positions_are_not_mixed() -> None:
    message = (
        r"over the same positions; got 'l\.0' and 'l\.1', whose masks differ. Choose with view="
    )
    run = self_attention(3, mask={"l.0": MASK, "l.1": ~MASK, "l.2": MASK.clone()})
    with pytest.raises(AdapterError, match=message + r"AttentionView\(\['l.0', 'l.2'\]\)"):
        choose_rows(run, AttentionView.mean())
    run = self_attention(2, mask={"l.0": MASK, "l.1": ~MASK})
    with pytest.raises(AdapterError, match=message + r"AttentionView\('l.0'\)"):
        choose_rows(run, AttentionView.mean())
    same = self_attention(2, mask={"l.0": MASK, "l.1": MASK.clone()})
    assert torch.equal(choose_rows(same, AttentionView.mean()).mask, MASK)


def test_support_is_asked_for_where_it_is_needed_and_checked() -> None:
    class Lazy(dict[str, Tensor]):
        asked: list[str]

        def __getitem__(self, name: str) -> Tensor:
            self.asked.append(name)
            return super().__getitem__(name)

    support = Lazy({f"l.{n}": torch.ones(B, 2, L, L, dtype=torch.bool) for n in range(3)})
    support.asked = []
    choose_rows(self_attention(3, support=support), AttentionView("l.1", query=0))
    assert set(support.asked) == {"l.1"}
    wrong = self_attention(1, support={"l.0": MASK})
    with pytest.raises(AdapterError, match=r"support\['l.0'\] must have the shape of the"):
        choose_rows(wrong, AttentionView.mean())


ERRORS: list[tuple[int, AttentionView | None, type[Exception], str]] = [
    (2, AttentionView("b"), AdapterError, r"got 'b', and the sites are 'a' \(3, 6\)"),
    (4, AttentionView("a", heads=4), ValueError, r"view.heads must lie in 0..3 for site 'a'"),
    (4, AttentionView("a", heads=-5), ValueError, r"view.heads must lie in .* got \[-5\]"),
    (4, AttentionView("a", heads=(1, -3)), ValueError, "must name each head once; got .1, -3"),
    (3, AttentionView("a", heads=1), ValueError, "view.heads must lie in 0..0"),
    (2, AttentionView("a", query=1), ValueError, "view.query must lie in 0..0"),
    (4, AttentionView("a", query=5), ValueError, r"view.query must lie in 0..4 .* got \[5\]"),
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


def test_a_mask_of_another_length() -> None:
    attention = {"a": weights(B, L), "b": weights(B, 1, L + 1)}
    run = Run(torch.zeros(B, 1), attention, MASK)
    assert list(choose_rows(run, AttentionView("a")).attention) == ["a"]
    with pytest.raises(AdapterError, match=r"mask must have shape \(3, 7\) for the site 'b'; got"):
        choose_rows(run, AttentionView("b"))
