"""The four tests on an adapted plain module beside the same model with an adapter by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn import (
    Run,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from tests.benchmarks import models
from tests.benchmarks.models import Additive, Case
from tests.benchmarks.timing import Row, compared


class ByHand:
    """What a user would write for this one model, its own replay and removal included."""

    def __init__(self, model: Additive) -> None:
        self.model = model

    def run(
        self,
        inputs: Tensor,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        vectors = (features or {}).get("embedding")
        if vectors is None:
            vectors = self.model.embedding(inputs)
            if torch.is_grad_enabled():
                vectors = vectors.detach().requires_grad_()
        weights, states = self.model.encode(inputs, vectors)
        weights = (attention or {}).get("attention", weights)
        logits = self.model.decode(weights, states)
        mask = inputs != 0
        return Run(logits, {"attention": weights}, mask, {"embedding": vectors}, state=states)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        return self.model.out(torch.einsum("kbl,blh->kbh", attention["attention"], state))

    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        keep = torch.ones_like(inputs, dtype=torch.bool)
        keep[torch.arange(len(inputs)), positions] = False
        return inputs[keep].view(len(inputs), -1)


def rows(smoke: bool) -> list[Row]:
    """Ratios on a batch of the size of the published tests' benchmark."""
    case = models.additive("mul-sum", *((2, 8) if smoke else (32, 25)))
    steps = 5 if smoke else 500
    tests: list[tuple[str, Callable[[Any], object], int]] = [
        ("permutation_test", lambda model: permutation_test(model, case.inputs, seed=0), 15),
        ("gradient_correlation", lambda model: gradient_correlation(model, case.inputs), 15),
        ("loo_correlation", lambda model: loo_correlation(model, case.inputs), 3),
        (
            f"adversarial_attention, published, {steps} steps",
            lambda model: adversarial_attention(
                model, case.inputs, method="published", n_steps=steps, seed=0
            ),
            3,
        ),
    ]
    assert isinstance(case.model, Additive)
    adapted, by_hand = adapt(case.model), ByHand(case.model)
    return [
        compared(
            f"{name}, adapted BiLSTM",
            lambda test=test: test(adapted),
            lambda test=test: test(by_hand),
            1 if smoke else repeats,
            "an adapter by hand",
            unit="F",
            limit=lambda: _forward(case),
        )
        for name, test, repeats in tests
    ]


def _forward(case: Case) -> None:
    with torch.no_grad():
        case.forward()
