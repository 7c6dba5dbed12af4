"""Captum's methods against Captum called by hand, closed forms and enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import planted
import pytest
import torch
from attributed_models import IDS, Rectified, text_function
from captum import attr
from cases import PAPER_CASES, make_case
from torch import Tensor

from faithattn import (
    adapt,
    captum_attribution,
    captum_importance,
    gradient_importance,
    leave_one_out_importance,
)

# Captum's step sizes and sums of perturbations are single precision.
CLOSE = {"rtol": 1e-5, "atol": 1e-7}
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def additive() -> tuple[Any, planted.Inputs, Tensor]:
    """Planted scores, where position t gives a_t s_t, with padding on the right."""
    weights, scores = planted.rows(3, 5), torch.randn(3, 5, generator=torch.Generator()).double()
    mask = torch.arange(5) < torch.tensor([5, 3, 4])[:, None]
    return planted.Linear(), (weights, scores, mask), weights * scores * mask


# --- closed forms ---------------------------------------------------------------------------

EXACTLY_ADDITIVE = {
    "input_x_gradient": {},
    "integrated_gradients": {},
    "deep_lift": {},
    "deep_lift_shap": {},
    "gradient_shap": {},
    "feature_ablation": {},
    "occlusion": {},
    "shapley_value_sampling": {"n_samples": 2},
    "kernel_shap": {"n_samples": 60},
}


@pytest.mark.parametrize("method", EXACTLY_ADDITIVE)
def test_an_additive_model_gives_its_own_terms(method: str) -> None:
    model, inputs, expected = additive()
    found = captum_importance(model, inputs, method=method, **EXACTLY_ADDITIVE[method])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_lime_with_least_squares_gives_the_terms_of_an_additive_model() -> None:
    pytest.importorskip("sklearn")
    from captum._utils.models.linear_model import SkLearnLinearRegression

    model, inputs, expected = additive()
    lime = attr.Lime(lambda x: x, interpretable_model=SkLearnLinearRegression())
    found = captum_importance(model, inputs, method=lime, n_samples=60)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_saliency_of_an_additive_model_is_its_weights() -> None:
    model, inputs, _ = additive()
    found = captum_importance(model, inputs, method="saliency")
    torch.testing.assert_close(found, inputs[0] * inputs[2], **EXACT)


def test_deep_lift_of_a_rectified_model_is_the_rescale_rule() -> None:
    """Attention held: every step is linear but the ReLU and the sigmoid, which are modules."""
    model = Rectified()
    result = captum_attribution(adapt(model), IDS, method="deep_lift", detach_attention=True)
    x = model.embed(IDS).detach()
    weights = model.weights(x, IDS).detach()
    at, base = model.hidden(x), model.hidden(torch.zeros_like(x))
    slope = (at.relu() - base.relu()) / (at - base).where(at != base, torch.ones(()).double())
    logit = model.out((weights[..., None] * at.relu()).sum(1))[:, 0]
    real = (IDS != 0)[..., None]
    absent = torch.where(real, base.relu(), at.relu())
    start = model.out((weights[..., None] * absent).sum(1))[:, 0]
    squash = (logit.sigmoid() - start.sigmoid()) / (logit - start)
    moved = (at - base) * slope
    expected = (weights[..., None] * moved * model.out.weight[0]).sum(-1) * squash[:, None]
    expected = torch.where(result.predicted[:, None] == 1, expected, -expected)
    torch.testing.assert_close(result.importance, expected.detach(), **EXACT)
    assert float(result.delta.abs().max()) < 1e-12


def test_deep_lift_shap_is_the_mean_over_baselines() -> None:
    model, options = adapt(Rectified()), {"detach_attention": True}
    given = torch.full((4,), 0.3).double()
    single = [
        captum_importance(model, IDS, method="deep_lift", baseline=each, **options)
        for each in ("zero", given)
    ]
    both = captum_importance(
        model, IDS, method="deep_lift_shap", baseline=("zero", given), **options
    )
    torch.testing.assert_close(both, sum(single) / 2, **EXACT)


def test_guided_backpropagation_passes_positive_gradients_only() -> None:
    model = Rectified()
    found = captum_importance(adapt(model), IDS, method="guided_backprop", detach_attention=True)
    x = model.embed(IDS).detach()
    weights = model.weights(x, IDS).detach()
    at = model.hidden(x)
    output = model.out((weights[..., None] * at.relu()).sum(1))[:, 0].sigmoid()
    sign = torch.where(output > 0.5, 1, -1)
    arriving = (sign * output * (1 - output))[:, None, None] * weights[..., None]
    arriving = arriving * model.out.weight[0] * (at > 0)
    expected = (arriving.relu() @ model.hidden.weight).sum(-1)
    torch.testing.assert_close(found, expected.detach() * (IDS != 0), **EXACT)


# --- Captum by hand -------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["bilstm", "cnn"])
def test_gradient_methods_are_captums_own_on_the_embeddings(encoder: str) -> None:
    model, ids, function, vectors, words = text_function(encoder)
    inside = words[..., None]
    base = torch.where(inside, 0.0, vectors)
    x = vectors.clone().requires_grad_()
    by_hand = {
        "saliency": attr.Saliency(function).attribute(x, additional_forward_args=ids),
        "input_x_gradient": attr.InputXGradient(function).attribute(x, additional_forward_args=ids),
        "integrated_gradients": attr.IntegratedGradients(function).attribute(
            x, base, additional_forward_args=ids, n_steps=20
        ),
    }
    for name, expected in by_hand.items():
        options = {"n_steps": 20} if name == "integrated_gradients" else {}
        found = captum_importance(model, ids, method=name, **options)
        torch.testing.assert_close(found, (expected * inside).sum(-1).detach(), **EXACT)


def test_ablation_is_captums_own_and_leave_one_out_with_a_sign() -> None:
    model, ids, function, vectors, words = text_function()
    places = torch.arange(ids.shape[1])[None, :, None].expand(1, *vectors.shape[1:])
    by_hand = attr.FeatureAblation(function).attribute(
        vectors, additional_forward_args=ids, feature_mask=places.contiguous()
    )
    found = captum_importance(model, ids, method="feature_ablation")
    torch.testing.assert_close(found, by_hand[..., 0] * words, **EXACT)
    removed = leave_one_out_importance(model, ids, removal="zero_embedding")
    torch.testing.assert_close(found.abs(), removed, **EXACT)


@pytest.mark.parametrize("window", [1, 2, 50])
def test_occlusion_slides_over_each_texts_own_words(window: int) -> None:
    model, ids, function, vectors, words = text_function()
    found = captum_importance(model, ids, method="occlusion", window=window)
    for row in range(len(ids)):
        places = words[row].nonzero()[:, 0]
        width = min(window, len(places))

        def output(gone: Tensor, row: int = row) -> Tensor:
            changed = vectors[row].clone()
            changed[gone] = 0
            return function(changed[None], ids[row : row + 1])[0].detach()

        whole = output(places[:0])
        seen: dict[int, list[Tensor]] = {int(place): [] for place in places}
        for start in range(len(places) - width + 1):
            for place in places[start : start + width]:
                seen[int(place)].append(whole - output(places[start : start + width]))
        for place, changes in seen.items():
            expected = torch.stack(changes).mean()
            torch.testing.assert_close(found[row, place], expected, rtol=1e-5, atol=1e-6)


def shapley(model: Any, ids: Tensor, function: Any, vectors: Tensor, words: Tensor) -> Tensor:
    """Shapley values of every text by enumeration of all orders."""
    expected = torch.zeros(ids.shape, dtype=torch.float64)
    for row in range(len(ids)):
        places = words[row].nonzero()[:, 0].tolist()
        worth = {}
        for size in range(len(places) + 1):
            for there in itertools.combinations(places, size):
                gone = [place for place in places if place not in there]
                changed = vectors[row].clone()
                changed[gone] = 0
                worth[there] = float(function(changed[None], ids[row : row + 1])[0].detach())
        orders = list(itertools.permutations(places))
        for order in orders:
            for count, place in enumerate(order):
                before, after = sorted(order[:count]), sorted(order[: count + 1])
                gain = worth[tuple(after)] - worth[tuple(before)]
                expected[row, place] += gain / len(orders)
    return expected


def test_shapley_values_by_enumeration() -> None:
    model, ids, function, vectors, words = text_function()
    few = [1, 3]  # 4 and 2 words
    ids, vectors, words = ids[few], vectors[few], words[few]
    expected = shapley(model, ids, function, vectors, words)
    exact = captum_importance(model, ids, method=attr.ShapleyValues)
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-6)
    sampled = captum_importance(model, ids, method="shapley_value_sampling", n_samples=60)
    spread = float((sampled - expected).abs().max())
    assert 0 < spread < 0.15 * float(expected.abs().max())
    # Every order sums to the whole change, however few there are.
    torch.testing.assert_close(sampled.sum(1), expected.sum(1), rtol=1e-5, atol=1e-6)


def test_kernel_shap_of_all_subsets_is_the_shapley_value() -> None:
    pytest.importorskip("sklearn")
    model, ids, function, vectors, words = text_function()
    ids, vectors, words = ids[[3, 1]], vectors[[3, 1]], words[[3, 1]]  # 2 and 4 words
    expected = shapley(model, ids, function, vectors, words)
    found = captum_importance(model, ids, method="kernel_shap", n_samples=1500)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_one_position_gets_the_whole_change_of_kernel_shap() -> None:
    model, (weights, scores, _), _ = additive()
    alone = torch.arange(5) == torch.tensor([2, 0, 4])[:, None]
    found = captum_importance(model, (weights, scores, alone), method="kernel_shap", n_samples=9)
    torch.testing.assert_close(found, weights * scores * alone, rtol=1e-6, atol=1e-7)


# --- what is known of every model -----------------------------------------------------------


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("name", [*PAPER_CASES, "bag"])
def test_input_times_gradient_is_the_librarys_gradient(name: str, detach: bool) -> None:
    case = make_case(name)
    found = captum_importance(
        case.model,
        case.inputs,
        method="input_x_gradient",
        reduction="abs_sum",
        detach_attention=detach,
    )
    expected = gradient_importance(case.model, case.inputs, detach_attention=detach)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("of", ["probability", "logit"])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_integrated_gradients_sum_to_the_change_of_the_output(
    case: Any, baseline: str, of: str
) -> None:
    result = captum_attribution(
        case.model, case.inputs, baseline=baseline, of=of, n_steps=120, target=1
    )
    run = case.model.run(case.inputs)
    (name, feature), *_ = run.features.items()
    inside = run.mask[..., None]
    mean = (feature * inside).sum(1, keepdim=True) / run.mask.sum(1)[:, None, None]
    absent = torch.where(inside, 0.0 if baseline == "zero" else mean, feature)
    logits = [run.logits, case.model.run(case.inputs, features={name: absent.detach()}).logits]
    single = logits[0].shape[1] == 1
    outputs = logits
    if of == "probability":
        outputs = [each.sigmoid() if single else each.softmax(1) for each in logits]
    change = (outputs[0] - outputs[1])[:, 0 if single else 1].detach()
    torch.testing.assert_close(result.importance.sum(1) - change, result.delta, **CLOSE)
    assert float(result.delta.abs().max()) < 2e-3 * (1 + float(change.abs().max()))


def test_the_log_odds_of_the_other_class_have_the_other_sign(text_case: Any) -> None:
    options = {"method": "input_x_gradient", "of": "logit"}
    found = [
        captum_importance(text_case.model, text_case.inputs, target=target, **options)
        for target in (0, 1)
    ]
    torch.testing.assert_close(found[0], -found[1], **EXACT)


def test_several_labels_without_a_target_are_added_up() -> None:
    model = adapt(Rectified(3), output="sigmoid")
    for reduction in ("sum", "abs_sum"):
        options = {"method": "input_x_gradient", "reduction": reduction}
        together = captum_importance(model, IDS, **options)
        each = [captum_importance(model, IDS, target=label, **options) for label in range(3)]
        torch.testing.assert_close(together, sum(each), **EXACT)
    torch.testing.assert_close(
        together, gradient_importance(model, IDS, detach_attention=False), **EXACT
    )


def test_reductions_of_the_gradient() -> None:
    model = Rectified()
    x = model.embed(IDS).detach().requires_grad_()
    weights = model.weights(x, IDS)
    output = model.out((weights[..., None] * model.states(x)).sum(1))[:, 0].sigmoid()
    confident = torch.where(output > 0.5, output, 1 - output)
    (gradient,) = torch.autograd.grad(confident.sum(), x)
    parts = (gradient * x.detach()) * (IDS != 0)[..., None]
    expected = {
        "sum": parts.sum(-1),
        "abs_sum": parts.sum(-1).abs(),
        "l1": parts.abs().sum(-1),
        "l2": parts.norm(dim=-1),
    }
    for name, value in expected.items():
        found = captum_importance(model, IDS, method="input_x_gradient", reduction=name)
        torch.testing.assert_close(found, value, **EXACT)
    ablated = captum_importance(model, IDS, method="feature_ablation")
    for name in ("abs_sum", "l1", "l2"):  # one number a position
        found = captum_importance(model, IDS, method="feature_ablation", reduction=name)
        torch.testing.assert_close(found, ablated.abs(), **EXACT)
