"""Logits of changed texts from windows that were read, beside whole runs of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    CASES,
    VOCABULARY,
    make_answerer,
    make_text,
    passage,
    questions,
    texts,
    with_passage,
)
from torch import Tensor, nn

from faithattn import memory_budget
from faithattn.adapters.beside import Beside, beside
from faithattn.paper.models import TextClassifier
from faithattn.paper.models.changed import can_share, kept_at_once
from faithattn.paper.models.encoders import AverageEncoder, ConvEncoder
from faithattn.paper.models.windows import ReadWindows, is_windowed
from faithattn.paper.training import build

ENCODERS = ("cnn", "average")
MODELS = {
    f"{make.__name__}-{encoder}-{attention}": (make(encoder, attention), make_inputs)
    for make, make_inputs, encoder, attention in CASES
    if encoder in ENCODERS
}
READ = 9  # ids below are in the texts that are read; the others come with the changes
TEXT = st.lists(st.integers(1, READ - 1), min_size=1, max_size=20)  # special tokens anywhere
CHANGED = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20)


def padded(rows: list[list[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(each) for each in rows], batch_first=True)


def as_inputs(ids: Tensor, rows: Tensor, make_inputs: Callable[..., Any]) -> Any:
    """The texts alone, or with what is asked of their rows."""
    if make_inputs is texts:
        return ids
    inputs = {key: value[rows] for key, value in make_inputs([1, 1, 1]).items()}
    if "candidates" in inputs:
        inputs["candidates"][:, 1] = rows == 1
    return with_passage(inputs, ids)


@torch.no_grad()
def assert_as_run(name: str, read: Tensor, changed: Tensor, rows: Tensor) -> None:
    """Logits of changed texts are those of whole runs; of the same text, to the bit."""
    model, make_inputs = MODELS[name]
    own = beside(model, as_inputs(read, torch.arange(len(read)), make_inputs))
    assert own is not None
    inputs = as_inputs(changed, rows, make_inputs)
    found = own.with_inputs(inputs, rows)
    assert found is not None
    torch.testing.assert_close(found, model.run(inputs).logits, rtol=0, atol=1e-12)
    for text, row, logits in zip(changed, rows.tolist(), found, strict=True):
        if torch.equal(text[text > 0], read[row][read[row] > 0]):
            assert torch.equal(logits, own.run.logits[row])


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=40)
@given(st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_texts_of_every_kind(name: str, read: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(read) - 1), min_size=1, max_size=6))
    changed = [data.draw(CHANGED | st.just(read[row])) for row in rows]
    assert_as_run(name, padded(read), padded(changed), torch.tensor(rows))


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=40)
@given(st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_texts_without_or_with_other_words_in_places(
    name: str, read: list[list[int]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(read) - 1), min_size=1, max_size=6))
    changed = []
    for row in rows:
        marks = [data.draw(st.integers(0, 5)) for _ in read[row]]  # 0: other, 1: gone
        kept = [10 if mark == 0 else word for word, mark in zip(read[row], marks, strict=True)]
        changed.append([word for word, mark in zip(kept, marks, strict=True) if mark != 1] or [1])
    assert_as_run(name, padded(read), padded(changed), torch.tensor(rows))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 20])
def test_every_word_alone(name: str, length: int) -> None:
    """Taken out, or replaced, beside a longer text and a shorter one; no special tokens."""
    generator = torch.Generator().manual_seed(length)
    text = torch.randint(4, READ, (length,), generator=generator).tolist()
    read = padded([text, [5, 6], [4] * 22])
    without = [text[:at] + text[at + 1 :] or [8] for at in range(length)]
    other = [[*text[:at], 10, *text[at + 1 :]] for at in range(length)]
    rows = torch.zeros(2 * length, dtype=torch.int64)
    assert_as_run(name, read, padded(without + other), rows)


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=40)
@given(st.lists(TEXT, min_size=1, max_size=3), st.booleans(), st.data())
@torch.no_grad()
def test_other_features(
    name: str, read: list[list[int]], one_for_all: bool, data: st.DataObject
) -> None:
    model, make_inputs = MODELS[name]
    ids = padded(read)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=6)))
    marks = [[data.draw(st.booleans()) and word > 3 for word in ids[row]] for row in rows.tolist()]
    gone = torch.tensor(marks)
    generator = torch.Generator().manual_seed(0)
    count = 1 if one_for_all else int(gone.sum())
    values = torch.randn(count, 5, generator=generator).double()
    own = beside(model, as_inputs(ids, torch.arange(len(ids)), make_inputs))
    assert own is not None
    found = own.with_features(rows, gone, values)
    features = model.embedding(ids[rows])
    features[gone] = values
    run = model.run(as_inputs(ids[rows], rows, make_inputs), features={"embedding": features})
    torch.testing.assert_close(found, run.logits, rtol=0, atol=1e-12)
    same = ~gone.any(1)
    assert torch.equal(found[same], own.run.logits[rows[same]])


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_single_precision(encoder: str) -> None:
    sizes = {"embedding_size": 300, "hidden_size": 128}
    model = build(lambda: TextClassifier(VOCABULARY, encoder=encoder, **sizes), seed=0)
    model.decoder.weight *= 10  # logits of about 1
    read = texts([30, 12, 25])
    rows = torch.arange(3).repeat(30)
    changed = read[rows]
    changed[torch.arange(90), 1 + torch.arange(90) // 3] = 10
    changed = changed.masked_fill(read[rows] == 0, 0)
    own = beside(model, read)
    assert own is not None
    expected = model.run(changed).logits
    torch.testing.assert_close(own.with_inputs(changed, rows), expected, rtol=0, atol=1e-6)


def scored(model: Any, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> list[int]:
    """How many states are scored each time."""
    found: list[int] = []
    scores = type(model.attention).scores

    def counted(self: Any, states: Tensor, asked: Any) -> Tensor:
        found.append(states.shape[0] * states.shape[1])
        return scores(self, states, asked)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.attention), "scores", counted)
        work()
    return found


@pytest.mark.parametrize(("encoder", "around"), [("cnn", 3), ("average", 0)])
@torch.no_grad()
def test_only_what_changed_is_scored(
    monkeypatch: pytest.MonkeyPatch, encoder: str, around: int
) -> None:
    model = make_text(encoder)
    read = torch.tensor([[2, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8, 4, 5, 3]])
    own = beside(model, read)
    assert own is not None
    at, rows = torch.tensor([6]), torch.tensor([0])

    def count(changed: Tensor) -> list[int]:
        return scored(model, monkeypatch, lambda: own.with_inputs(changed, rows))

    assert count(read) == []
    assert count(model.remove(read, at)) == ([2 * around] if around else [])
    assert count(read.index_fill(1, at, 10)) == [2 * around + 1]
    # The same new word in several texts of a row is scored once if it has no neighbours.
    several = read.repeat(5, 1)
    several[torch.arange(5), torch.arange(4, 9)] = 10
    rows = torch.zeros(5, dtype=torch.int64)
    assert count(several) == [5 * (2 * around + 1) if around else 1]


def own_with(model: Any, inputs: Any, megabytes: float) -> Beside:
    with torch.no_grad():
        own = beside(model, inputs)
    assert own is not None
    with memory_budget(megabytes):
        ids = passage(inputs)
        assert kept_at_once(model, ids.shape[1]) < len(ids)
    return own


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("make", [make_text, make_answerer])
@torch.no_grad()
def test_what_is_scored_keeps_to_the_budget(
    monkeypatch: pytest.MonkeyPatch, encoder: str, make: Callable[..., Any]
) -> None:
    model = make(encoder)
    inputs = (texts if make is make_text else questions)([20, 13, 20])
    rows = torch.arange(3).repeat(2)
    ids = passage(inputs)[rows]
    gone = (ids > 3) & (torch.arange(ids.shape[1]) % 2 == 0)
    values = torch.randn(int(gone.sum()), 5, generator=torch.Generator().manual_seed(0)).double()
    budget = 0.003
    own = own_with(model, inputs, budget)
    whole = own.with_features(rows, gone, values)
    pieces: list[Tensor] = []
    tables: list[int] = []
    projected = ReadWindows._projected

    def counted(self: ReadWindows, vectors: Tensor) -> Tensor:
        tables.append(len(vectors))
        return projected(self, vectors)

    monkeypatch.setattr(ReadWindows, "_projected", counted)
    with memory_budget(budget):
        sizes = scored(
            model, monkeypatch, lambda: pieces.append(own.with_features(rows, gone, values))
        )
    assert len(sizes) > 2 and max(sizes) * 7 * 8 * 8 <= budget * 2**20
    assert max(tables) <= 2 * max(sizes) < len(values)  # no more than the windows hold
    torch.testing.assert_close(pieces[0], whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [ConvEncoder, AverageEncoder])
@torch.no_grad()
def test_without_bias(make: type[ConvEncoder] | type[AverageEncoder]) -> None:
    encoder = build(lambda: make(5, 4), seed=0).double()
    for part in encoder.modules():
        if isinstance(part, nn.Conv1d | nn.Linear):
            part.bias = None
    assert is_windowed(encoder)
    vectors = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()
    codes = torch.tensor([[3, 1, 4, 1, 5, 8, 7], [8, 2, 6, 0, 0, 0, 0]])
    read = ReadWindows(encoder, vectors[:7])
    found = read.states(read.around(codes, codes > 0), vectors[7:])
    expected = encoder(vectors[codes], codes > 0)[codes > 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class OwnCNN(ConvEncoder):
    """Somebody's own encoder, which may do something else."""


