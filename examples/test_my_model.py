"""Tests that hold a model to the faithfulness it has, for the suite of a project of your own.

Run ``pytest examples/test_my_model.py --faithattn-update`` once and commit the
folder ``faithattn-baselines`` that it writes; from then on
``pytest examples/test_my_model.py --faithattn-report report``.

The task is planted: a text is positive if it holds more of the words 1..9 than
of the words 10..19; all other words mean nothing.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from faithattn.audits.batch import Batch


class Pooled(nn.Module):
    """Embeddings, one softmax over positions, one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 2, padding_idx=0)
        self.score = nn.Linear(2, 1)
        self.out = nn.Linear(2, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        weights = self.score(x).squeeze(-1).masked_fill(ids == 0, -1e9).softmax(-1)
        return self.out((weights[..., None] * x).sum(1))


def make_texts(count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(5, 20, (count, 1), generator=draws)
    ids = torch.randint(1, 60, (count, 20), generator=draws)
    ids = ids.masked_fill(torch.arange(20) >= lengths, 0)
    good = ((ids >= 1) & (ids < 10)).sum(1)
    bad = ((ids >= 10) & (ids < 20)).sum(1)
    return ids, (good > bad).long()


@pytest.fixture(scope="module")
def model() -> Pooled:
    """Your model with its weights; here they are written by hand, with some noise."""
    meaning = torch.zeros(60)
    meaning[1:10], meaning[10:20] = 1.0, -1.0
    known = torch.stack([meaning, meaning.abs()], dim=-1)
    noise = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    model = Pooled()
    with torch.no_grad():
        model.embed.weight.copy_(known + 0.1 * noise)
        model.score.weight.copy_(torch.tensor([[0.0, 2.0]]))
        model.out.weight.copy_(torch.tensor([[3.0, 0.0]]))
        model.out.bias.zero_()
    return model


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    """Your texts: always the same ones, in the same batches."""
    draws = torch.Generator().manual_seed(1)
    texts = [make_texts(32, draws) for _ in range(3)]
    return [
        Batch(ids, labels=labels, tokens=[[f"w{word}" for word in row] for row in ids.tolist()])
        for ids, labels in texts
    ]


def test_attention_ranks_words_as_the_output_needs_them(faithfulness, model, batches):
    faithfulness.assert_loo_correlation(model, batches, at_least=0.3)


def test_the_output_needs_the_attention(faithfulness, model, batches):
    faithfulness.assert_permutation_effect(model, batches, at_least=0.05, n_permutations=50)


def test_it_is_as_faithful_as_it_was(faithfulness, model, batches):
    metrics = {"gradient_correlation": {}, "permutation_test": {"n_permutations": 50}}
    faithfulness.check(model, batches, metrics=metrics, tolerance=0.02)
