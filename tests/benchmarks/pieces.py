"""Pure pieces as one would write them with NumPy and SciPy, one row at a time."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from torch import Tensor

Array = NDArray[np.float64]


def divergences(p: Tensor, q: Tensor) -> list[float]:
    """SciPy's Jensen-Shannon distance, squared, row by row."""
    pairs = zip(p.numpy(), q.numpy(), strict=True)
    return [float(jensenshannon(a, b)) ** 2 for a, b in pairs]


def shuffles(attention: Tensor, count: int) -> Array:
    """NumPy's shuffle of each row, once a draw: (P, B, L)."""
    generator = np.random.default_rng(0)
    rows = attention.numpy()
    return np.stack([[generator.permutation(row) for row in rows] for _ in range(count)])


def best_vertices(attention: Tensor, scores: Tensor, epsilon: float) -> list[float]:
    """Largest divergence within epsilon of each row by trying every vertex.

    Every position alone, and every pair of positions that meets an end of the
    allowed logits: what :func:`faithattn.exact_adversary` finds with a bound,
    by T * T evaluations a row.
    """
    pairs = zip(attention.double().numpy(), scores.double().numpy(), strict=True)
    return [_best_vertex(a, s, epsilon) for a, s in pairs]


def _best_vertex(a: Array, s: Array, epsilon: float) -> float:
    probability = 1 / (1 + math.exp(-float(a @ s)))
    ends = [_logit(probability - epsilon), _logit(probability + epsilon)]
    alone = math.log(2) / 2 + _gain(np.ones_like(a), a)
    best = float(alone[(s >= ends[0]) & (s <= ends[1])].max(initial=0))
    for level in ends:
        if math.isinf(level):
            continue
        above = np.flatnonzero(s > level)
        for low in np.flatnonzero(s <= level):
            share = (s[above] - level) / (s[above] - s[low])
            value = _gain(share, a[low]) + _gain(1 - share, a[above]) + math.log(2) / 2
            best = max(best, float(value.max(initial=0)))
    return best


def _gain(x: Array, a: Array | float) -> Array:
    """What weight x at a position of weight a adds to the divergence of nothing in common."""
    both = _x_log_x((x + a) / 2)
    return (_x_log_x(x) + _x_log_x(np.asarray(a))) / 2 - both - np.asarray(a) * math.log(2) / 2


def _x_log_x(x: Array) -> Array:
    return x * np.log(np.where(x > 0, x, 1))


def _logit(p: float) -> float:
    if p <= 0 or p >= 1:
        return math.copysign(math.inf, p - 0.5)
    return math.log(p / (1 - p))


def uneven(size: int, length: int) -> tuple[Tensor, Tensor]:
    """Attention like that of a trained model and scores, (B, L) both."""
    generator = torch.Generator().manual_seed(length)
    weights, scores = (torch.randn(size, length, generator=generator) for _ in range(2))
    return (1.5 * weights).softmax(-1), 2 * scores
