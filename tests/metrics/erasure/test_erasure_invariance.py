"""What must not matter to erasure: padding, batches, their order, chunks, precision, the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CASES, Case, make_case
from torch import Tensor

from faithattn import (
    FlipResult,
    adapt,
    erasure_to_flip,
    memory_budget,
    single_weight_erasure,
)
from tests.benchmarks.models import additive

Test = Callable[..., Any]
ORDERS = ("attention", "attention_gradient", "gradient_attention", "random", "optimal")


def _flip(model: Any, inputs: Any, instances: Tensor | None = None, **options: Any) -> Any:
    return erasure_to_flip(model, inputs, orders=ORDERS, seed=5, instances=instances, **options)


def _zeroed(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return _flip(model, inputs, instances, renormalize=False)


def _single(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return single_weight_erasure(model, inputs, seed=5, instances=instances)


def _others(model: Any, inputs: Any, instances: Tensor | None = None) -> Any:
    return single_weight_erasure(model, inputs, seed=5, instances=instances, n_random=None)


TESTS = {"flip": _flip, "zeroed": _zeroed, "single": _single, "others": _others}
EVERY = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)


def assert_same(actual: Any, expected: Any, **close: float) -> None:
    allowed = {"atol": 1e-9, "rtol": 1e-9, **close}
    for field in dataclasses.fields(expected):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if isinstance(other, Tensor):
            torch.testing.assert_close(one, other, equal_nan=True, **allowed)
        else:
            assert one == other, field.name


@EVERY
def test_padding(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    for side in case.sides:
        assert_same(test(case.model, case.pad(case.inputs, 3, side == "left")), expected)


@EVERY
def test_batches_and_their_order(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs, torch.arange(case.size))
    parts = [[0, 1], [2], [3, 4]]
    results = [test(case.model, case.take(part), torch.tensor(part)) for part in parts]
    assert_same(type(expected).concatenate(results), expected)
    order = [3, 0, 4, 2, 1]
    moved = test(case.model, case.take(order), torch.tensor(order))
    back = [order.index(row) for row in range(case.size)]
    for field in dataclasses.fields(expected):
        value = getattr(moved, field.name)
        if isinstance(value, Tensor):
            torch.testing.assert_close(value[back], getattr(expected, field.name), equal_nan=True)


@EVERY
def test_chunks_and_repetition(case: Case, test: Test) -> None:
    expected = test(case.model, case.inputs)
    with memory_budget(2e-3):
        assert_same(test(case.model, case.inputs), expected)
    assert_same(test(case.model, case.inputs), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", CASES)
@EVERY
def test_precision(name: str, test: Test) -> None:
    case = make_case(name)
    expected = test(case.model, case.inputs)
    if isinstance(case.model, torch.nn.Module):
        narrow = test(case.model.float(), case.inputs)
    else:
        narrow = test(case.model, {"x": case.inputs["x"].float(), "mask": case.inputs["mask"]})
    for field in dataclasses.fields(expected):
        one, other = getattr(narrow, field.name), getattr(expected, field.name)
        if isinstance(other, Tensor) and other.is_floating_point():
            assert one.dtype == torch.float32, field.name
            torch.testing.assert_close(one.double(), other, equal_nan=True, atol=1e-5, rtol=1e-4)


@EVERY
def test_half_precision_stays_defined(test: Test) -> None:
    case = make_case("bag")
    inputs = {"x": case.inputs["x"].half(), "mask": case.inputs["mask"]}
    result = test(case.model, inputs)
    expected = test(case.model, case.inputs)
    if isinstance(result, FlipResult):
        # Too coarse to see that the logits are affine: the optimum may be unknown.
        values, known = result.censored[:, :4], expected.censored[:, :4]
    else:
        values, known = result.delta_change, expected.delta_change
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), known, equal_nan=True, atol=0.02, rtol=0)


@EVERY
def test_an_adapted_module_under_any_gradient_mode(test: Test) -> None:
    subject = additive("mul-sum", 3, 6)
    model = subject.model.double().train()
    adapter = adapt(model)
    first, expected = (test(adapter, subject.inputs) for _ in range(2))
    replays = {first.replay, expected.replay}
    assert replays <= {"whole forwards", "recorded"}
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = test(adapter, subject.inputs)
            for result in (first, again):  # whatever was replayed, and how
                assert_same(dataclasses.replace(result, replay=expected.replay), expected)
    assert model.training and all(value.grad is None for value in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@EVERY
def test_results_are_those_of_the_cpu(test: Test) -> None:
    case = make_case("text-bilstm-additive")
    expected = test(case.model, case.inputs)
    actual = test(case.model.cuda(), case.inputs.cuda())
    for field in dataclasses.fields(expected):
        value = getattr(actual, field.name)
        if isinstance(value, Tensor):
            torch.testing.assert_close(
                value.cpu(), getattr(expected, field.name), equal_nan=True, atol=1e-9, rtol=1e-9
            )
