"""Attention that people write by hand."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import Entry, Weights, architecture, built, evaluated, numbers, texts
from .recurrent import LENGTHS, real


class Logarithm(nn.Module):
    """log_softmax().exp(), the stable way to have both."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16, padding_idx=0)
        self.score, self.out = nn.Linear(16, 1), nn.Linear(16, 1)

    def attend(self, x: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(x.tanh())[..., 0].masked_fill(~real(ids), -1e9)
        return F.log_softmax(scores, dim=-1).exp()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        return self.out((self.attend(x, ids)[..., None] * x).sum(1))


@architecture("log_softmax().exp()")
def logarithm() -> Entry:
    model = built(Logarithm)
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            return {"attention": model.attend(model.embedding(ids), ids)}

    return Entry(model, ids, ("attention",), own, "embedding", "embedding")


class Sparsemax(nn.Module):
    """Projection onto the simplex: the same ranks as softmax, with exact zeros."""

    def forward(self, scores: Tensor) -> Tensor:
        ordered = scores.sort(dim=-1, descending=True).values
        ranks = torch.arange(1, scores.shape[-1] + 1)
        enough = 1 + ranks * ordered > ordered.cumsum(-1)
        count = enough.sum(-1, keepdim=True)
        level = (ordered.cumsum(-1).gather(-1, count - 1) - 1) / count
        return (scores - level).clamp_min(0)


class Sparse(Logarithm):
    """Attention that a named submodule returns."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Sparsemax()

    def attend(self, x: Tensor, ids: Tensor) -> Tensor:
        scores = 0.5 * self.score(x.tanh())[..., 0].masked_fill(~real(ids), -1e4)
        return self.normalise(scores)  # type: ignore[no-any-return]


@architecture("sparsemax in a named submodule")
def sparse() -> Entry:
    model = built(Sparse)
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            return {"normalise": model.attend(model.embedding(ids), ids)}

    return Entry(
        model,
        ids,
        ("normalise",),
        own,
        "embedding",
        "embedding",
        options={"site": "normalise"},
        outputs=("normalise",),
    )


class EdgeWeights(nn.Module):
    """A softmax over neighbours as scatter code writes it: exponential, sum, quotient."""

    def forward(self, scores: Tensor, adjacency: Tensor) -> Tensor:
        highest = scores.masked_fill(~adjacency, -torch.inf).amax(-1, keepdim=True)
        exponential = torch.exp(scores - highest) * adjacency
        return exponential / exponential.sum(-1, keepdim=True)


class Graph(nn.Module):
    """Two layers of graph attention on a dense adjacency, nodes pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16)])
        self.source = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])
        self.target = nn.ModuleList([nn.Linear(16, 1), nn.Linear(16, 1)])
        self.edges = nn.ModuleList([EdgeWeights(), EdgeWeights()])
        self.out = nn.Linear(16, 2)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        x = nodes
        for project, source, target, edges in zip(
            self.project, self.source, self.target, self.edges, strict=True
        ):
            y = project(x)
            scores = F.leaky_relu(source(y) + target(y).mT, 0.2)
            x = F.elu(edges(scores, adjacency) @ y)
        return self.out(x.mean(1))


@architecture("graph attention, scatter softmax on a dense adjacency")
def graph() -> Entry:
    model = built(Graph)
    nodes = numbers(3, 7, 6)
    edges = numbers(3, 7, 7, seed=9) > 0.2
    inputs = (nodes, edges | edges.mT | torch.eye(7, dtype=torch.bool))
    seen: Weights = {}

    def own() -> Weights:
        x = nodes
        for index in range(2):
            y = model.project[index](x)
            scores = F.leaky_relu(model.source[index](y) + model.target[index](y).mT, 0.2)
            weights = scores.masked_fill(~inputs[1], -torch.inf).softmax(-1)
            seen[f"edges.{index}"], x = weights, F.elu(weights @ y)
        return seen

    return Entry(
        model,
        inputs,
        ("edges.1",),
        lambda: {"edges.1": own()["edges.1"]},
        "",
        "0",
        feature_is_input=True,
        options={"site": "edges.1", "mask": lambda inputs: torch.ones(inputs[0].shape[:2]).bool()},
        view=AttentionView("edges.1"),
        removal="zero_embedding",
        outputs=("edges.1",),
    )


class Cross(nn.Module):
    """Learned latents read the input, then each other: a Perceiver in small."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(4, 32))
        self.embedding = nn.Embedding(60, 32, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(16, 32))
        self.read, self.think = Heads(), Heads()
        self.out = nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.places[: ids.shape[1]]
        latents = self.latents.expand(len(ids), -1, -1)
        latents = latents + self.read(latents, x, real(ids)[:, None, None])
        latents = latents + self.think(latents, latents, None)
        return self.out(latents.mean(1))


class Heads(nn.Module):
    """Multi-head attention in a few lines, ``(B, H, Lq, Lk)``."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.pair = nn.Linear(32, 32), nn.Linear(32, 64)

    def weights(self, queries: Tensor, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        query = self.query(queries).unflatten(-1, (4, 8)).transpose(1, 2)
        key, value = self.pair(x).unflatten(-1, (2, 4, 8)).permute(2, 0, 3, 1, 4)
        scores = query @ key.mT / math.sqrt(8)
        scores = scores if keep is None else scores.masked_fill(~keep, -1e9)
        return F.softmax(scores, -1), value

    def forward(self, queries: Tensor, x: Tensor, keep: Tensor | None) -> Tensor:
        weights, value = self.weights(queries, x, keep)
        return (weights @ value).transpose(1, 2).flatten(2)


@architecture("Perceiver-style cross attention, latents as queries")
def cross() -> Entry:
    model = built(Cross)
    ids = texts(LENGTHS)

    def own() -> Weights:
        with evaluated(model):
            x = model.embedding(ids) + model.places[: ids.shape[1]]
            latents = model.latents.expand(3, -1, -1)
            keep = real(ids)[:, None, None]
            read = model.read.weights(latents, x, keep)[0]
            latents = latents + model.read(latents, x, keep)
            return {"read": read, "think": model.think.weights(latents, latents, None)[0]}

    view = AttentionView("read")
    return Entry(model, ids, ("read", "think"), own, "embedding", "embedding", view=view)


class Series(nn.Module):
    """Convolutions over a multivariate series, then attention pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(5, 16, 3, padding=1)
        self.score, self.out = nn.Conv1d(16, 1, 1), nn.Linear(16, 1)

    def weights(self, states: Tensor) -> Tensor:
        return self.score(states.tanh()).softmax(2)

    def forward(self, series: Tensor) -> Tensor:
        states = self.conv(series.transpose(1, 2)).relu()  # (B, E, L)
        return self.out((self.weights(states) * states).sum(2))


@architecture("continuous series, Conv1d, attention pooling")
def series() -> Entry:
    model = built(Series)
    values = numbers(3, 9, 5)

    def own() -> Weights:
        with evaluated(model):
            states = model.conv(values.transpose(1, 2)).relu()
            return {"attention": model.weights(states)}

    return Entry(
        model,
        values,
        ("attention",),
        own,
        "",
        "inputs",
        feature_is_input=True,
        options={"output": "identity"},
    )
