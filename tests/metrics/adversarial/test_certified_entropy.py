"""Limits made from the original's own float32 rows, which do not sum to 1 exactly."""

from __future__ import annotations

import pytest
import torch

from faithattn import Plausible, adversarial_attention
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build


@pytest.mark.parametrize("limits", [Plausible(min_entropy="original"), Plausible(max_kl=1e-4)])
def test_the_original_of_a_certificate_obeys_limits_made_from_it(limits: Plausible) -> None:
    model = build(lambda: TextClassifier(60, embedding_size=8, hidden_size=4), seed=0)
    ids = torch.stack([torch.randperm(56, generator=torch.Generator().manual_seed(n)) + 4
                       for n in range(8)])[:, :40]  # fmt: skip
    result = adversarial_attention(
        model, ids, method="certified", constraints=limits, n_nodes=1, n_steps=5, seed=0
    )
    sums = result.original.double().sum(-1)
    assert bool((sums != 1).any())  # else nothing is tested
    assert bool((result.upper_bound >= result.max_jsd).all())
