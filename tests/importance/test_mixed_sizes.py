"""An adapted model deletes sets of different sizes at once only where it feels no padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithattn import adapt
from faithattn.adapters.reading import read
from faithattn.importance.removal.outputs import removed_outputs


class Encoder(nn.Module):
    """Attention over embeddings; ``feels`` has padding join the mean, ``marked`` takes marks."""

    def __init__(self, feels: bool, marked: bool) -> None:
        super().__init__()
        self.embedding, self.feels, self.marked = nn.Embedding(30, 4), feels, marked
        self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 1)
        self.calls = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.calls += 1
        real = input_ids != 0 if attention_mask is None else attention_mask.bool()
        x = self.embedding(input_ids)
        scores = self.score(x).squeeze(-1).masked_fill(~real, -torch.inf)
        context = (scores.softmax(-1)[..., None] * x).sum(1)
        return self.out(context + x.mean(1) if self.feels else context)


def model_of(feels: bool, marked: bool) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(feels, marked).double()


@pytest.mark.parametrize("feels", [False, True])
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_sets_of_every_size(feels: bool, marked: bool, padded: bool) -> None:
    plain = model_of(feels, marked)
    ids = torch.arange(1, 25).view(3, 8)
    if padded:
        ids = ids * (torch.arange(8) < torch.tensor([[8], [5], [6]]))
    inputs: Any = {"input_ids": ids, "attention_mask": (ids != 0).long()} if marked else ids
    adapter = adapt(plain) if marked else adapt(plain, mask=0)
    reading = read(adapter, inputs)
    rows = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    sizes = torch.tensor([1, 2, 3, 5, 7, 1, 2, 3, 1, 3, 5])
    gone = torch.arange(8) < sizes[:, None]
    before = plain.calls
    found = removed_outputs(reading, "delete", rows, gone)
    calls = plain.calls - before
    # One run, after the two of a trial; or two of a trial, and one for each size.
    assert calls == (2 + len(set(sizes.tolist())) if feels else 3)
    for row, away, output in zip(rows, gone, found, strict=True):
        text = ids[row][(ids[row] != 0) & ~away][None]
        if feels and padded:
            continue  # what it gives depends on the padding around it
        with torch.no_grad():
            wanted = plain(text).sigmoid()[0]
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)
    before = plain.calls
    removed_outputs(reading, "delete", rows, gone)
    assert plain.calls - before == calls - 2  # what the trial said is known


def test_without_a_word_on_padding_sizes_run_apart() -> None:
    plain = model_of(False, False)
    adapter = adapt(plain)
    ids = torch.arange(1, 17).view(2, 8)
    reading = read(adapter, ids)
    gone = torch.arange(8) < torch.tensor([[1], [2], [4]])
    before = plain.calls
    found = removed_outputs(reading, "delete", torch.tensor([0, 1, 1]), gone)
    assert plain.calls - before == 3
    for row, away, output in zip((0, 1, 1), gone, found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(output, plain(ids[row][~away][None]).sigmoid()[0])


@pytest.mark.parametrize("marked", [False, True])
def test_padding_on_the_left(marked: bool) -> None:
    plain = model_of(False, marked)
    adapter = adapt(plain) if marked else adapt(plain, mask=0)
    ids = torch.arange(1, 25).view(3, 8)
    ids = ids * (torch.arange(8) >= torch.tensor([[0], [3], [6]]))
    inputs: Any = {"input_ids": ids, "attention_mask": (ids != 0).long()} if marked else ids
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    sizes = torch.tensor([1, 4, 7, 1, 2, 4, 1])
    gone = torch.arange(8).flip(0) < sizes[:, None]
    with torch.no_grad():
        found = removed_outputs(read(adapter, inputs), "delete", rows, gone)
        for row, away, output in zip(rows, gone, found, strict=True):
            wanted = plain(ids[row][(ids[row] != 0) & ~away][None]).sigmoid()[0]
            torch.testing.assert_close(output, wanted, rtol=0, atol=1e-12)


def test_a_sure_output_does_not_hide_that_padding_is_felt() -> None:
    plain = model_of(True, False).float()
    with torch.no_grad():
        plain.embedding.weight[9] = 40 * plain.out.weight[0].sign()
    adapter = adapt(plain, mask=0)
    ids = torch.tensor([[5, 6, 7, 8, 9, 9, 9, 9], [1, 2, 3, 4, 5, 6, 0, 0]])
    reading = read(adapter, ids)
    assert reading.outputs[0] in (0, 1)  # of the longest row, on which it is tried
    gone = torch.arange(8) < torch.tensor([[1], [2], [4]])
    found = removed_outputs(reading, "delete", torch.tensor([1, 1, 1]), gone)
    apart = [removed_outputs(reading, "delete", torch.tensor([1]), each[None])[0] for each in gone]
    torch.testing.assert_close(found, torch.stack(apart))
