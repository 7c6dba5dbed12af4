"""Slow, plain versions of what the package computes, one instance at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

Decode = Callable[[Tensor], Tensor]  # one row (T,) of attention -> outputs (C,)
Distance = Callable[[Tensor, Tensor], Tensor]


def tvd(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            total += math.inf if b == 0 else a * math.log(a / b)
    return total


def jsd(p: Sequence[float], q: Sequence[float]) -> float:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


def distance(p: Tensor, q: Tensor, output: str) -> Tensor:
    """What one output differs from another by, as definitions of the tests say."""
    if output == "softmax":
        return sum((a - b).abs() for a, b in zip(p, q, strict=True)) / 2
    return sum((a - b).abs() for a, b in zip(p, q, strict=True)) / len(p)


def tau(x: Tensor, y: Tensor) -> tuple[float, float]:
    """SciPy on one unpadded instance."""
    if len(x) < 2:
        return math.nan, math.nan
    result = stats.kendalltau(x.detach().numpy(), y.detach().numpy())
    return float(result.statistic), float(result.pvalue)


def squash(logits: Tensor, output: str) -> Tensor:
    if output == "identity":
        return logits
    if output == "sigmoid":
        return 1 / (1 + (-logits).exp())
    weights = (logits - logits.max()).exp()
    return weights / weights.sum()


def predicted_probability(outputs: Tensor) -> Tensor:
    """Of one sigmoid or of several classes."""
    if len(outputs) == 1:
        return outputs[0] if outputs[0] > 0.5 else 1 - outputs[0]
    return outputs[int(outputs.argmax())]


# The published models from their weights, without any of the package's layers.


def lstm(layer: nn.LSTM, vectors: Tensor) -> list[Tensor]:
    """States of one direction, gate by gate."""
    size = layer.hidden_size
    hidden, cell, states = vectors.new_zeros(size), vectors.new_zeros(size), []
    for vector in vectors:
        gates = layer.weight_ih_l0 @ vector + layer.bias_ih_l0
        gates = gates + layer.weight_hh_l0 @ hidden + layer.bias_hh_l0
        enter, forget, new, leave = (gates[i * size : (i + 1) * size] for i in range(4))
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return states


def convolve(layer: nn.Conv1d, vectors: Tensor) -> Tensor:
    """One convolution of odd width, zeros beyond both ends."""
    (width,) = layer.kernel_size
    rows = []
    for t in range(len(vectors)):
        total = layer.bias
        for k in range(width):
            s = t + k - width // 2
            if 0 <= s < len(vectors):
                total = total + layer.weight[:, :, k] @ vectors[s]
        rows.append(total)
    return torch.stack(rows)


def encode(encoder: Any, vectors: Tensor) -> Tensor:
    """States (T, size) of one unpadded text."""
    kind = type(encoder).__name__
    if kind == "BiLSTMEncoder":
        right = lstm(encoder.rightward, vectors)
        left = lstm(encoder.leftward, vectors.flip(0))[::-1]
        return torch.stack([torch.cat(pair) for pair in zip(right, left, strict=True)])
    if kind == "ConvEncoder":
        maps = [convolve(layer, vectors) for layer in encoder.convolutions]
        return torch.cat(maps, 1).clamp_min(0)
    return (vectors @ encoder.projection.weight.T + encoder.projection.bias).clamp_min(0)


def attend(attention: Any, states: Tensor, words: Tensor, query: Tensor | None) -> Tensor:
    """Weights (T,) of one text, 0 but at words."""
    if type(attention).__name__ == "AdditiveAttention":
        hidden = states @ attention.key.weight.T + attention.key.bias
        if query is not None:
            hidden = hidden + attention.query.weight @ query
        scores = hidden.tanh() @ attention.score.weight[0]
    else:
        vector = attention.score.weight[0] if query is None else query
        scores = states @ vector / math.sqrt(states.shape[1])
    weights = torch.where(words, (scores - scores[words].max()).exp(), 0)
    return weights / weights.sum()


def is_word(ids: Tensor) -> Tensor:
    return (ids == 1) | (ids > 3)


class PaperModel:
    """One instance of a published model: embeddings in, attention and outputs out."""

    def __init__(self, model: Any, inputs: Any, row: int) -> None:
        self.model, self.output = model, model.output
        passage = inputs if isinstance(inputs, Tensor) else inputs["passage"]
        self.ids = passage[row][passage[row] != 0]
        self.question = self.candidates = None
        if not isinstance(inputs, Tensor):
            question = inputs["question"][row]
            self.question = question[question != 0]
            self.candidates = inputs["candidates"][row]

    def without(self, position: int) -> PaperModel:
        """The same instance, one token shorter."""
        shorter = object.__new__(PaperModel)
        shorter.__dict__.update(self.__dict__)
        shorter.ids = torch.cat([self.ids[:position], self.ids[position + 1 :]])
        return shorter

    @property
    def words(self) -> Tensor:
        return is_word(self.ids)

    def vectors(self) -> Tensor:
        return self.model.embedding.weight[self.ids].detach()

    def query(self) -> Tensor | None:
        if self.question is None:
            return None
        encoder = self.model.question_encoder
        states = encode(encoder, self.model.embedding.weight[self.question])
        if type(encoder).__name__ == "BiLSTMEncoder":
            half = states.shape[1] // 2
            return torch.cat([states[-1, :half], states[0, half:]])
        return states[is_word(self.question)].mean(0)

    def attention(self, vectors: Tensor | None = None) -> Tensor:
        states = encode(self.model.encoder, self.vectors() if vectors is None else vectors)
        return attend(self.model.attention, states, self.words, self.query())

    def outputs(self, attention: Tensor | None = None, vectors: Tensor | None = None) -> Tensor:
        """Probabilities (C,) under the model's own attention or another."""
        vectors = self.vectors() if vectors is None else vectors
        states = encode(self.model.encoder, vectors)
        if attention is None:
            attention = attend(self.model.attention, states, self.words, self.query())
        context = sum(weight * state for weight, state in zip(attention, states, strict=True))
        if self.question is None:
            logits = self.model.decoder.weight @ context + self.model.decoder.bias
            return squash(logits, "sigmoid")
        parts = (
            (self.model.passage_projection, context),
            (
                self.model.question_projection,
                self.query(),
            ),
        )
        hidden = sum(layer.weight @ value for layer, value in parts)
        biases = [layer.bias for layer, _ in parts if layer.bias is not None]
        logits = self.model.decoder.weight @ (hidden + sum(biases)).tanh() + self.model.decoder.bias
        chosen = squash(logits[self.candidates], "softmax")
        return torch.zeros_like(logits).masked_scatter(self.candidates, chosen)

    def gradient_importance(self, *, detach: bool = True) -> Tensor:
        """Gradient times input at the words, by autograd."""
        leaf = self.vectors().requires_grad_()
        attention = self.attention(leaf)
        outputs = self.outputs(attention.detach() if detach else attention, leaf)
        (slope,) = torch.autograd.grad(predicted_probability(outputs), leaf)
        return (slope * leaf).sum(1).abs().detach()[self.words]

    def leave_one_out(self) -> Tensor:
        """Output change at each word when the text is really shortened."""
        with torch.no_grad():
            before = self.outputs()
            changes = [
                distance(self.without(int(t)).outputs(), before, self.output)
                for t in self.words.nonzero()[:, 0]
            ]
        return torch.stack(changes)


