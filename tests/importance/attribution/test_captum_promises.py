"""What holds of every method: invariance, seeds, a model that is left alone, errors."""

from __future__ import annotations

import copy
import random
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from attributed_models import IDS, Rectified
from captum import attr
from cases import make_case
from torch import nn

from faithattn import (
    AdapterError,
    adapt,
    captum_attribution,
    captum_importance,
    memory_budget,
)
from faithattn.adapters.state import condition
from faithattn.importance.attribution.methods import METHODS

ANYWHERE = [name for name in METHODS if name != "feature_permutation"]
FEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"n_steps": 6},
    "layer_integrated_gradients": {"n_steps": 6},
    "shapley_value_sampling": {"n_samples": 2},
    "occlusion": {"window": 2},
    "lime": {"n_samples": 6},
    "kernel_shap": {"n_samples": 6},
}
# Occlusion, SHAP and LIME compute in single precision.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def importance(case: Any, inputs: Any, method: str, **options: Any) -> torch.Tensor:
    return captum_importance(case.model, inputs, method=method, **FEW.get(method, {}), **options)


def applies(case: Any, method: str) -> bool:
    try:
        importance(case, case.take([0]), method)
    except AdapterError:
        return False
    return True


@pytest.mark.parametrize("method", ANYWHERE)
@pytest.mark.parametrize("name", ["bag", "text-bilstm-additive"])
def test_neither_padding_nor_batch_nor_chunks_matter(name: str, method: str) -> None:
    case = make_case(name)
    if not applies(case, method):
        return
    whole = importance(case, case.inputs, method, seed=3)
    assert torch.equal(whole, importance(case, case.inputs, method, seed=3))
    for side in case.sides:
        padded = importance(case, case.pad(case.inputs, 2, side == "left"), method, seed=3)
        kept = padded[:, 2:] if side == "left" else padded[:, :-2]
        torch.testing.assert_close(kept, whole, **CLOSE)
    rows = [3, 1]
    ids = torch.tensor(rows)
    some = importance(case, case.take(rows), method, seed=3, instances=ids)
    torch.testing.assert_close(some, whole[ids], **CLOSE)
    with memory_budget(0.001):
        torch.testing.assert_close(importance(case, case.inputs, method, seed=3), whole, **CLOSE)


@pytest.mark.parametrize("method", ["gradient_shap", "shapley_value_sampling", "lime"])
def test_seed_and_instance_decide_what_is_drawn(method: str) -> None:
    case = make_case("bag")
    options = {"n_samples": 30} if method == "lime" else {}
    if method == "lime":
        options["of"] = "logit"  # large enough for the lasso
    one, other = (
        captum_importance(case.model, case.inputs, method=method, seed=seed, **options)
        for seed in (1, 2)
    )
    assert not torch.equal(one, other)
    moved = captum_importance(
        *(case.model, case.inputs),
        method=method,
        seed=1,
        instances=torch.arange(5) + 7,
        **options,
    )
    assert not torch.equal(one, moved)
    assert captum_attribution(case.model, case.inputs, method=method, seed=None).seed >= 0


@pytest.mark.parametrize("method", METHODS)
def test_model_and_global_states_stay_as_they_were(method: str) -> None:
    model = Rectified()
    model.train()
    model.out.weight.requires_grad_(False)
    adapter = adapt(model)
    states = (np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    before, names = (
        condition(list(model.modules())),
        [set(each.__dict__) for each in model.modules()],
    )
    for held in (False, True):
        options = {**FEW.get(method, {}), "detach_attention": held}
        refused = method.startswith("deep_lift") and not held
        with pytest.raises(AdapterError) if refused else nullcontext():
            captum_importance(adapter, IDS, method=method, **options)
    assert condition(list(model.modules())) == before
    assert [set(each.__dict__) for each in model.modules()] == names
    assert all(weight.grad is None for weight in model.parameters())
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert random.getstate() == states[1]


@pytest.mark.parametrize("method", ["gradient_shap", "lime"])
def test_no_device_but_that_of_the_model_is_seeded(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_seed: int) -> None:
        pytest.fail("the random state of other devices is not given back")

    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, refused, raising=False)
    case, before = make_case("bag"), torch.get_rng_state()
    importance(case, case.inputs, method)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_in_the_midst_leaves_no_hooks_and_no_attributes() -> None:
    class Breaking(Rectified):
        runs = 0

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            found = super().forward(ids)
            if self.runs > 3:
                raise RuntimeError("enough")
            return found

    model = Breaking()
    parts = list(model.modules())
    names = [set(each.__dict__) for each in parts[1:]]
    with pytest.raises(AdapterError, match="enough"):
        captum_importance(adapt(model), IDS, method="deep_lift", detach_attention=True)
    assert model.runs > 3
    assert [set(each.__dict__) for each in parts[1:]] == names
    for part in parts:
        assert not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)


