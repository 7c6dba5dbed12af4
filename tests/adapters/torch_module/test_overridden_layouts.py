"""Where instances are is learned from what the model makes itself, not from what is put in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from faithattn import adapt

IDS = torch.tensor([[5, 6, 7], [4, 9, 8], [10, 11, 3]])


class Heads(nn.Module):
    """Attention of four heads that the model folds into the batch."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed = nn.Embedding(12, 8)
            self.out = nn.Linear(8, 2)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        parts = x.view(*ids.shape, 4, 2).permute(2, 0, 1, 3)  # heads first
        weights = (parts @ parts.transpose(-1, -2)).softmax(-1)
        mixed = (weights @ parts).permute(1, 2, 0, 3).flatten(2)
        return self.out(mixed.mean(1))


@pytest.mark.parametrize("what", ["features", "attention"])
def test_an_override_of_as_many_rows_as_heads(what: str) -> None:
    """Four rows and four heads look alike: the first such pass has something put in."""
    model, rows = Heads(), torch.tensor([0, 1, 2, 0])
    adapter = adapt(model)
    first = adapter.run(IDS)
    given = getattr(first, what)
    changed = {name: value[rows].detach() * 0.7 for name, value in given.items()}
    overridden = adapter.run(IDS[rows], **{what: changed})
    again = adapter.run(IDS[rows])
    for name, weights in first.attention.items():
        torch.testing.assert_close(again.attention[name], weights[rows])
    torch.testing.assert_close(overridden.logits[0], overridden.logits[3])
    assert not torch.allclose(overridden.logits, again.logits)
