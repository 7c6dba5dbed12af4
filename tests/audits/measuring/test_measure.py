"""measure(): every column is what its metric gives alone, and what is shared is run once."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import planted
import pytest
import torch
from alone import OPTIONS, SEED, alone
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    Score,
    adapt,
    adversarial_attention,
    loo_correlation,
)
from faithattn.adapters.state import condition
from faithattn.audits.batch import Batch
from faithattn.audits.measuring.measure import measure
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.part import Part
from tests.adapters.adapter_models import Adapter
from tests.adapters.plain_modules import Plain
from tests.explanations import small_transformer
from tests.explanations.small_transformer import LAYERS, VIEWS, ByHand

IDS = torch.tensor([[5, 6, 7, 8, 3], [4, 9, 0, 0, 0], [10, 11, 3, 0, 0], [7, 0, 0, 0, 0]])
# Of double precision: the published BiLSTM goes on from what it read where texts are shortened,
# and rounds otherwise in its own run. (An exact adversary stays on its slab to 1e-11.)
GONE_ON_FROM = 1e-11
# Also: a replay, where alone it is whole forwards, as fewer alternatives were announced.
REPLAYED = 1e-15
# Weights in single precision do not sum to one beyond it.
ROUNDED = 3e-8
TEXTS = ("gradient_correlation", "loo_correlation", "permutation_test")


def part_of(
    model: Any, inputs: Any, view: Any = None, names: Any = None, **options: Any
) -> tuple[Part, Plan, Tensor]:
    """A part, its plan and the ids of its instances."""
    first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    ids = 7 * torch.arange(len(first)) + 3
    plan = Plan.of({name: OPTIONS[name] for name in names or OPTIONS}, view, SEED)
    target = options.pop("target", None)
    return measure(model, Batch(inputs, target=target), ids, plan, **options), plan, ids


def hold(
    model: Any, inputs: Any, view: Any = None, names: Any = None, *, atol: float = 0, **given: Any
) -> None:
    """Holds every column and score of a part against calls of the public functions."""
    part, plan, ids = part_of(model, inputs, view, names, **given)
    assert not part.failures
    for name, each in plan.views.items():
        found = alone(model, inputs, ids, each, names=names, **given)
        held = {key for key in found if plan.key(key, name) in part.columns}
        for key in held:
            slack = max(
                atol, REPLAYED * key.endswith(".uniform"), ROUNDED * key.endswith("farthest")
            )
            column, expected = part.columns[plan.key(key, name)], found[key].double().numpy()
            np.testing.assert_allclose(column, expected, rtol=0, atol=slack, err_msg=key)
        promised = {plan.key(key, name) for key in held}
        own = {key for key, _ in plan.columns if key.partition("@")[2] in ("", name)}
        missing = {key for key in own - promised if "." in key} - {
            plan.key("gradient_loo.pvalue", name)
        }
        assert not missing
        for key in ("attention", "gradient", "leave_one_out"):
            if plan.key(key, name) in part.positions:
                _hold_scores(part, plan.key(key, name), found[key], found["mask"], atol)


def _hold_scores(part: Part, key: str, scores: Tensor, mask: Tensor, atol: float) -> None:
    for row, (expected, flags) in enumerate(zip(scores.float(), mask, strict=True)):
        kept = part.positions[key][row]
        assert kept.dtype == np.float32
        np.testing.assert_allclose(kept, expected[flags].numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("name", cases.CASES)
def test_hand_written_models_give_what_they_give_alone(name: str) -> None:
    case = cases.make_case(name)
    hold(case.model, case.inputs, atol=GONE_ON_FROM if "bilstm" in name else 0)


OUTPUTS = {
    "one sigmoid": (1, "auto"),
    "three classes": (3, "auto"),
    "three labels": (3, "sigmoid"),
    "regression": (1, "identity"),
    "three outputs": (3, "identity"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_plain_modules_give_what_they_give_alone(kind: str) -> None:
    count, output = OUTPUTS[kind]
    hold(adapt(Plain(n_classes=count), output=output), IDS, atol=1e-16)


def test_single_precision_gives_what_it_gives_alone() -> None:
    hold(Plain().float(), IDS)


def test_a_target_is_explained_as_alone() -> None:
    hold(Plain(n_classes=3), IDS, names=TEXTS, target=torch.tensor([2, 0, 1, 1]))


@pytest.mark.parametrize("causal", [False, True])
def test_every_view_gives_what_it_gives_alone(causal: bool) -> None:
    views = {**VIEWS, "the other head": AttentionView.cls(heads=0)}
    hold(
        small_transformer.adapted(causal=causal), small_transformer.IDS, views, TEXTS, atol=REPLAYED
    )


def test_views_of_a_hand_written_model_without_replay_give_what_they_give_alone() -> None:
    names = ("gradient_correlation", "single_weight_erasure")
    views = {
        f"layer {layer}, head {head}": AttentionView(site, heads=head, query=0)
        for layer, site in enumerate(LAYERS)
        for head in range(2)
    }
    hold(ByHand(small_transformer.adapted()), small_transformer.IDS, views, names)


def test_the_adversary_of_positions_is_the_strongest() -> None:
    """Of two heads, whose mean weights at the mask the attention is, too."""
    model, inputs, view = small_transformer.adapted(), small_transformer.IDS, AttentionView.cls()
    part, _, ids = part_of(model, inputs, view, ["adversarial_attention"])
    found = adversarial_attention(
        model, inputs, seed=SEED, instances=ids, view=view, **OPTIONS["adversarial_attention"]
    )
    mean = found.strongest[:, :, 0].mean(1)
    changed = 0
    for row, flags in enumerate(inputs > 1):
        kept = part.positions["adversary"][row]
        torch.testing.assert_close(torch.tensor(kept), mean[row][flags].float(), rtol=0, atol=1e-7)
        changed += not np.allclose(kept, part.positions["attention"][row])
    assert changed


def test_the_adversary_is_shown_where_rows_may_attend() -> None:
    """The second row gives weight to a key that it may not use: the attention leaves it out."""
    view, options = AttentionView("heads"), OPTIONS["adversarial_attention"]
    model = planted.Heads()
    plan = Plan.of({"adversarial_attention": options}, view, SEED)
    part = measure(model, Batch(None), torch.arange(3), plan)
    found = adversarial_attention(
        model, None, seed=SEED, instances=torch.arange(3), view=view, **options
    )
    shown = (found.strongest * model.support).flatten(1, 2).mean(1)[:, 1:]
    kept = np.stack([part.positions["adversary"][row] for row in range(3)])
    np.testing.assert_allclose(kept, shown.numpy(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("removal", ["mask_attention", "mask_attention_renormalize"])
def test_what_is_removed_from_the_attention_is_that_of_a_view(removal: str) -> None:
    model, views = small_transformer.adapted(), {"a": VIEWS["first token"], "b": VIEWS["one head"]}
    plan = Plan.of(["loo_correlation"], views, removal=removal)
    part = measure(model, Batch(small_transformer.IDS), torch.arange(3), plan)
    for name, view in views.items():
        alone = loo_correlation(model, small_transformer.IDS, view=view, removal=removal)
        flags = alone.mask.numpy()
        expected = alone.importance.float().numpy()[flags]
        np.testing.assert_allclose(
            part.positions[f"leave_one_out@{name}"].values, expected, rtol=0, atol=1e-7
        )


class Counted(nn.Module):
    """Counts how often the transformer runs, and on how many texts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.runs, self.texts = small_transformer.Encoder(), 0, 0

    def forward(self, ids: Tensor) -> Tensor:
        self.runs, self.texts = self.runs + 1, self.texts + len(ids)
        return self.inner(ids)


