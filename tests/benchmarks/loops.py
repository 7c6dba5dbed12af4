"""The four tests as published, in plain loops over a text classifier.

What each function stands for is the cost of the published code: the encoder
runs where that runs it, and loops where that loops. They return what our tests
return, which ``tests/test_benchmarks.py`` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from faithattn.paper.models import TextClassifier

STEPS = 500
_FLOOR = 1e-10
_PENALTY, _RATE, _START_SPREAD = 500.0, 0.01, 3.0


class Encoded(NamedTuple):
    """One batch behind the encoder: what permutations and searches start from.

    Attributes:
        states: ``(B, L, H)``.
        weights: ``(B, L)``.
        mask: True at words, ``(B, L)``.
        head: Weighted sums of the states ``(..., H)`` to probabilities ``(..., 1)``.
    """

    states: Tensor
    weights: Tensor
    mask: Tensor
    head: Callable[[Tensor], Tensor]

    def outputs(self, rows: Tensor) -> Tensor:
        """Probabilities ``(B, K)`` under K rows of attention ``(B, K, L)``."""
        return self.head(torch.einsum("bkl,blh->bkh", rows, self.states))[..., 0]

    @property
    def original(self) -> Tensor:
        """Probabilities ``(B, 1)`` under the model's own attention, without a graph."""
        return self.outputs(self.weights[:, None]).detach()


def encoded(model: TextClassifier, ids: Tensor, vectors: Tensor | None = None) -> Encoded:
    """The encoder and the attention, once."""
    vectors = model.embedding(ids) if vectors is None else vectors
    states = model.encoder(vectors, ids != 0)
    weights = model.attention(states, ids > 3)
    return Encoded(states, weights, ids > 3, lambda context: model.decoder(context).sigmoid())


def forward(model: TextClassifier, batches: list[Tensor]) -> None:
    """F: the model itself over all batches."""
    with torch.no_grad():
        for ids in batches:
            model(ids)


def forward_backward(model: TextClassifier, ids: Tensor) -> Tensor:
    """F + B: gradient times input of the probability, the attention held fixed."""
    vectors = model.embedding(ids).detach().requires_grad_()
    batch = encoded(model, ids, vectors)
    outputs = batch.outputs(batch.weights.detach()[:, None])
    return (torch.autograd.grad(outputs.sum(), vectors)[0] * vectors.detach()).sum(-1).abs()


def gradient(model: TextClassifier, ids: Tensor) -> Tensor:
    """One backward pass a batch, and a forward pass for the weights; SciPy's tau (B,)."""
    importance = forward_backward(model, ids)
    with torch.no_grad():
        return taus(encoded(model, ids).weights, importance, ids > 3)


def leave_one_out(model: TextClassifier, ids: Tensor) -> Tensor:
    """Every word deleted, one at a time; SciPy's tau (B,)."""
    with torch.no_grad():
        batch = encoded(model, ids)
    changes = deletions(model, ids, batch.original, range(1, ids.shape[1] - 1))
    return taus(batch.weights, changes, ids > 3)


def deletions(
    model: TextClassifier, ids: Tensor, original: Tensor, places: Sequence[int]
) -> Tensor:
    """All texts of the batch without their t-th word, encoded again for each t: TVD (B, L)."""
    changes = torch.zeros(ids.shape)
    with torch.no_grad():
        for at in places:
            shortened = torch.cat([ids[:, :at], ids[:, at + 1 :]], 1)
            changes[:, at] = (encoded(model, shortened).original - original).abs()[:, 0]
    return changes


def permutation(batch: Encoded, count: int = 100) -> Tensor:
    """NumPy shuffles row by row, the decoder runs once a shuffle: TVD (P, B)."""
    generator = np.random.default_rng(0)
    spots = [np.flatnonzero(row) for row in batch.mask.numpy()]
    changes = []
    with torch.no_grad():
        original = batch.original
        for _ in range(count):
            shuffled = batch.weights.numpy().copy()
            for row, spot in zip(shuffled, spots, strict=True):
                row[spot] = row[generator.permutation(spot)]
            outputs = batch.outputs(torch.from_numpy(shuffled)[:, None])
            changes.append((outputs - original).abs()[:, 0])
    return torch.stack(changes)


def search(batch: Encoded, steps: int, count: int = 5, epsilon: float = 0.01) -> Tensor:
    """Every step takes the states through the decoder, by autograd: largest JSD (B,).

    Adam with AMSGrad on K rows of scores, a hinge on the change of the output.
    """
    original = batch.original
    scores = _start(batch.mask, count)
    optimizer = torch.optim.Adam([scores], lr=_RATE, amsgrad=True)
    for _ in range(steps):
        rows = _softmax(scores, batch.mask)
        change = batch.outputs(rows) - original
        _step(optimizer, _loss(rows, batch.weights, change, epsilon), scores)
    with torch.no_grad():
        rows = _softmax(scores, batch.mask)
        feasible = (batch.outputs(rows) - original).abs() <= epsilon
        return torch.where(feasible, _divergence(rows, batch.weights[:, None]), 0).amax(1)


def whole_forward_search(
    model: TextClassifier, ids: Tensor, batch: Encoded, steps: int, count: int = 5
) -> None:
    """The same search by somebody who can only call the model: K whole forwards a step."""
    original = batch.original
    scores = _start(batch.mask, count)
    optimizer = torch.optim.Adam([scores], lr=_RATE, amsgrad=True)
    for _ in range(steps):
        rows = _softmax(scores, batch.mask)
        outputs = []
        for k in range(count):
            with torch.no_grad():
                again = encoded(model, ids)
            outputs.append(again.outputs(rows[:, k : k + 1]))
        change = torch.cat(outputs, 1) - original
        _step(optimizer, _loss(rows, batch.weights, change, 0.01), scores)


def taus(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """SciPy's tau-b, text by text: (B,)."""
    found = []
    for a, b, real in zip(first, second, mask, strict=True):
        found.append(kendalltau(a[real].numpy(), b[real].numpy()).statistic)
    return torch.tensor(found)


def _start(mask: Tensor, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(mask), count, mask.shape[1], generator=generator)
    return (_START_SPREAD * noise).requires_grad_()


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask[:, None], -1e9).softmax(-1)


def _loss(rows: Tensor, weights: Tensor, change: Tensor, epsilon: float) -> Tensor:
    """Excess of epsilon, less the divergence from the original and from each other."""
    count = rows.shape[1]
    excess = (change.abs() - epsilon).clamp_min(0).sum(1)
    gain = _divergence(rows, weights[:, None]).sum(1)
    if count > 1:
        pairs = _divergence(rows[:, :, None], rows[:, None]).sum((1, 2)) / 2
        gain = gain + pairs / (count * (count - 1))
    return (_PENALTY * excess - gain).sum()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, scores: Tensor) -> None:
    (scores.grad,) = torch.autograd.grad(loss, scores)
    optimizer.step()


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2 + _FLOOR
    return (p * ((p + _FLOOR) / middle).log() + q * ((q + _FLOOR) / middle).log()).sum(-1) / 2
