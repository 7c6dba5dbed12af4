"""The four tests on the attention of several layers at once, padding and memory included."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import stack
import torch
from stack import Replaying, Stack
from torch import Tensor

from faithattn import (
    AdversarialResult,
    AttentionView,
    adversarial_attention,
    gradient_correlation,
    gradient_importance,
    loo_correlation,
    memory_budget,
    permutation_test,
)

Test = Callable[..., Any]


def _mask(model: Any, inputs: Any, **options: Any) -> Any:
    return loo_correlation(model, inputs, removal="mask_attention", **options)


def _permute(model: Any, inputs: Any, **options: Any) -> Any:
    return permutation_test(model, inputs, n_permutations=12, seed=2, **options)


def _attack(model: Any, inputs: Any, **options: Any) -> Any:
    settings = {"epsilon": 0.05, "n_adversaries": 2, "n_steps": 15, "seed": 2}
    return adversarial_attention(model, inputs, **settings, **options)


TESTS = {"gradient": gradient_correlation, "mask": _mask, "permute": _permute, "attack": _attack}
EVERY = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
VIEWS = {
    "every site": AttentionView.mean(),
    "both, one head": AttentionView([0, 1], heads=1),
    "first token": AttentionView.cls(layer=0),
    "last query": AttentionView(None, query="last"),
}
EACH = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


def rows_of(inputs: Any, view: AttentionView, row: int) -> list[tuple[int, int, int]]:
    """Layer, head and query of each chosen row that is not padding."""
    real = inputs["real"][row].nonzero()[:, 0].tolist()
    layers = [0] if view == VIEWS["first token"] else [0, 1]
    heads = [1] if view.heads == 1 else [0, 1]
    queries = {None: real, 0: [0], "last": real[-1:]}[view.query]  # type: ignore[index]
    return [(layer, head, query) for layer in layers for head in heads for query in queries]


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@EACH
def test_explanation_is_the_mean_over_real_rows(view: AttentionView, causal: bool) -> None:
    model, inputs = Stack(causal=causal), stack.inputs()
    result = _mask(model, inputs, view=view)
    run = model.run(inputs)
    before = run.logits.softmax(-1)
    for b in range(stack.SIZE):
        places = rows_of(inputs, view, b)
        rows = torch.stack([run.attention[f"layers.{n}"][b, h, q] for n, h, q in places]).detach()
        inside = rows * inputs["mask"][b]
        torch.testing.assert_close(result.explanation[b], inside.mean(0))
        torch.testing.assert_close(result.mass[b], inside.sum(-1).mean())
        for t in inputs["mask"][b].nonzero()[:, 0].tolist():
            changed = {name: value.detach().clone() for name, value in run.attention.items()}
            for n, h, q in places:
                changed[f"layers.{n}"][b, h, q, t] = 0
            if view == VIEWS["first token"]:
                del changed["layers.1"]  # layers outside the view follow the changed states
            after = model.run(inputs, attention=changed).logits.softmax(-1)
            expected = (after[b] - before[b]).abs().sum() / 2
            torch.testing.assert_close(result.importance[b, t], expected.detach())


@EACH
def test_shuffles_agree_with_a_loop(view: AttentionView) -> None:
    seen: list[dict[str, Tensor]] = []

    class Watched(Stack):
        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Any:
            if attention is not None:
                seen.append(attention)
            return super().run(inputs, attention=attention, features=features)

    model, inputs = Watched(), stack.inputs()
    result = _permute(model, inputs, view=view)
    own = Stack().run(inputs)
    # After the random shuffles come all orders of the one instance that has no more of them.
    assert len(seen) == 12 + 6 and result.replay == "whole forwards"
    for k, override in enumerate(seen[:12]):
        outputs = Stack().run(inputs, attention=override).logits.softmax(-1)
        tvd = (outputs - own.logits.softmax(-1)).abs().sum(-1) / 2
        torch.testing.assert_close(result.tvd[:, k], tvd.detach())
        for b in range(stack.SIZE):
            places, mask = rows_of(inputs, view, b), inputs["mask"][b]
            divergence = 0.0
            for name, value in override.items():
                changed = (value[b] != own.attention[name][b]).any(-1).nonzero().tolist()
                assert {(int(name[-1]), h, q) for h, q in changed} <= set(places)
            for n, h, q in places:
                pair = [x[f"layers.{n}"][b, h, q][mask].detach() for x in (override, own.attention)]
                moved, original = (row / row.sum() for row in pair)
                divergence += oracles.jsd(moved.tolist(), original.tolist()) / len(places)
            assert float(result.jsd[b, k]) == pytest.approx(divergence, abs=1e-9)


@EACH
def test_gradients_hold_every_chosen_site_fixed(view: AttentionView) -> None:
    model, inputs = Stack(), stack.inputs()
    own = {name: value.detach() for name, value in model.run(inputs).attention.items()}
    if view == VIEWS["first token"]:
        del own["layers.1"]
    x = inputs["x"].clone().requires_grad_()
    logits = model.run(inputs, attention=own, features={"x": x}).logits
    logits.softmax(-1).amax(-1).sum().backward()
    expected = (x.grad * x).sum(-1).abs() * inputs["mask"]
    torch.testing.assert_close(gradient_importance(model, inputs, view=view), expected.detach())
    torch.testing.assert_close(gradient_importance(Replaying(), inputs, view=view), expected)


def assert_same(actual: Any, expected: Any, columns: slice, atol: float) -> None:
    by_position = ("explanation", "importance", "mask")
    for field in dataclasses.fields(expected):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if not isinstance(other, Tensor):
            assert one == other, field.name
            continue
        if field.name in ("attention", "original"):
            one = one[..., columns, columns]
            other = other * inputs_real(other)
            one = one * inputs_real(one)
        elif field.name in by_position:
            one = one[..., columns]
        torch.testing.assert_close(
            one,
            other,
            equal_nan=True,
            atol=atol,
            rtol=1e-6,
            msg=lambda m, n=field.name: f"{n}: {m}",
        )


def inputs_real(attention: Tensor) -> Tensor:
    """Rows of padding differ: nobody reads them."""
    real = stack.inputs()["real"][..., None]
    return real.view(stack.SIZE, *[1] * (attention.ndim - 3), stack.LENGTH, 1)


PADDED = [
    (name, side)
    for name in VIEWS
    for side in ("before", "after")
    if (name, side) != ("first token", "before")  # which is named by its place
]


@pytest.mark.parametrize(("name", "side"), PADDED)
@EVERY
def test_padding_does_not_matter(test: Test, name: str, side: str) -> None:
    view = VIEWS[name]
    expected = test(Stack(), stack.inputs(), view=view)
    wide = test(Stack(), stack.inputs(**{side: 3}), view=view)
    first = 3 if side == "before" else 0
    assert_same(
        wide, expected, slice(first, first + stack.LENGTH), 1e-4 if test is _attack else 1e-9
    )


@EACH
@EVERY
def test_chunks_do_not_matter(test: Test, view: AttentionView) -> None:
    expected = test(Replaying(), stack.inputs(), view=view)
    with memory_budget(0.02):
        assert_same(test(Replaying(), stack.inputs(), view=view), expected, slice(None), 1e-9)


def test_adversaries_of_several_sites_are_stacked() -> None:
    model, inputs = Stack(), stack.inputs()
    result = _attack(model, inputs, view=AttentionView.mean())
    shape = (2, 2, stack.LENGTH, stack.LENGTH)  # sites, heads, queries, keys
    assert result.attention.shape == (stack.SIZE, 2, *shape)
    assert result.original.shape == result.strongest.shape == (stack.SIZE, *shape)
    run = model.run(inputs)
    for n in range(2):
        assert torch.equal(result.original[:, n], run.attention[f"layers.{n}"].detach())
    for k in range(2):
        override = {f"layers.{n}": result.attention[:, k, n] for n in range(2)}
        outputs = model.run(inputs, attention=override).logits.softmax(-1)
        torch.testing.assert_close(result.probabilities[:, k], outputs.detach())
        for b in range(stack.SIZE):
            mask, total = inputs["mask"][b], []
            for n, h, q in rows_of(inputs, AttentionView.mean(), b):
                pair = (result.attention[b, k, n, h, q], result.original[b, n, h, q])
                moved, own = (row[mask] / row[mask].sum() for row in pair)
                total.append(oracles.jsd(moved.tolist(), own.tolist()))
            expected = sum(total) / len(total)
            assert float(result.jsd[b, k]) == pytest.approx(expected, abs=1e-8)
    assert (result.max_jsd <= result.upper_bound + 1e-9).all()
    joined = AdversarialResult.concatenate([result, result])
    assert joined.attention.shape == (2 * stack.SIZE, 2, *shape)
    one = _attack(model, inputs, view=AttentionView(["layers.1"]))
    assert one.attention.shape == (stack.SIZE, 2, *shape[1:])


@EVERY
def test_results_say_how_alternatives_were_computed(test: Test) -> None:
    view, inputs = AttentionView.cls(), stack.inputs()
    assert test(Stack(), inputs, view=view).replay == "whole forwards"
    assert test(Replaying(), inputs, view=view).replay == "recorded"

    plain = type("Plain", (Stack,), {"replay": Replaying.replay, "counts": []})
    assert test(plain(), inputs, view=view).replay == "adapter"


def test_nothing_replayed_is_said() -> None:
    view, inputs = AttentionView.cls(), stack.inputs()
    attached = gradient_correlation(Replaying(), inputs, view=view, detach_attention=False)
    assert attached.replay == "none"
    zeroed = loo_correlation(Replaying(), inputs, view=view, removal="zero_embedding")
    assert zeroed.replay == "none"


@pytest.mark.parametrize("test", [_permute, _attack])
def test_logits_of_a_large_vocabulary_count_in_the_budget(test: Test) -> None:
    few, many = Replaying(3), Replaying(5_000)
    with memory_budget(1.5):
        for model in (few, many):
            test(model, stack.inputs(), view=AttentionView.cls())
    assert max(few.counts) >= 2
    # 15,000 logits of at least 48 bytes each: two do not fit into 1.5 MB three times over.
    assert max(many.counts) <= 2


def test_the_view_is_named() -> None:
    result = _permute(Stack(), stack.inputs(), view=AttentionView.mean())
    assert result.view == "layers.0 and layers.1"
    last = _permute(Stack(), stack.inputs(), view=AttentionView.last_query(heads=0))
    assert last.view == "layers.1, head 0, last query"
