"""The published adversarial search: penalised ascent on divergence, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.measures.draws import spans

PENALTY = 500.0
LEARNING_RATE = 0.01
START_SPREAD = 3.0
_BETAS = (0.9, 0.999)  # Adam's usual ones
_STABILITY = 1e-8

# Rows (B, K, R, L) -> distance of the outputs (B, K) and its gradient, like the rows.
OutputChange = Callable[[Tensor], tuple[Tensor, Tensor]]


def search_adversaries(
    original: Tensor,
    valid: Tensor,
    noise: Tensor,
    output_change: OutputChange,
    *,
    epsilon: float,
    n_steps: int,
) -> Tensor:
    """Rows far from the original, and from each other, at an output change of epsilon.

    Minimises, for each instance, over K rows a_i,

        - sum_i JSD(a_i, a) - sum_{i<j} JSD(a_i, a_j) / (K (K - 1))
        + 500 sum_i max(0, TVD_i - epsilon)

    with Adam (rate .01, AMSGrad) on the logits of a softmax over the valid
    positions, started from log-uniform plus three times the noise. The
    gradient is written out: no graph is built.

    Args:
        original: The rows ``(B, R, L)``, zero where not valid.
        valid: ``(B, R, L)`` bool.
        noise: Standard normal numbers ``(B, K, R, L)``.
        output_change: TVD of the outputs and its gradient for given rows.
        epsilon: Allowed output change.
        n_steps: Adam steps.

    Returns:
        Rows ``(B, K, R, L)``, whether within epsilon or not.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.2.
    """
    masked = valid.logical_not()[:, None]
    scores = (START_SPREAD * noise).to(original.dtype).contiguous()
    reference, adam = original[:, None], _Adam(scores)
    for _ in range(n_steps):
        rows, logs = _softmax(scores, masked)
        change, slope = output_change(rows)
        gradient = divergence_slope(rows, logs, reference).neg_()
        excess = (change > epsilon).to(rows.dtype).mul_(PENALTY)
        gradient.addcmul_(slope, excess[..., None, None])
        # Through the softmax: a * (g - sum a g).
        gradient.sub_((gradient * rows).sum(-1, keepdim=True)).mul_(rows)
        adam.step(gradient)
    return _softmax(scores, masked)[0]


def divergence_slope(rows: Tensor, logs: Tensor, original: Tensor) -> Tensor:
    """Gradient of the divergence terms by the rows, up to a constant along each row.

    By a_i: the mean over the R rows of ln(a_i / (a_i + a)) / 2, plus the same
    against every other a_j, weighted 1 / (K (K - 1)); the 2 of the averages is
    part of the constant.
    """
    count, lanes = rows.shape[1:3]
    slope = logs - _log_sum(rows, original)
    if count > 1:
        weight = 1 / (count * (count - 1))
        slope.add_(logs, alpha=weight * count)
        # Of a_i with itself ln(2 a_i) remains: a constant beside what logs added.
        step = chunk_size(rows.numel(), bytes_per_element=16)
        for first, last in spans(count, step):
            pairs = _log_sum(rows[:, first:last, None], rows[:, None])
            slope[:, first:last].sub_(pairs.sum(2), alpha=weight)
    return slope.mul_(0.5 / lanes)


def _log_sum(first: Tensor, second: Tensor) -> Tensor:
    return (first + second).clamp_min_(torch.finfo(first.dtype).tiny).log_()


def _softmax(scores: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, exactly 0 where masked, and their logarithms, finite there."""
    logs = scores.masked_fill(masked, torch.finfo(scores.dtype).min / 4).log_softmax(-1)
    return logs.exp().masked_fill_(masked, 0), logs


class _Adam:
    """Adam with AMSGrad on one tensor, in place: a third of the optimiser's overhead."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.first, self.second, self.largest = (torch.zeros_like(values) for _ in range(3))
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        """Takes one step down the gradient."""
        self.steps += 1
        self.first.lerp_(gradient, 1 - _BETAS[0])
        self.second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        torch.maximum(self.largest, self.second, out=self.largest)
        scale = math.sqrt(1 - _BETAS[1] ** self.steps)
        size = self.largest.sqrt().div_(scale).add_(_STABILITY)
        rate = LEARNING_RATE / (1 - _BETAS[0] ** self.steps)
        self.values.addcdiv_(self.first, size, value=-rate)
