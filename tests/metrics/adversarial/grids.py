"""Every point of a grid over the simplex, judged by running a model: the oracle of all methods."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import torch
from readouts import Readout, distance, rows, squashed, values
from torch import Tensor

from faithattn import AdversarialResult

STEPS = {1: 1, 2: 1000, 3: 120, 4: 36}
STEPS_OF_TWO_ROWS = {2: 100, 3: 16}
STEEPEST = {"sigmoid": 0.25, "softmax": 0.5, "identity": 1.0}
OUTPUTS = ((1, "sigmoid"), (3, "softmax"), (10, "softmax"), (3, "sigmoid"), (2, "identity"))


def bend(logits: Tensor) -> Tensor:
    """No affine function of the attention; no steeper than 3."""
    return 2 * (1.5 * logits).tanh()


def readout(
    size: int, length: int, kind: tuple[int, str], *, bent: bool = False, heads: int = 1,
    seed: int = 0, mask: Tensor | None = None,
) -> Readout:  # fmt: skip
    """A random model of one row, or of several heads."""
    own, each = rows(size * heads, length, seed), values(size * heads, length, kind[0], seed + 1)
    if heads > 1:
        own, each = own.view(size, heads, 1, length), each.view(size, heads, 1, length, -1)
    if mask is not None:
        shape = mask if heads == 1 else mask[:, None, None]
        own = own.masked_fill(~shape, 0)
        own = own / own.sum(-1, keepdim=True).clamp_min(1e-12)
    return Readout(own, each, kind[1], bend if bent else None, mask)


@functools.cache
def simplex(length: int, steps: int) -> Tensor:
    """All weights that are multiples of 1 / steps, ``(K, length)``."""
    cuts = itertools.combinations_with_replacement(range(steps + 1), length - 1)
    points = torch.tensor([(0, *cut, steps) for cut in cuts])
    return points.diff(dim=1).double() / steps


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence from its definition."""
    middle = (p + q) / 2
    parts = [torch.special.xlogy(x, x) - torch.special.xlogy(x, middle) for x in (p, q)]
    return (parts[0] + parts[1]).sum(-1) / 2


class Grid:
    """All points, or those given ``(K, B, T)``, as a readout of all its instances sees them."""

    def __init__(self, model: Readout, points: Tensor | None = None) -> None:
        own = model.attention
        self.length, self.model = own.shape[-1], model
        if own.ndim == 2:
            self.step = 1 / STEPS[self.length]
            self.points = simplex(self.length, STEPS[self.length])
            shaped = self.points[:, None].expand(-1, len(own), -1) if points is None else points
        else:
            self.step = 1 / STEPS_OF_TWO_ROWS[self.length]
            single = simplex(self.length, STEPS_OF_TWO_ROWS[self.length])
            pairs = list(itertools.product(range(len(single)), repeat=2))
            self.points = single[torch.tensor(pairs)]
            shaped = self.points[:, None, :, None].expand(-1, *own.shape)
        outputs = squashed(model.replay(0, {"row": shaped}), model.output)
        before = squashed(model.replay(0, {"row": own[None]}), model.output)
        self.tvd = distance(outputs, before, model.output)
        each = divergence(shaped, own[None])
        self.jsd = each if own.ndim == 2 else each.mean((2, 3))

    def best(self, epsilon: float, allowed: Tensor | None = None) -> Tensor:
        """Largest divergence ``(B,)`` of the points within epsilon; 0 where there is none."""
        within = self.tvd <= epsilon
        if allowed is not None:
            within = within & allowed
        return torch.where(within, self.jsd, 0).amax(0)

    @property
    def change(self) -> float:
        """How much the output can change between a point and the nearest of the grid."""
        n_rows = 1 if self.model.attention.ndim == 2 else self.model.attention.shape[1]
        slope = STEEPEST[self.model.output] * (1 if self.model.head(torch.ones(1)) == 1 else 3)
        return n_rows * self.length * self.step * float(self.model.values.abs().max()) * slope

    @property
    def resolution(self) -> float:
        """How much the divergence can change there."""
        return self.length * self.step * (math.log(1 / self.step) / 2 + 1) if self.step < 1 else 0


def assert_confirmed(model: Any, inputs: Any, result: AdversarialResult, site: str) -> None:
    """All numbers of a result of one site against whole runs of the model, one adversary each."""
    before = squashed(model.run(inputs).logits.detach(), result.output)
    own = result.original
    for k in range(result.attention.shape[1]):
        override = result.attention[:, k]
        logits = model.run(inputs, attention={site: override}).logits.detach()
        after = squashed(logits, result.output)
        torch.testing.assert_close(result.probabilities[:, k], after)
        change = distance(after, before, result.output)
        torch.testing.assert_close(result.tvd[:, k], change, atol=1e-6, rtol=0)
        assert (change[result.feasible[:, k]] <= result.epsilon + 1e-6).all()
        assert (override >= 0).all()
        torch.testing.assert_close(override.sum(-1), own.sum(-1), atol=1e-6, rtol=0)
    best = torch.where(result.feasible, result.jsd, 0).amax(-1)
    torch.testing.assert_close(result.max_jsd, best, equal_nan=True)
    defined = ~result.max_jsd.isnan()
    assert (result.max_jsd <= result.upper_bound + 1e-7)[defined].all()
    assert (result.upper_bound <= math.log(2) + 1e-7)[defined].all()