# --- classes and instances ------------------------------------------------------------------


def test_classes_are_the_methods_of_their_names(text_case: Any) -> None:
    model, inputs = text_case.model, text_case.inputs
    for kind in (attr.IntegratedGradients, attr.LayerIntegratedGradients, attr.FeatureAblation):
        (name,) = [name for name, known in METHODS.items() if known is kind]
        result = captum_attribution(model, inputs, method=kind)
        assert result.method == name
        assert torch.equal(result.importance, captum_importance(model, inputs, method=name))


def test_an_instance_works_on_the_forward_used_here_and_stays_as_it_was(text_case: Any) -> None:
    def own(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not called")

    class Heavy(nn.Module):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not copied")

    model, inputs = text_case.model, text_case.inputs
    local = attr.IntegratedGradients(own, multiply_by_inputs=False)
    before = dict(vars(local))
    found = captum_importance(model, inputs, method=local, n_steps=6)
    assert vars(local) == before and local.forward_func is own
    assert not torch.allclose(found, captum_importance(model, inputs, n_steps=6))
    tunnel = attr.NoiseTunnel(attr.Saliency(own))
    smooth = captum_attribution(
        *(model, inputs), method=tunnel, nt_samples=4, stdevs=0.0, nt_type="smoothgrad"
    )
    assert smooth.method == "NoiseTunnel of Saliency"
    plain = captum_importance(model, inputs, method="saliency")
    torch.testing.assert_close(smooth.importance, plain)
    lift = attr.DeepLift(Heavy())
    held = captum_importance(adapt(Rectified()), IDS, method=lift, detach_attention=True)
    named = captum_importance(adapt(Rectified()), IDS, method="deep_lift", detach_attention=True)
    assert torch.equal(held, named) and isinstance(lift.model, Heavy)


def test_the_surrogate_of_a_lime_instance_is_not_fitted() -> None:
    pytest.importorskip("sklearn")
    case = make_case("bag")
    lime = attr.Lime(None)
    before = copy.deepcopy(vars(lime.interpretable_model))
    captum_importance(case.model, case.inputs, method=lime, n_samples=5)
    assert vars(lime.interpretable_model).keys() == before.keys()


# --- feature permutation --------------------------------------------------------------------


def test_feature_permutation_takes_the_next_instance_that_has_the_position() -> None:
    case = make_case("bag")
    found = captum_importance(case.model, case.inputs, method="feature_permutation", seed=4)
    x, mask = case.inputs["x"], case.inputs["mask"]
    original = case.model.run(case.inputs).logits.sigmoid()[:, 0].detach()
    sign = torch.where(original > 0.5, 1, -1)
    for place in range(x.shape[1]):
        having = mask[:, place].nonzero()[:, 0].tolist()
        if len(having) < 2:
            assert found[having, place].isnan().all()
            continue
        donors = []
        for row in having:
            changes = {}
            for donor in having:
                changed = x.clone()
                changed[row, place] = x[donor, place]
                output = case.model.run({**case.inputs, "x": changed}).logits.sigmoid()[row, 0]
                changes[donor] = float(sign[row] * (original[row] - output).detach())
            gaps = {
                donor: abs(change - float(found[row, place])) for donor, change in changes.items()
            }
            donor = min(gaps, key=gaps.__getitem__)
            assert gaps[donor] < 1e-9 and donor != row
            donors.append(donor)
        assert sorted(donors) == having  # each gives once
    turned = torch.tensor([4, 2, 0, 1, 3])
    again = captum_importance(
        *(case.model, case.take(turned.tolist())),
        method="feature_permutation",
        seed=4,
        instances=turned,
    )
    torch.testing.assert_close(again, found[turned], equal_nan=True)
    alone = captum_importance(case.model, case.take([0]), method="feature_permutation")
    assert alone.isnan().all()


# --- results and errors ---------------------------------------------------------------------


def test_results_tell_what_was_done_and_join() -> None:
    case = make_case("text-bilstm-additive")
    parts = [
        captum_attribution(case.model, case.take(rows), n_steps=5, instances=torch.tensor(rows))
        for rows in ([0, 1], [2, 3, 4])
    ]
    joined = type(parts[0]).concatenate(parts)
    whole = captum_attribution(case.model, case.inputs, n_steps=5)
    torch.testing.assert_close(joined.importance, whole.importance)
    assert (whole.baseline, whole.reduction, whole.of, whole.detached) == (
        *("zero", "sum", "probability", False),
    )
    # Five steps, and both ends for the delta.
    assert whole.evaluations.tolist() == [7] * 5
    assert whole.summary().quantity == "|convergence delta|"
    ablated = captum_attribution(case.model, case.inputs, method="feature_ablation")
    assert ablated.delta.isnan().all() and ablated.summary().overall.undefined == 5
    assert captum_attribution(case.model, case.inputs, method="saliency").baseline == "none"


def test_an_instance_without_positions_has_zeros_and_no_delta() -> None:
    case = make_case("bag")
    mask = case.inputs["mask"].clone()
    mask[2] = False
    mask[2, 0] = False
    inputs = {"x": case.inputs["x"].clone(), "mask": mask}

    class Open(type(case.model)):  # type: ignore[misc]
        def run(self, inputs: Any, **overrides: Any) -> Any:
            real = inputs["mask"] | ~inputs["mask"].any(1, keepdim=True)
            found = super().run({**inputs, "mask": real}, **overrides)
            return type(found)(found.logits, found.attention, inputs["mask"], found.features)

    for method in ("integrated_gradients", "feature_ablation", "kernel_shap", "saliency"):
        result = captum_attribution(Open(), inputs, method=method)
        assert not result.importance[2].any() and result.delta[2].isnan()
        assert result.importance[[0, 1, 3, 4]].any(1).all()


ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"method": "ig"}, ValueError, "method must be one of saliency, .*got 'ig'"),
    ({"method": 3}, TypeError, "method must be a name or a class"),
    ({"method": attr.LayerConductance}, TypeError, "attribute to inputs; got LayerConductance"),
    ({"method": attr.NeuronGradient}, TypeError, "got NeuronGradient, which attributes to a layer"),
    ({"method": attr.NoiseTunnel}, AdapterError, "NoiseTunnel must be able to work"),
    ({"n_stepz": 3}, TypeError, "options must be what integrated_gradients takes: .*got n_stepz"),
    ({"baselines": 0}, TypeError, "got baselines"),
    ({"window": 2}, TypeError, "got window"),
    ({"n_steps": 0}, ValueError, "n_steps must be at least 1; got 0"),
    ({"method": "occlusion", "window": 1.5}, TypeError, "window must be a whole number; got 1.5"),
    (
        {"method": "shapley_value_sampling", "n_samples": 0},
        ValueError,
        "n_samples must be at least 1",
    ),
    ({"reduction": "mean"}, ValueError, "reduction must be one of sum, abs_sum, l1, l2"),
    ({"of": "loss"}, ValueError, "of must be one of probability, logit"),
    ({"baseline": "unk"}, ValueError, "baseline must be one of zero, mean, pad, mask"),
    ({"baseline": ("zero", "mean")}, ValueError, "baseline must be one for integrated_gradients"),
    ({"baseline": 0}, TypeError, "baseline must be a name, a tensor or a sequence of them; got 0"),
    ({"baseline": torch.zeros(3)}, ValueError, r"baseline must have shape \(4,\), \(4, 4\)"),
    ({"baseline": torch.zeros(4).long()}, TypeError, "baseline must be floating point"),
    ({"baseline": "mask"}, AdapterError, "model must embed a known mask token"),
    ({"method": "saliency", "baseline": "mean"}, ValueError, "must be left out for saliency"),
    ({"method": "gradient_shap", "baseline": ()}, ValueError, "must name at least one"),
    ({"max_gap": -1}, ValueError, "max_gap must be zero or more"),
    ({"target": 4}, ValueError, "target must be a class from 0 to 1"),
    ({"seed": 0.5}, TypeError, "seed must be a whole number"),
    ({"instances": torch.arange(2)}, ValueError, "instances must have one id per row"),
]


@pytest.mark.parametrize(("options", "error", "message"), ERRORS, ids=str)
def test_errors_say_what_is_wrong(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        captum_importance(adapt(Rectified()), IDS, **options)
