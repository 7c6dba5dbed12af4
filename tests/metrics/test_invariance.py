"""What must not matter: padding, batches, chunks, order, precision, modes, ambient state."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, Case, make_case
from torch import Tensor

from faithattn import (
    Plausible,
    adversarial_attention,
    attention_substitution,
    gradient_correlation,
    loo_correlation,
    memory_budget,
    permutation_test,
)

Test = Callable[..., Any]


def _gradient(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return gradient_correlation(model, inputs)


def _attached(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return gradient_correlation(model, inputs, detach_attention=False)


def _delete(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return loo_correlation(model, inputs)


def _mask(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return loo_correlation(model, inputs, removal="mask_attention")


def _renormalize(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return loo_correlation(model, inputs, removal="mask_attention_renormalize")


def _zero(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return loo_correlation(model, inputs, removal="zero_embedding")


def _permute(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return permutation_test(model, inputs, n_permutations=30, seed=5, instances=instances)


def _attack(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return adversarial_attention(
        model, inputs, epsilon=0.05, n_adversaries=3, n_steps=25, seed=5, instances=instances
    )


def _published(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return adversarial_attention(
        model, inputs, epsilon=0.05, n_adversaries=3, n_steps=25, method="published", seed=5,
        instances=instances,
    )  # fmt: skip


def _search(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return adversarial_attention(
        model, inputs, epsilon=0.05, n_adversaries=2, n_steps=100, method="search", seed=5,
        instances=instances, constraints=Plausible(min_entropy="original", max_change=0.5),
    )  # fmt: skip


def _substitute(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    """Weights that fall from the first real position on; nonsense elsewhere."""
    mask = model.run(inputs).mask
    weights = 1 / mask.double().cumsum(-1).clamp_min(1)
    return attention_substitution(model, inputs, weights.masked_fill(~mask, torch.nan))


TESTS = {
    "gradient": _gradient,
    "attached": _attached,
    "delete": _delete,
    "mask": _mask,
    "renormalize": _renormalize,
    "zero": _zero,
    "permute": _permute,
    "attack": _attack,
    "published": _published,
    "search": _search,
    "substitute": _substitute,
}
MAIN = ("gradient", "delete", "permute", "attack", "published", "search", "substitute")
EVERY = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
EACH = pytest.mark.parametrize("test", [TESTS[name] for name in MAIN], ids=MAIN)


def assert_same(
    actual: Any, expected: Any, *, columns: slice | None = None, **close: float
) -> None:
    """Compares every field of two results; the columns of what is as long as the input."""
    allowed = {"atol": 1e-7, "rtol": 1e-7, **close}
    by_position = ("explanation", "importance", "mask", "attention", "original")
    for field in dataclasses.fields(expected):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if not isinstance(other, Tensor):
            assert one == other, field.name
            continue
        if columns is not None and field.name in by_position:
            outside = one.clone()
            outside[..., columns] = 0
            assert (outside == 0).all(), field.name
            one = one[..., columns]
        torch.testing.assert_close(
            one, other, equal_nan=True, msg=lambda text, name=field.name: f"{name}: {text}",
            **allowed,
        )  # fmt: skip


@EVERY
def test_padding(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    for side in case.sides:
        wide = test(case.model, case.pad(case.inputs, 3, side == "left"))
        first = 3 if side == "left" else 0
        assert_same(wide, expected, columns=slice(first, first + case.width))


@EVERY
def test_batches(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs, torch.arange(case.size))
    parts = [[0, 1], [2], [3, 4]]
    results = [test(case.model, case.take(part), torch.tensor(part)) for part in parts]
    assert_same(type(expected).concatenate(results), expected)


@EVERY
def test_order_of_instances(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    order = [3, 0, 4, 2, 1]
    moved = test(case.model, case.take(order), torch.tensor(order))
    index = torch.tensor(order)
    sorted_back = {
        field.name: getattr(expected, field.name)[index]
        for field in dataclasses.fields(expected)
        if isinstance(getattr(expected, field.name), Tensor)
    }
    assert_same(moved, dataclasses.replace(expected, **sorted_back))


@EVERY
def test_repeated_instances_agree(case: Case, test: Test) -> None:
    twice = test(case.model, case.take([2, 2]), torch.tensor([7, 7]))
    for field in dataclasses.fields(twice):
        value = getattr(twice, field.name)
        if isinstance(value, Tensor):
            torch.testing.assert_close(value[0], value[1], equal_nan=True)


@EVERY
def test_chunks(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    for megabytes in (1e-6, 2e-3):
        with memory_budget(megabytes):
            assert_same(test(case.model, case.inputs), expected)


@EVERY
def test_repeating_a_call(case: Case, test: Test) -> None:
    assert_same(test(case.model, case.inputs), test(case.model, case.inputs), atol=0, rtol=0)


@EACH
def test_default_instances_are_running_numbers(case: Case, test: Test) -> None:
    running = test(case.model, case.inputs, torch.arange(case.size))
    assert_same(test(case.model, case.inputs), running, atol=0, rtol=0)


@pytest.mark.parametrize("name", CASES)
@EACH
def test_precision(name: str, test: Test) -> None:
    case = make_case(name)
    expected = test(case.model, case.inputs)
    if isinstance(case.model, torch.nn.Module):
        narrow = test(case.model.float(), case.inputs)
    else:
        narrow = test(case.model, {"x": case.inputs["x"].float(), "mask": case.inputs["mask"]})
    allowed = (
        {"atol": 1e-2, "rtol": 0}
        if test in (_attack, _published, _search)
        else {"atol": 1e-5, "rtol": 1e-4}
    )
    for field in dataclasses.fields(expected):
        one, other = getattr(narrow, field.name), getattr(expected, field.name)
        if isinstance(other, Tensor) and other.is_floating_point():
            assert one.dtype == torch.float32, field.name
            torch.testing.assert_close(one.double(), other, equal_nan=True, **allowed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@EACH
def test_half_precision_stays_finite(test: Test, dtype: torch.dtype) -> None:
    case = make_case("bag")
    inputs = {"x": case.inputs["x"].to(dtype), "mask": case.inputs["mask"]}
    result = test(case.model, inputs)
    expected = test(case.model, {"x": inputs["x"].double(), "mask": inputs["mask"]})
    assert result.max_attention.dtype == torch.float32
    torch.testing.assert_close(
        result.max_attention.double(), expected.max_attention, atol=1e-2, rtol=1e-2
    )
    values = result.summary().overall
    assert values.undefined == expected.summary().overall.undefined
    assert values.mean == pytest.approx(expected.summary().overall.mean, abs=0.1)


@EVERY
def test_ambient_gradient_mode(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            assert_same(test(case.model, case.inputs), expected, atol=0, rtol=0)
            assert torch.is_grad_enabled() is (mode is torch.enable_grad)


@EACH
def test_inference_mode(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    with torch.inference_mode():
        assert_same(test(case.model, case.inputs), expected)


@EVERY
def test_results_carry_no_gradient(case: Case, test: Test) -> None:
    result = test(case.model, case.inputs)
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        assert not (isinstance(value, Tensor) and value.requires_grad), field.name


def paper(name: str = "text-bilstm-additive") -> Case:
    return make_case(name)


@pytest.mark.parametrize("name", CASES[1:])
@EACH
def test_frozen_weights(name: str, test: Test) -> None:
    case = make_case(name)
    expected = test(case.model, case.inputs)
    case.model.requires_grad_(False)
    assert_same(test(case.model, case.inputs), expected)
    assert not any(weight.requires_grad for weight in case.model.parameters())


@pytest.mark.parametrize("name", CASES[1:])
@EVERY
def test_models_are_left_as_they_were(name: str, test: Test) -> None:
    case = make_case(name)
    model = case.model
    model.train()
    model.encoder.eval()
    model.decoder.weight.grad = torch.ones_like(model.decoder.weight)
    next(model.encoder.parameters()).requires_grad_(False)
    before = condition(model)
    test(model, case.inputs)
    assert_condition(model, before)


def condition(model: torch.nn.Module) -> tuple[Any, ...]:
    return (
        [part.training for part in model.modules()],
        [weight.requires_grad for weight in model.parameters()],
        [None if weight.grad is None else weight.grad.clone() for weight in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
        [sorted(vars(part)) for part in model.modules()],
    )


def assert_condition(model: torch.nn.Module, before: tuple[Any, ...]) -> None:
    after = condition(model)
    assert after[:2] == before[:2] and after[4:] == before[4:]
    for one, other in zip(after[2], before[2], strict=True):
        assert (one is None) is (other is None)
        assert one is None or torch.equal(one, other)
    for name, value in before[3].items():
        assert torch.equal(after[3][name], value), name


@pytest.mark.parametrize("where", ["encoder", "attention"])
@EACH
def test_models_are_left_as_they_were_by_a_failure(where: str, test: Test) -> None:
    case = paper()
    model = case.model
    model.train()
    model.decoder.eval()

    def fail(*_: Any) -> None:
        raise RuntimeError("the model broke")

    handle = getattr(model, where).register_forward_hook(fail)
    before = condition(model)
    grad_enabled = torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="the model broke"):
        test(model, case.inputs)
    assert_condition(model, before)
    assert torch.is_grad_enabled() is grad_enabled
    handle.remove()


@EACH
def test_inputs_are_left_alone(case: Case, test: Test) -> None:
    def copies(inputs: Any) -> list[Tensor]:
        values = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
        return [value.clone() for value in values]

    before = copies(case.inputs)
    test(case.model, case.inputs)
    assert all(torch.equal(a, b) for a, b in zip(before, copies(case.inputs), strict=True))


@EACH
def test_global_random_state_is_untouched(case: Case, test: Test) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    test(case.model, case.inputs)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


@EACH
def test_dropout_is_off(test: Test) -> None:
    case = paper()
    expected = test(case.model, case.inputs)
    case.model.attention = WithDropout(case.model.attention)
    case.model.train()
    assert_same(test(case.model, case.inputs), expected)
    assert case.model.attention.drop.training


class WithDropout(torch.nn.Module):
    def __init__(self, attention: torch.nn.Module) -> None:
        super().__init__()
        self.attention, self.drop = attention, torch.nn.Dropout(0.5)

    def forward(self, states: Tensor, *arguments: Any) -> Tensor:
        return self.attention(self.drop(states), *arguments)


@pytest.mark.parametrize("method", ["permute", "published", "search"])
def test_seeds(case: Case, method: str) -> None:
    run = permutation_test if method == "permute" else adversarial_attention
    options = {} if method == "permute" else {"n_steps": 20, "method": method}
    fresh = run(case.model, case.inputs, **options)
    assert isinstance(fresh.seed, int)
    again = run(case.model, case.inputs, seed=fresh.seed, **options)
    assert_same(again, fresh, atol=0, rtol=0)
    other = run(case.model, case.inputs, seed=fresh.seed + 1, **options)
    if method != "search":  # what a search starts with besides noise may be the best already
        assert not torch.equal(other.jsd[0], fresh.jsd[0])
