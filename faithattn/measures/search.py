"""The published adversarial search: penalised ascent on divergence, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PENALTY = 500.0
LEARNING_RATE = 0.01
START_SPREAD = 3.0

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
    free = valid[:, None]
    scores = (START_SPREAD * noise).to(original.dtype).contiguous()
    optimizer = torch.optim.Adam([scores], lr=LEARNING_RATE, amsgrad=True, fused=_fusable(scores))
    reference = original[:, None]
    for _ in range(n_steps):
        rows, logs = _softmax(scores, free)
        change, slope = output_change(rows)
        gradient = divergence_slope(rows, logs, reference).neg_()
        gradient.addcmul_(slope, (change > epsilon)[..., None, None] * PENALTY)
        # Through the softmax: a * (g - sum a g).
        gradient.sub_((gradient * rows).sum(-1, keepdim=True)).mul_(rows)
        scores.grad = gradient
        optimizer.step()
    return _softmax(scores, free)[0]


def divergence_slope(rows: Tensor, logs: Tensor, original: Tensor) -> Tensor:
    """Gradient of the divergence terms by the rows, up to a constant along each row.

    By a_i: the mean over the R rows of ln(a_i / m) / 2, with m the average of
    a_i and the original, plus the same against every other a_j, weighted
    1 / (K (K - 1)).
    """
    count, lanes = rows.shape[1:3]
    tiny = torch.finfo(rows.dtype).tiny
    slope = logs - _log_mean(rows, original, tiny)
    if count > 1:
        weight = 1 / (count * (count - 1))
        slope.add_(logs, alpha=weight * count)
        for other in rows.unbind(1):  # a_i against itself adds ln(a_i / a_i) = 0
            slope.sub_(_log_mean(rows, other[:, None], tiny), alpha=weight)
    return slope.mul_(0.5 / lanes)


def _log_mean(first: Tensor, second: Tensor, tiny: float) -> Tensor:
    return (first + second).mul_(0.5).clamp_min_(tiny).log_()


def _softmax(scores: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and their logarithms; 0 and the lowest number where a position is not free."""
    lowest = torch.finfo(scores.dtype).min / 4
    logs = scores.masked_fill(~free, lowest).log_softmax(-1)
    rows = logs.exp().mul_(free)
    return rows, logs.masked_fill_(~free, 0)


def _fusable(scores: Tensor) -> bool:
    return scores.device.type in ("cpu", "cuda")