# Enough alternatives for what depends on the attention to be recorded.
MANY: dict[str, dict[str, Any]] = {
    "permutation_test": {"n_permutations": 300},
    "single_weight_erasure": {"n_random": 300},
    "gradient_correlation": {},
    "loo_correlation": {},
}


def counted(view: Any, *names: str) -> tuple[int, int]:
    """Runs and texts of a model that was seen before."""
    model, batch = Counted(), Batch(small_transformer.IDS)
    adapter = adapt(model, mask=lambda ids: ids > 1)
    plan = Plan.of({name: MANY[name] for name in names}, view)
    measure(adapter, batch, torch.arange(3), plan)
    model.runs = model.texts = 0
    measure(adapter, batch, torch.arange(3), plan)
    return model.runs, model.texts


HEADS = {
    f"layer {layer}, head {head}": AttentionView.cls(layer, heads=head)
    for layer in range(2)
    for head in range(2)
}
FIRST = {name: view for name, view in HEADS.items() if name.endswith("head 0")}
SIZE = len(small_transformer.IDS)


def test_heads_of_a_layer_share_its_runs() -> None:
    one = counted(AttentionView.cls(), "permutation_test")
    assert one == (1, SIZE)
    assert counted(HEADS, "permutation_test") == counted(FIRST, "permutation_test") == (2, 2 * SIZE)
    both = (2 * 2, 2 * 2 * SIZE)  # with gradients and without, of each layer
    assert counted(HEADS, "gradient_correlation", "permutation_test") == both
    assert counted(HEADS, "gradient_correlation") == both


def test_layers_share_what_is_removed() -> None:
    runs, texts = counted(AttentionView.cls(), "loo_correlation")
    assert texts >= SIZE + int((small_transformer.IDS > 1).sum())
    assert counted(HEADS, "loo_correlation") == (runs + 1, texts + SIZE)  # that of the other layer


def test_tests_share_one_run() -> None:
    view = AttentionView.cls()
    assert counted(view, "permutation_test", "single_weight_erasure") == (1, SIZE)
    runs, texts = counted(view, "loo_correlation")
    assert counted(view, *MANY) == (runs + 1, texts + SIZE)  # that with gradients


