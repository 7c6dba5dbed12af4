"""On an accelerator: the same results as on the CPU, and where they live."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import make_case
from torch import Tensor

from faithattn import (
    Plausible,
    adversarial_attention,
    adversarial_frontier,
    exact_adversary,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LIMITS = Plausible(min_entropy="original", max_change=0.5)
TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "gradient": gradient_correlation,
    "delete": loo_correlation,
    "permute": lambda model, x: permutation_test(model, x, n_permutations=50, seed=0),
    "exact": lambda model, x: adversarial_attention(model, x, seed=0),
    "search": lambda model, x: adversarial_attention(model, x, method="search", seed=0),
    "published": lambda model, x: adversarial_attention(
        model, x, method="published", n_steps=40, seed=0
    ),
    "limited": lambda model, x: adversarial_attention(model, x, constraints=LIMITS, seed=0),
    "frontier": lambda model, x: adversarial_frontier(model, x, constraints=(None, LIMITS), seed=0),
}


def moved(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.cuda()
    return {name: value.cuda() for name, value in inputs.items()}


@pytest.mark.parametrize("name", ["text-bilstm-additive", "question-average-additive"])
@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_results_are_those_of_the_cpu(name: str, test: Callable[[Any, Any], Any]) -> None:
    case = make_case(name)
    expected = test(case.model, case.inputs)
    actual = test(case.model.cuda(), moved(case.inputs))
    searching = "search" in getattr(expected, "method", "")
    for field in dataclasses.fields(expected):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if not isinstance(other, Tensor):
            assert one == other, field.name
        elif other.dtype == torch.float64 and not (searching and other.ndim > 1):
            # Equally good adversaries may be found in another order.
            torch.testing.assert_close(
                one.cpu(), other, atol=1e-5, rtol=1e-5, equal_nan=True,
                msg=lambda text, name=field.name: f"{name}: {text}",
            )  # fmt: skip


def test_certificates_of_tensors_on_the_accelerator() -> None:
    from readouts_of_classes import classes

    cpu, gpu = (
        adversarial_attention(classes(device), None, method="certified", epsilon=0.05, seed=0)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(gpu.max_jsd.cpu(), cpu.max_jsd, atol=2e-4, rtol=0)
    assert gpu.upper_bound.device.type == "cuda" and gpu.certified.cpu().equal(cpu.certified)


@pytest.mark.parametrize("length", [10, 200])
def test_the_pure_function(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 16, length, generator=generator, dtype=torch.float64)
    attention, scores = noise[0].softmax(-1), 2 * noise[1]
    expected = exact_adversary(attention, scores, 0.1, epsilon=0.02)
    actual = exact_adversary(attention.cuda(), scores.cuda(), 0.1, epsilon=0.02)
    assert actual[0].is_cuda
    torch.testing.assert_close(actual[1].cpu(), expected[1], atol=1e-12, rtol=0)
