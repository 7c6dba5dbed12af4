"""Where instances are is learned from what the model makes itself, not from what is put in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from faithattn import adapt

IDS = torch.tensor([[5, 6, 7], [4, 9, 8]])


class Twice(nn.Module):
    """Two layers of attention: what is put into the first changes the weights of the second."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed = nn.Embedding(12, 8)
            self.first, self.second = (
                nn.MultiheadAttention(8, 4, batch_first=True) for _ in range(2)
            )
            self.out = nn.Linear(8, 2)
        self.double()
        for weight in self.parameters():
            weight.requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x + self.first(x, x, x, need_weights=False)[0]
        return self.out(self.second(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize("what", ["features", "attention"])
def test_an_override_of_as_many_rows_as_positions(what: str) -> None:
    """Three rows of three positions look alike: the first such pass has something put in."""
    adapter, rows = adapt(Twice()), torch.tensor([0, 1, 0])
    first = adapter.run(IDS)
    given = {name: value for name, value in getattr(first, what).items() if name != "second"}
    changed = {name: value[rows].detach().flip(-1) for name, value in given.items()}
    overridden = adapter.run(IDS[rows], **{what: changed})
    again = adapter.run(IDS[rows])
    for name, weights in first.attention.items():
        torch.testing.assert_close(again.attention[name], weights[rows])
    torch.testing.assert_close(overridden.logits[0], overridden.logits[2])
    assert not torch.allclose(overridden.logits, again.logits)