def permutation_effects(attention: Tensor, decode: Decode, output: str) -> Tensor:
    """Output change under every one of the T! orders of a row."""
    original = decode(attention)
    return torch.stack(
        [
            distance(decode(torch.stack(order)), original, output)
            for order in itertools.permutations(attention.unbind())
        ]
    )


def row_divergence(p: Tensor, q: Tensor) -> Tensor:
    """JSD of rows, differentiable where both are positive."""
    middle = (p + q) / 2
    terms = torch.xlogy(p, p) + torch.xlogy(q, q) - (p + q) * middle.log()
    return terms.where(middle > 0, 0).sum() / 2


def search(
    attention: Tensor,
    noise: Tensor,
    decode: Decode,
    output: str,
    *,
    epsilon: float,
    n_steps: int,
) -> Tensor:
    """The published search on one instance, noise (K, T), with autograd and Adam."""
    count = len(noise)
    scores = (3 * noise).clone().requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.01, amsgrad=True)
    original = decode(attention).detach()
    for _ in range(n_steps):
        rows = [score.softmax(0) for score in scores]
        loss = -sum(row_divergence(row, attention) for row in rows)
        for first, second in itertools.combinations(rows, 2):
            loss = loss - row_divergence(first, second) / (count * (count - 1))
        for row in rows:
            change = distance(decode(row), original, output)
            loss = loss + 500 * (change - epsilon).clamp_min(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return scores.detach().softmax(1)


def linear_variance(attention: Tensor, scores: Tensor) -> float:
    """Variance of sum_t a_t s_t over all shuffles of a, in closed form."""
    a, s, length = attention.double(), scores.double(), len(attention)
    return float(((a - a.mean()) ** 2).sum() * ((s - s.mean()) ** 2).sum() / (length - 1))


def two_position_adversary(attention: float, scores: Sequence[float], epsilon: float) -> float:
    """Largest JSD on two positions under one sigmoid, by a fine grid around the original."""

    def output(a: float) -> float:
        return 1 / (1 + math.exp(-(a * scores[0] + (1 - a) * scores[1])))

    grid = [i / 200_000 for i in range(200_001)]
    near = [a for a in grid if abs(output(a) - output(attention)) <= epsilon]
    return max(jsd([a, 1 - a], [attention, 1 - attention]) for a in (near[0], near[-1]))