def altered(change: str) -> TextClassifier:
    model = make_text("average" if change == "projection" else "cnn")
    if change == "own":
        model.encoder = OwnCNN(5, 4).double()
    if change == "hook":
        model.encoder.convolutions[1].register_forward_hook(lambda *_: None)
    if change == "attention":
        model.attention = nn.Sequential(model.attention)
    if change == "projection":
        model.encoder.projection = nn.Sequential(nn.Linear(5, 8), nn.Tanh()).double()
    options: dict[str, dict[str, Any]] = {
        "dilation": {"kernel_size": 3, "padding": 1, "dilation": 2},
        "padding": {"kernel_size": 3, "padding": 2},
        "even": {"kernel_size": 4, "padding": 2},
        "stride": {"kernel_size": 3, "padding": 1, "stride": 2},
        "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        "filters": {"kernel_size": 3, "padding": 1},
    }
    if change in options:
        filters = 3 if change == "filters" else 2
        model.encoder.convolutions[1] = nn.Conv1d(5, filters, **options[change]).double()
    if change == "half precision":
        model.encoder.bfloat16()
    return model


CHANGES = ("own", "hook", "attention", "projection", "dilation", "padding", "even", "stride")


@pytest.mark.parametrize("change", [*CHANGES, "circular", "filters", "half precision"])
def test_whatever_else_an_encoder_is_does_not_share(change: str) -> None:
    assert not can_share(altered(change))
