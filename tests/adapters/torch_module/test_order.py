"""Models that put instances or positions into an order of their own are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from faithattn import AdapterError, adapt, loo_correlation

IDS = torch.tensor([[4, 4, 9, 0, 0, 0], [3, 1, 4, 1, 5, 9], [6, 5, 3, 8, 0, 0]])
LENGTHS = (IDS != 0).sum(1)


class Pool(nn.Module):
    """Attention over the states of a GRU, packed; ``read`` says in which order it goes on."""

    def __init__(self, read: Callable[[Pool, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(10, 8, padding_idx=0)
            self.encode = nn.GRU(8, 4, batch_first=True, bidirectional=True)
            self.score, self.out = nn.Linear(8, 1), nn.Linear(8, 2)
        self.read = read

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.read(self, ids, lengths)

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        states: Tensor = nn.utils.rnn.pad_packed_sequence(
            self.encode(packed)[0], batch_first=True, total_length=x.shape[1]
        )[0]
        return states

    def pooled(self, states: Tensor, real: Tensor) -> Tensor:
        weights = self.score(states).squeeze(-1).masked_fill(~real, -1e9).softmax(-1)
        return self.out((weights[..., None] * states).sum(1))


def plain(model: Pool, ids: Tensor, lengths: Tensor) -> Tensor:
    return model.pooled(model.states(model.embed(ids), lengths), ids != 0)


def by_length(model: Pool, ids: Tensor, lengths: Tensor) -> Tensor:
    """The embeddings are sorted, and the logits are put back."""
    ordered, order = lengths.sort(descending=True)
    states = model.states(model.embed(ids)[order], ordered)
    real = torch.arange(ids.shape[1]) < ordered[:, None]
    return model.pooled(states, real)[order.argsort()]


def ids_by_length(model: Pool, ids: Tensor, lengths: Tensor) -> Tensor:
    order = lengths.argsort(descending=True)
    return plain(model, ids[order], lengths[order])[order.argsort()]


def reversed_positions(model: Pool, ids: Tensor, lengths: Tensor) -> Tensor:
    states = model.states(model.embed(ids), lengths)
    return model.pooled(states.flip(1), ids.flip(1) != 0)


@pytest.mark.parametrize("read", [by_length, ids_by_length])
@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_a_batch_that_is_sorted_inside(
    read: Callable[[Pool, Tensor, Tensor], Tensor], rows: list[int]
) -> None:
    model, inputs = Pool(read), (IDS[rows], LENGTHS[rows])
    torch.testing.assert_close(model(*inputs), Pool(plain)(*inputs))
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(AdapterError, match=r"(order of the inputs|that are no padding); got"):
            loo_correlation(model, inputs)


def test_positions_that_are_turned_round() -> None:
    with pytest.raises(AdapterError, match=r"on as many positions, but on others"):
        adapt(Pool(reversed_positions)).run((IDS, LENGTHS))


def test_equal_instances_and_weights_put_in_are_no_matter() -> None:
    adapter = adapt(Pool(plain))
    rows = torch.tensor([0, 0, 1, 1])
    adapter.run((IDS[rows], LENGTHS[rows]))
    run = adapter.run((IDS, LENGTHS))
    uniform = torch.full((3, 6), 1 / 6)
    adapter.run((IDS, LENGTHS), attention={"attention": uniform})
    assert torch.equal(run.mask, IDS != 0)


class Sparse(nn.Module):
    """All weight on as many positions as the text has, but on the last ones."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 2)
        self.weigh = Weigh()

    def forward(self, ids: Tensor) -> Tensor:
        return self.out((self.weigh(ids != 0)[..., None] * self.embed(ids)).sum(1))


class Weigh(nn.Module):
    def forward(self, real: Tensor) -> Tensor:
        return real.flip(1) / real.sum(1, keepdim=True)


def test_zeros_of_a_named_sparse_attention_say_nothing() -> None:
    run = adapt(Sparse(), site="weigh").run(IDS)
    assert torch.equal(run.mask, IDS != 0)
