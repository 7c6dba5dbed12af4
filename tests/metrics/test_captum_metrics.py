"""Infidelity and maximum sensitivity against slow loops over the same draws."""

from __future__ import annotations

from functools import partial
from typing import Any

import planted
import pytest
import torch
from cases import make_case
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    adapt,
    captum_importance,
    explain,
    infidelity,
    max_sensitivity,
    memory_budget,
)
from faithattn.measures.draws import noise_of

NAMES = ("bag", "text-bilstm-additive", "question-cnn-additive")
CLOSE = {"rtol": 1e-9, "atol": 1e-13}


def parts(case: Any) -> tuple[str, Tensor, Tensor, Tensor]:
    """Name of the feature, the feature, the mask, and the predicted class."""
    run = case.model.run(case.inputs)
    (name, feature), *_ = run.features.items()
    logits = run.logits.detach()
    single = logits.shape[1] == 1
    return (
        *(name, feature.detach(), run.mask),
        (logits[:, 0] > 0).long() if single else logits.argmax(1),
    )


def output(case: Any, features: dict[str, Tensor], classes: Tensor) -> Tensor:
    logits = case.model.run(case.inputs, features=features).logits.detach()
    if logits.shape[1] == 1:
        positive = logits.sigmoid()[:, 0]
        return torch.where(classes == 1, positive, 1 - positive)
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


# --- infidelity -----------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_infidelity_is_the_mean_squared_error_over_subsets(name: str, normalize: bool) -> None:
    case = make_case(name)
    feature_name, feature, mask, classes = parts(case)
    scores = torch.randn(mask.shape, generator=torch.Generator()).double() * mask
    count, size = 9, len(mask)
    found = infidelity(
        *(case.model, case.inputs),
        explanation=scores,
        n_samples=count,
        normalize=normalize,
        seed=5,
    )
    noise = noise_of(5, torch.arange(size), torch.arange(count), mask)
    said, done = torch.zeros(count, size).double(), torch.zeros(count, size).double()
    whole = output(case, {feature_name: feature}, classes)
    for draw in range(count):
        gone = (noise[draw] > 0) & mask
        left = feature.masked_fill(gone[..., None], 0)
        said[draw] = (scores * gone).sum(1)
        done[draw] = whole - output(case, {feature_name: left}, classes)
    scale = (said * done).sum(0) / said.square().sum(0) if normalize else 1.0
    expected = (scale * said - done).square().mean(0)
    torch.testing.assert_close(found.infidelity, expected, **CLOSE)
    assert found.explanation == "given scores" and found.normalized is normalize


def test_the_terms_of_an_additive_model_have_no_infidelity() -> None:
    model, inputs = planted.faithful()
    terms = inputs[0] * inputs[1]
    plain = infidelity(model, inputs, explanation=terms, normalize=False, seed=0)
    scaled = infidelity(model, inputs, explanation=-7 * terms, seed=0)
    assert float(plain.infidelity.max()) < 1e-20 and float(scaled.infidelity.max()) < 1e-14
    terms[1, 2] = torch.nan
    undefined = infidelity(model, inputs, explanation=terms, seed=0)
    assert undefined.infidelity.isnan().tolist() == [False, True, *[False] * 4]
    inputs[1][2:4] = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    attention = infidelity(model, inputs, seed=0)  # knows no sign
    alike = torch.tensor([False, False, True, True, False, False])
    assert float(attention.infidelity[~alike].min()) > 1e-4
    assert float(attention.infidelity[alike].max()) < 1e-14
    assert attention.summary().overall.mean == pytest.approx(float(attention.infidelity.mean()))


