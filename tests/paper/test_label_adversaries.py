"""Adversaries of a model of several labels, beside a grid over all attention there is."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_models import make_labels, texts
from torch import Tensor

from faithattn import adversarial_attention
from faithattn.measures.divergence import jensen_shannon
from faithattn.paper.models import TextClassifier

STEPS = {2: 1000, 3: 100, 4: 30}  # of the grid, by the number of words
_CERTIFIED_WITHIN = 1e-4


def decisive(encoder: str) -> TextClassifier:
    """A model whose labels are no longer undecided."""
    model = make_labels(encoder)
    with torch.no_grad():
        model.embedding.weight.mul_(10)
        model.decoder.weight.mul_(20)
        model.attention.score.weight.mul_(3)
    return model


def grid(length: int) -> Tensor:
    """Attention ``(K, length)`` in steps of one over their number, corners included."""
    steps = STEPS[length]
    shares = itertools.product(range(steps + 1), repeat=length - 1)
    rows = torch.tensor([[*each, steps - sum(each)] for each in shares if sum(each) <= steps])
    return rows.double() / steps


@pytest.mark.parametrize("method", ["auto", "certified"])
@pytest.mark.parametrize(
    ("length", "encoder"), [(2, "bilstm"), (3, "average"), (4, "bilstm"), (4, "average")]
)
@torch.no_grad()
def test_nothing_on_a_grid_beats_what_is_certified(length: int, encoder: str, method: str) -> None:
    model, ids = decisive(encoder), texts([length] * 2, seed=length)
    result = adversarial_attention(model, ids, epsilon=0.05, method=method, n_adversaries=1, seed=0)
    run, rows = model.run(ids), grid(length)
    others = torch.zeros(len(rows), *ids.shape, dtype=torch.float64)
    others[:, :, 1 : length + 1] = rows[:, None]
    changed = model.replay(run.state, {"attention": others}).sigmoid()
    # Within epsilon is the mean over the labels, not each of them and not their sum.
    within = (changed - run.logits.sigmoid()).abs().mean(-1) <= 0.05
    jsd = jensen_shannon(others, run.attention["attention"].expand_as(others))
    best = torch.where(within, jsd, 0).amax(0)
    assert within.any(0).all()
    assert (best <= result.upper_bound + 1e-9).all()
    assert (best <= result.max_jsd + _CERTIFIED_WITHIN)[result.certified].all()
    assert (result.max_jsd >= best - 0.02).all()  # a search may miss what a grid finds
    assert result.method == ("search" if method == "auto" else "certified")
    if method == "certified":
        assert result.certified.all()
    found = model.replay(run.state, {"attention": result.attention[:, 0][None]})[0].sigmoid()
    tvd = (found - run.logits.sigmoid()).abs().mean(-1)
    torch.testing.assert_close(result.tvd[:, 0], tvd, atol=1e-12, rtol=0)
    assert (tvd <= 0.05).all()
