"""Ceilings from limits on entropy and KL lie above all rows that the limits allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from faithattn import Plausible, adversarial_attention
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build


@pytest.mark.parametrize(
    "limits",
    [Plausible(min_entropy="original"), Plausible(min_entropy=1.2), Plausible(max_kl=0.3)],
    ids=str,
)
def test_no_allowed_row_is_above_the_ceiling(limits: Plausible) -> None:
    model = build(lambda: TextClassifier(40, embedding_size=8, hidden_size=4), seed=0)
    with torch.no_grad():
        for each in model.attention.parameters():
            each.mul_(4)  # uneven, as after training
    ids = torch.randint(4, 40, (5, 6), generator=torch.Generator().manual_seed(0))
    ids[-1, 4:] = 0
    # Every output is allowed, so that the limit alone is at work.
    result = adversarial_attention(
        model, ids, epsilon=1.0, constraints=limits, n_adversaries=1, n_steps=100, seed=0
    )
    rng = np.random.default_rng(0)
    for own, ceiling, best in zip(result.original, result.upper_bound, result.max_jsd, strict=True):
        row = own[own > 0].double().numpy()
        row /= row.sum()
        near = rng.dirichlet(np.ones(len(row)), 4000) ** rng.uniform(0, 3, (4000, 1))
        rows = np.concatenate(
            [near / near.sum(-1, keepdims=True), rng.permuted(near * 0 + row, axis=1)]
        )
        if limits.max_kl is not None:
            allowed = entropy(rows, row[None], axis=-1) <= limits.max_kl
        else:
            asked = limits.min_entropy
            least = entropy(row) if isinstance(asked, str) else min(float(asked or 0), entropy(row))
            allowed = entropy(rows, axis=-1) >= least - 1e-12
        assert allowed.any()
        reached = (jensenshannon(rows[allowed], row[None], axis=-1) ** 2).max()
        assert reached <= ceiling + 1e-6
        assert best <= ceiling < math.log(2) - 0.1
