"""Attention over recurrent encoders, as papers before transformers had it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from faithattn import AttentionView

from .entry import Entry, Weights, architecture, built, evaluated, texts

LENGTHS = (7, 5, 8)


def real(ids: Tensor) -> Tensor:
    """Padding has the id 0."""
    return ids != 0


class Recurrent(nn.Module):
    """Embedding and a recurrent encoder that sees packed sequences."""

    def __init__(self, kind: Callable[..., nn.RNNBase], *, both_ways: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16, padding_idx=0)
        self.encoder = kind(16, 16, batch_first=True, bidirectional=both_ways)
        self.width = 32 if both_ways else 16

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=ids.shape[1]
        )
        return states


class Additive(Recurrent):
    """tanh attention: ``v · tanh(W h)`` over a BiLSTM."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM, both_ways=True)
        self.hidden, self.score = nn.Linear(32, 16), nn.Linear(16, 1, bias=False)
        self.out = nn.Linear(32, 2)

    def attend(self, states: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.hidden(states))).squeeze(-1)
        return torch.softmax(scores.masked_fill(~real(ids), -torch.inf), dim=-1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.encode(ids, lengths)
        return self.out(torch.einsum("bl,blh->bh", self.attend(states, ids), states))


@architecture("additive attention, BiLSTM (packed)")
def additive() -> Entry:
    model = built(Additive)
    ids = texts(LENGTHS)
    lengths = torch.tensor(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            return {"attention": model.attend(model.encode(ids, lengths), ids)}

    return Entry(model, (ids, lengths), ("attention",), own, "embedding", "embedding")


class Dot(Recurrent):
    """Scaled dot product of the last state with every state of a GRU; ``(B, 1, L)``."""

    def __init__(self) -> None:
        super().__init__(nn.GRU, both_ways=False)
        self.query, self.out = nn.Linear(16, 16), nn.Linear(16, 3)

    def attend(self, states: Tensor, lengths: Tensor) -> Tensor:
        last = states[torch.arange(len(states)), lengths - 1]
        scores = self.query(last)[:, None] @ states.mT / 4
        padding = torch.arange(states.shape[1]) >= lengths[:, None]
        return scores.masked_fill(padding[:, None], -1e9).softmax(-1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.encode(ids, lengths)
        return self.out((self.attend(states, lengths) @ states)[:, 0])


@architecture("scaled dot attention, GRU (packed)")
def dot() -> Entry:
    model = built(Dot)
    inputs = {"ids": texts(LENGTHS), "lengths": torch.tensor(LENGTHS)}

    def own() -> Weights:
        with evaluated(model):
            states = model.encode(**inputs)
            return {"attention": model.attend(states, inputs["lengths"])}

    return Entry(model, inputs, ("attention",), own, "embedding", "embedding")


class TimeMajor(Recurrent):
    """States ``(L, B, H)``, a softmax over dimension 0 of ``(L, B, 1)``."""

    def __init__(self) -> None:
        super().__init__(nn.GRU, both_ways=True)
        self.score, self.out = nn.Linear(32, 1), nn.Linear(32, 1)
        self.normalise = nn.Softmax(dim=0)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states = self.encode(ids, lengths).transpose(0, 1)
        scores = self.score(states).masked_fill(~real(ids).T[..., None], -1e9)
        return self.out((self.normalise(scores) * states).sum(0))


@architecture("time-major BiGRU, nn.Softmax(dim=0)")
def time_major() -> Entry:
    model = built(TimeMajor)
    ids, lengths = texts(LENGTHS), torch.tensor(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            scores = model.score(model.encode(ids, lengths))[..., 0]
            return {"normalise": scores.masked_fill(~real(ids), -1e9).softmax(-1)}

    return Entry(
        model,
        (ids, lengths),
        ("normalise",),
        own,
        "embedding",
        "embedding",
        layout=(lambda w: w[..., 0].T, lambda w: w.T[..., None]),
    )


class Translator(nn.Module):
    """A decoder loop over an LSTMCell that attends once in each step; a packed encoder."""

    def __init__(self, steps: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16, padding_idx=0)
        self.encoder = nn.GRU(16, 16, batch_first=True)
        self.cell, self.query = nn.LSTMCell(16, 16), nn.Linear(16, 16)
        self.out, self.steps = nn.Linear(32, 5), steps

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        packed = pack_padded_sequence(
            self.embedding(ids), real(ids).sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        packed, last = self.encoder(packed)
        states, _ = pad_packed_sequence(packed, batch_first=True, total_length=ids.shape[1])
        hidden, memory = last[0], torch.zeros_like(last[0])
        context, seen = torch.zeros_like(hidden), []
        for _ in range(self.steps):
            hidden, memory = self.cell(context, (hidden, memory))
            scores = torch.bmm(states, self.query(hidden)[..., None])  # (B, L, 1)
            weights = torch.softmax(scores.masked_fill(~real(ids)[..., None], -1e4), dim=1)
            context = (weights * states).sum(1)
            seen.append(weights)
        return self.out(torch.cat([hidden, context], -1)), seen


@architecture("LSTMCell decoder loop, one site a step")
def translator() -> Entry:
    model = built(Translator)
    ids = texts(LENGTHS)
    sites = ("attention", "attention#1", "attention#2")

    def own() -> Weights:
        with evaluated(model):
            return {name: each[..., 0] for name, each in zip(sites, model(ids)[1], strict=True)}

    return Entry(
        model,
        ids,
        sites,
        own,
        "embedding",
        "embedding",
        view=AttentionView("attention#1"),
        layout=(lambda w: w[..., 0], lambda w: w[..., None]),
    )


class Pool(nn.Module):
    """One vector a sequence ``(N, L, E)``, by additive attention."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(16, 16), nn.Linear(16, 1)

    def weights(self, states: Tensor, keep: Tensor) -> Tensor:
        scores = self.score(self.hidden(states).tanh()).squeeze(-1)
        return scores.masked_fill(~keep, -1e9).softmax(-1)

    def forward(self, states: Tensor, keep: Tensor) -> Tensor:
        return (self.weights(states, keep)[..., None] * states).sum(1)


class Hierarchical(nn.Module):
    """Attention over words in each sentence, then over sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16, padding_idx=0)
        self.words, self.sentences = Pool(), Pool()
        self.between, self.out = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Tensor:
        size, count, length = ids.shape
        flat = ids.reshape(size * count, length)
        vectors = self.words(self.embedding(flat), real(flat)).view(size, count, -1)
        return self.out(self.sentences(self.between(vectors)[0], real(ids).any(-1)))


@architecture("hierarchical attention, words then sentences")
def hierarchical() -> Entry:
    model = built(Hierarchical)
    ids = texts((4, 6, 5, 3, 6, 2, 4, 5, 6, 3, 4, 6)).view(3, 4, 6)
    ids[1, 3] = 0

    def own() -> Weights:
        with evaluated(model):
            flat = ids.view(12, 6)
            words = model.words.weights(model.embedding(flat), real(flat))
            vectors = model.words(model.embedding(flat), real(flat)).view(3, 4, -1)
            keep = real(ids).any(-1)
            sentences = model.sentences.weights(model.between(vectors)[0], keep)
        return {"words": words.view(3, 4, 6), "sentences": sentences}

    return Entry(
        model,
        ids,
        ("words", "sentences"),
        own,
        "between",
        "tokens",
        feature_is_input=True,
        view=AttentionView("sentences"),
        removal="mask_attention",
        layout=(
            lambda w: w.view(3, 4, 6) if len(w) == 12 else w,
            lambda w: w.view(12, 6) if w.ndim == 3 else w,
        ),
    )


class Pair(Recurrent):
    """Two texts, each attended by itself under the summary of the other."""

    def __init__(self) -> None:
        super().__init__(nn.GRU, both_ways=False)
        self.score, self.out = nn.Bilinear(16, 16, 1), nn.Linear(32, 3)

    def attend(self, states: Tensor, other: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(states, other[:, None].expand_as(states))[..., 0]
        return nn.functional.softmax(scores.masked_fill(~real(ids), -1e9), -1)

    def parts(self, premise: Tensor, hypothesis: Tensor) -> tuple[Tensor, ...]:
        first = self.encoder(self.embedding(premise))[0]
        second = self.encoder(self.embedding(hypothesis))[0]
        return (
            first,
            second,
            self.attend(first, second.mean(1), premise),
            self.attend(second, first.mean(1), hypothesis),
        )

    def forward(self, premise: Tensor, hypothesis: Tensor) -> Tensor:
        first, second, one, two = self.parts(premise, hypothesis)
        pooled = [(one[..., None] * first).sum(1), (two[..., None] * second).sum(1)]
        return self.out(torch.cat(pooled, -1))


@architecture("two texts, two sites, two features")
def pair() -> Entry:
    model = built(Pair)
    inputs = {"premise": texts(LENGTHS), "hypothesis": texts((4, 6, 5), seed=5)}

    def own() -> Weights:
        with evaluated(model):
            *_, one, two = model.parts(**inputs)
            return {"attention": one, "attention#1": two}

    return Entry(
        model,
        inputs,
        ("attention", "attention#1"),
        own,
        "embedding",
        "embedding",
        view=AttentionView("attention", feature="embedding"),
        removal="zero_embedding",
    )