def test_several_labels_need_a_target() -> None:
    class Labels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 3), nn.Linear(3, 2)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            return self.out((x.sum(-1).softmax(-1)[..., None] * x).sum(1))

    adapter, ids = adapt(Labels(), output="sigmoid"), torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="target must be a label from 0 to 1"):
        infidelity(adapter, ids)
    one, other = (infidelity(adapter, ids, target=label, seed=0) for label in range(2))
    assert not torch.equal(one.infidelity, other.infidelity)
    with pytest.raises(ValueError, match="baseline must be one for infidelity; got a sequence"):
        infidelity(adapter, ids, baseline=("zero", "mean"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of must be one of probability, logit"):
        infidelity(adapter, ids, target=0, of="loss")


# --- sensitivity ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sensitivity_is_the_largest_change_over_points(name: str) -> None:
    case = make_case(name)
    feature_name, feature, mask, _ = parts(case)
    count, size, width = 4, len(mask), feature.shape[2]
    found = max_sensitivity(case.model, case.inputs, radius=0.3, n_samples=count, seed=5)
    flags = mask[..., None].expand_as(feature).flatten(1)
    noise = noise_of(5, torch.arange(size), torch.arange(count), flags)
    square = (feature * mask[..., None]).square().sum((1, 2)) / (mask.sum(1) * width)
    own = next(iter(case.model.run(case.inputs).attention.values())).detach() * mask
    largest = torch.zeros(size).double()
    for draw in range(count):
        share = 2 * torch.special.ndtr(noise[draw]) - 1
        shift = 0.3 * square.sqrt()[:, None] * share * flags
        moved = {feature_name: feature + shift.view_as(feature)}
        there = next(iter(case.model.run(case.inputs, features=moved).attention.values()))
        change = (there.detach() * mask - own).norm(dim=1) / own.norm(dim=1)
        largest = torch.maximum(largest, change)
    torch.testing.assert_close(found.sensitivity, largest, **CLOSE)
    assert (largest > 0).any()


def test_functions_explain_the_model_where_it_is_moved() -> None:
    """For a bag, whose inputs are its features, that is the model on moved inputs."""
    case = make_case("bag")
    saliency = partial(captum_importance, method="saliency")
    found = max_sensitivity(case.model, case.inputs, explanation=saliency, n_samples=3, seed=1)
    assert found.explanation == "captum_importance"
    _, feature, mask, _ = parts(case)
    flags = mask[..., None].expand_as(feature).flatten(1)
    noise = noise_of(1, torch.arange(5), torch.arange(3), flags)
    square = (feature * mask[..., None]).square().sum((1, 2)) / flags.sum(1)
    own = saliency(case.model, case.inputs)
    largest = torch.zeros(5).double()
    for draw in range(3):
        share = 2 * torch.special.ndtr(noise[draw]) - 1
        shift = (0.02 * square.sqrt()[:, None] * share * flags).view_as(feature)
        there = saliency(case.model, {**case.inputs, "x": case.inputs["x"] + shift})
        largest = torch.maximum(largest, (there - own).norm(dim=1) / own.norm(dim=1))
    torch.testing.assert_close(found.sensitivity, largest, **CLOSE)


def test_scores_by_name_are_of_the_class_predicted_at_the_input() -> None:
    """Logits are about 0, so that the prediction turns nearby, and signed scores with it."""
    case = make_case("bag")
    x = case.inputs["x"].clone()
    x[..., 1:] *= 1e-3
    inputs = {"x": x[:4], "mask": case.inputs["mask"][:4]}
    assert (case.model.run(inputs).logits > 0).all()

    def found(explanation: Any) -> Tensor:
        return max_sensitivity(case.model, inputs, explanation=explanation, seed=0).sensitivity

    kind = "gradient_attention"
    torch.testing.assert_close(found(kind), found(partial(explain, kind=kind, target=1)))
    assert not torch.allclose(found(kind), found(partial(explain, kind=kind)))
    assert not found("random").any()


def test_constant_scores_do_not_change_and_zero_scores_are_undefined() -> None:
    case = make_case("bag")
    constant = max_sensitivity(
        case.model, case.inputs, explanation=lambda model, point: 1.0 * model.run(point).mask
    )
    assert not constant.sensitivity.any()
    zero = max_sensitivity(
        case.model, case.inputs, explanation=lambda model, point: 0.0 * model.run(point).mask
    )
    assert zero.sensitivity.isnan().all() and zero.summary().overall.undefined == 5


def test_what_cannot_be_explained_elsewhere() -> None:
    case = make_case("bag")
    with pytest.raises(TypeError, match="explanation must be a name or a function"):
        max_sensitivity(case.model, case.inputs, explanation=torch.zeros(5, 7))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one score a position, shape \(50, 7\); got \(5, 7\)"):
        max_sensitivity(
            case.model, case.inputs, explanation=lambda *_: case.inputs["mask"].double()
        )
    for radius in (0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="radius must be positive and finite"):
            max_sensitivity(case.model, case.inputs, radius=radius)
    with pytest.raises(TypeError, match="radius must be a number; got '1'"):
        max_sensitivity(case.model, case.inputs, radius="1")  # type: ignore[arg-type]

    class Blind(type(case.model)):  # type: ignore[misc]
        def run(self, inputs: Any, **overrides: Any) -> Any:
            run = super().run(inputs, **overrides)
            return type(run)(run.logits, run.attention, run.mask)

    with pytest.raises(AdapterError, match="features must hold the model's differentiable inputs"):
        max_sensitivity(Blind(), case.inputs)


# --- both -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [infidelity, max_sensitivity])
@pytest.mark.parametrize("name", NAMES[:2])
def test_neither_padding_nor_batch_nor_chunks_change_the_draws(name: str, metric: Any) -> None:
    case = make_case(name)

    def values(inputs: Any, **options: Any) -> Tensor:
        result = metric(case.model, inputs, n_samples=6, seed=2, **options)
        return getattr(result, metric.__name__.removeprefix("max_"))

    whole = values(case.inputs)
    for side in case.sides:
        padded = values(case.pad(case.inputs, 3, side == "left"))
        torch.testing.assert_close(padded, whole, rtol=1e-7, atol=1e-12)
    rows = torch.tensor([4, 1])
    some = values(case.take(rows.tolist()), instances=rows)
    torch.testing.assert_close(some, whole[rows], rtol=1e-7, atol=1e-12)
    with memory_budget(0.0005):
        torch.testing.assert_close(values(case.inputs), whole, rtol=1e-7, atol=1e-12)
    assert not torch.equal(values(case.inputs, instances=torch.arange(5) + 9), whole)
    assert metric(case.model, case.inputs).seed != metric(case.model, case.inputs).seed
