"""States of changed texts from those that were read, beside the encoder itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_text
from torch import Tensor, nn

from faithattn.paper.models import TextClassifier
from faithattn.paper.models.changed import can_share
from faithattn.paper.models.encoders import BiLSTMEncoder
from faithattn.paper.models.recurrence import ReadTexts, is_recurrent
from faithattn.paper.training import build

VECTORS = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()
KNOWN = 6  # of them are in the texts that are read; the others come with the changes
TEXT = st.lists(st.integers(1, KNOWN - 1), min_size=1, max_size=6)
CHANGED = st.lists(st.integers(1, len(VECTORS) - 1), min_size=1, max_size=8)


def make_encoder(bias: bool = True) -> BiLSTMEncoder:
    encoder = build(lambda: BiLSTMEncoder(5, 4), seed=0)
    if not bias:
        for name in ("rightward", "leftward"):
            setattr(encoder, name, nn.LSTM(5, 4, bias=False, batch_first=True))
    return encoder.double().requires_grad_(False)


def padded(texts: list[list[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(each) for each in texts], batch_first=True)


def assert_as_encoded(encoder: BiLSTMEncoder, read: Tensor, changed: Tensor, rows: Tensor) -> None:
    """States of changed texts are those of the encoder."""
    texts = ReadTexts(encoder, VECTORS[:KNOWN], read)
    torch.testing.assert_close(
        texts.states_read, encoder(VECTORS[read], read > 0), rtol=0, atol=1e-12
    )
    edited = texts.edited(changed, rows)
    found = torch.empty(*changed.shape, encoder.size, dtype=torch.float64)
    found[edited.order] = texts.states(edited, VECTORS[KNOWN:])
    expected = encoder(VECTORS[changed], changed > 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    again = texts.states(edited, VECTORS[KNOWN:])
    assert torch.equal(again, found[edited.order])  # nothing that was read has changed


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_texts_of_every_kind(texts: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=6))
    changed = [data.draw(CHANGED) for _ in rows]
    assert_as_encoded(make_encoder(), padded(texts), padded(changed), torch.tensor(rows))


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_texts_without_or_with_other_vectors_in_places(
    texts: list[list[int]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=8))
    changed = []
    for row in rows:
        marks = [data.draw(st.integers(0, 3)) for _ in texts[row]]  # 0: other, 1: gone
        kept = [7 if mark == 0 else code for code, mark in zip(texts[row], marks, strict=True)]
        changed.append([code for code, mark in zip(kept, marks, strict=True) if mark != 1] or [1])
    assert_as_encoded(make_encoder(), padded(texts), padded(changed), torch.tensor(rows))


def test_an_end_that_goes_while_another_text_keeps_its_length() -> None:
    texts = padded([[1, 2, 3, 4], [5, 4, 3, 2]])
    changed = padded([[1, 2, 3, 7], [5, 4, 3], [4, 3, 2], [5, 4, 3, 2]])
    assert_as_encoded(make_encoder(), texts, changed, torch.tensor([0, 1, 1, 1]))


def test_without_bias() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = make_encoder(bias=False)
    assert is_recurrent(encoder)
    assert_as_encoded(encoder, padded([[1, 2, 3]]), padded([[1, 8, 3]]), torch.tensor([0]))


def test_only_the_same_text_is_called_the_same() -> None:
    read = padded([[1, 1, 2], [2, 1, 0]])
    changed = padded([[1, 1, 2], [1, 2], [1, 1], [2, 1], [1, 7, 2]])
    edited = ReadTexts(make_encoder(), VECTORS[:KNOWN], read).edited(
        changed, torch.tensor([0, 0, 0, 1, 0])
    )
    assert edited.order[edited.apart.same].sort().values.tolist() == [0, 3]


def test_single_precision() -> None:
    encoder, read = make_encoder().float(), torch.randint(1, KNOWN, (4, 30))
    changed = read.repeat(30, 1)
    changed[torch.arange(120), torch.arange(120) // 4] = 7
    vectors = VECTORS.float()
    texts = ReadTexts(encoder, vectors[:KNOWN], read)
    edited = texts.edited(changed, torch.arange(4).repeat(30))
    expected = encoder(vectors[changed], changed > 0)[edited.order]
    torch.testing.assert_close(texts.states(edited, vectors[KNOWN:]), expected, rtol=0, atol=1e-6)


def steps(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> int:
    """How many rows take a step, in both directions."""
    taken = 0
    addmm = Tensor.addmm_

    def counted(self: Tensor, *args: Any) -> Tensor:
        nonlocal taken
        taken += len(self)
        return addmm(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "addmm_", counted)
        run()
    return taken


@pytest.mark.parametrize("shorter", [False, True])
def test_a_direction_starts_at_the_first_difference(
    monkeypatch: pytest.MonkeyPatch, shorter: bool
) -> None:
    length = 10
    read = torch.tensor([[1, 2, 3, 4, 5] * 2, [5, 4, 3, 2, 1] * 2])
    texts = ReadTexts(make_encoder(), VECTORS[:KNOWN], read)
    rows, places = torch.arange(2).repeat(length), torch.arange(length).repeat_interleave(2)
    gone = torch.arange(length) == places[:, None]
    changed = read[rows][~gone].view(-1, length - 1) if shorter else read[rows].masked_fill(gone, 7)
    edited = texts.edited(changed, rows)
    taken = steps(monkeypatch, lambda: texts.states(edited, VECTORS[KNOWN:]))
    # Each position in one direction, what has changed itself in both, or in none.
    assert taken == 2 * length * (length - 1 if shorter else length + 1)


class Own(BiLSTMEncoder):
    """Somebody's own encoder, which may do something else."""


def altered(change: str) -> TextClassifier:
    model = make_text()
    encoder = model.encoder
    if change == "own":
        model.encoder = Own(5, 4).double()
    if change in ("hook", "pre-hook"):
        register = "register_forward_hook" if change == "hook" else "register_forward_pre_hook"
        getattr(encoder.rightward, register)(lambda *_: None)
    if change == "forward":
        model.decoder.forward = model.decoder.forward
    if change == "bidirectional":
        encoder.leftward = nn.LSTM(5, 4, batch_first=True, bidirectional=True).double()
    if change == "two layers":
        encoder.leftward = nn.LSTM(5, 4, 2, batch_first=True).double()
    if change == "projection":
        encoder.leftward = nn.LSTM(5, 4, batch_first=True, proj_size=2).double()
    if change == "half precision":
        encoder.bfloat16()
    return model


CHANGES = ("own", "hook", "pre-hook", "forward", "bidirectional", "two layers")


@pytest.mark.parametrize("change", [*CHANGES, "projection", "half precision"])
def test_whatever_else_an_encoder_is_does_not_share(change: str) -> None:
    model = altered(change)
    assert not can_share(model)