def test_numbers_do_not_depend_on_what_was_run_before() -> None:
    """A first run looks at every site, whose weights then are written out; later ones do not."""
    fresh, ids = Fused(), small_transformer.IDS
    view = {"last": AttentionView.cls(), "first": AttentionView.cls(layer=0)}
    known, names = Fused(), [*TEXTS, "adversarial_attention"]
    part_of(known, ids[1:].flip(0), view, names)
    first, _, _ = part_of(fresh, ids, view, names)
    later, _, _ = part_of(known, ids, view, names)
    for key, column in first.columns.items():
        assert column.tobytes() == later.columns[key].tobytes(), key
    for key, scores in first.positions.items():
        assert scores.values.tobytes() == later.positions[key].values.tobytes(), key


class Fused(nn.Module):
    """Two layers of fused attention in single precision: written out, they round otherwise."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed = nn.Embedding(12, 16, padding_idx=0)
            self.first, self.second = Layer(), Layer()
            self.out = nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.second(self.first(self.embed(ids), ids), ids)[:, 0])


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(16, 48)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        query, key, value = (
            each.unflatten(-1, (2, 8)).transpose(1, 2) for each in self.all(x).chunk(3, -1)
        )
        mask = (ids != 0)[:, None, None].expand(-1, 2, ids.shape[1], -1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return x + mixed.transpose(1, 2).flatten(2)


def broken(_: Any) -> Tensor:
    raise ValueError("weights must be\n finite; got nan.")


BROKEN = Score("broken", "nothing", True, compute=broken)


def test_a_metric_that_fails_leaves_the_others() -> None:
    model = Adapter()  # without removal
    plan = Plan.of(["loo_correlation", BROKEN, "gradient_correlation"], None, SEED)
    part = measure(model, Batch(IDS), torch.arange(4), plan, record=True)
    assert set(part.failures) == {"loo_correlation", "broken"}
    assert part.failures["loo_correlation"].startswith("model must have a remove(inputs, posi")
    assert part.failures["broken"] == "ValueError: weights must be finite; got nan."
    assert [(key, str(each.dtype)) for key, each in part.columns.items()] == list(plan.columns)
    for key in ("loo_correlation.statistic", "broken.value", "gradient_loo.statistic"):
        assert np.isnan(part.columns[key]).all()
    assert np.isnan(part.positions["leave_one_out"].values).all()
    alone, _, _ = part_of(model, IDS, names=["gradient_correlation"])
    key = "gradient_correlation.statistic"
    np.testing.assert_array_equal(part.columns[key], alone.columns[key])
    assert not np.isnan(part.columns[key]).all()
    with pytest.raises(AdapterError, match="model must have a remove"):
        measure(model, Batch(IDS), torch.arange(4), plan)


def test_what_fails_has_columns_of_their_kind() -> None:
    plan = Plan.of({"single_weight_erasure": {}, "permutation_test": {}}, None, SEED)
    part = measure(Unreplayable(), Batch(IDS), torch.arange(4), plan, record=True)
    assert set(part.failures) == {"single_weight_erasure", "permutation_test"}
    assert (part.columns["single_weight_erasure.n_others"] == -1).all()
    assert not part.columns["single_weight_erasure.exact"].any()
    assert np.isnan(part.columns["permutation_test.median_tvd"]).all()
    assert not np.isnan(part.columns["max_attention"]).any()


class Unreplayable(Adapter):
    def use(self, given: Tensor, own: Tensor) -> Tensor:
        raise RuntimeError("no other attention")


def test_a_model_that_cannot_be_read_fails_as_a_whole() -> None:
    plan = Plan.of(["permutation_test"], {"a": AttentionView("nowhere"), "b": None})
    with pytest.raises(AdapterError, match="must"):
        measure(Plain(), Batch(IDS), torch.arange(4), plan, record=True)
    with pytest.raises(ValueError, match="instances must have one id per row"):
        measure(Plain(), Batch(IDS), torch.arange(3), Plan.of(), record=True)


@pytest.mark.parametrize("record", [False, True])
def test_the_model_is_left_as_it_was(record: bool) -> None:
    model = Plain(dropout=0.5)
    model.train()
    model.hidden.weight.requires_grad_(False)
    parts = list(model.modules())
    before, rng = condition(parts), torch.get_rng_state()
    plan = Plan.of(["gradient_correlation", "permutation_test", BROKEN, "loo_correlation"])
    batch = Batch(IDS)
    if record:
        measure(model, batch, torch.arange(4), plan, record=True)
    else:
        with pytest.raises(ValueError, match="weights must be"):
            measure(model, batch, torch.arange(4), plan)
    assert condition(parts) == before and torch.equal(torch.get_rng_state(), rng)
    assert all(weight.grad is None for weight in model.parameters())


def test_it_runs_in_inference_mode_and_takes_time() -> None:
    names = ["gradient_correlation", "loo_correlation", "permutation_test"]
    model = Plain()
    outside, _, _ = part_of(model, IDS, names=names)
    with torch.inference_mode():
        inside, _, _ = part_of(model, IDS, names=names)
    for key, column in outside.columns.items():
        np.testing.assert_array_equal(column, inside.columns[key])
    assert list(inside.seconds) == names and all(each > 0 for each in inside.seconds.values())
