"""On how many words attention lies, against SciPy's entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from faithattn.paper.experiment.concentration import effective_words


def test_it_is_the_exponential_of_the_entropy() -> None:
    drawn = torch.Generator().manual_seed(0)
    rows = torch.rand(20, 30, generator=drawn, dtype=torch.float64) ** 6
    rows[:, 25:] = 0
    rows[1, 3:] = 0
    found = effective_words(5 * rows)
    np.testing.assert_allclose(found.numpy(), np.exp(entropy(rows.numpy(), axis=1)), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 4000])
def test_even_attention_is_on_all_its_words(count: int) -> None:
    row = torch.zeros(1, 5000)
    row[0, :count] = 1 / count
    assert float(effective_words(row)) == pytest.approx(count, rel=1e-6)


def test_a_row_without_weight_has_none() -> None:
    assert effective_words(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).isnan().tolist() == [True, False]
    assert effective_words(torch.zeros(1, 0)).isnan().all()
