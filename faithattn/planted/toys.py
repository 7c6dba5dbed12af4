"""Models A to F: attention and scores are given, and the answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.protocol import Run
from faithattn.planted.case import Planted

Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor]

_PEAK = 0.45  # most weight of a suppressor


class Linear:
    """The output is sum_t a_t s_t, a regression; both are given.

    Inputs are attention ``(B, L)``, scores ``(B, L)`` and mask ``(B, L)``. Each
    score is an embedding of one number.

    Examples:
        >>> attention, scores = torch.tensor([[0.7, 0.3]]), torch.tensor([[2.0, -2.0]])
        >>> with torch.no_grad():
        ...     Linear().run(whole(attention, scores)).logits
        tensor([[0.8000]])
    """

    output = "identity"

    def run(
        self,
        inputs: Inputs,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model; see ``faithattn.AttentionModel``."""
        own, scores, mask = inputs
        values = (features or {"score": scores[..., None]})["score"]
        if torch.is_grad_enabled() and not values.requires_grad:
            values = values.detach().requires_grad_()
        weights = (attention or {"row": own})["row"]
        logits = self.replay(values, {"row": weights[None]})[0]
        return Run(logits, {"row": weights}, mask, {"score": values}, state=values)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, 1)`` under other attention."""
        return (attention["row"][..., None] * state).sum(-2)


class Sigmoid(Linear):
    """The same logit, as the probability of one class.

    Examples:
        >>> Sigmoid.output
        'sigmoid'
    """

    output = "sigmoid"


def rows(size: int, length: int, *, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Random distributions: the softmax of normal numbers.

    Args:
        size: Number of rows.
        length: Positions of each.
        seed: Seed of the numbers.
        spread: Their standard deviation; the larger, the more peaked the rows.

    Returns:
        Shape ``(size, length)``, float64.

    Examples:
        >>> rows(2, 5).sum(-1)
        tensor([1.0000, 1.0000], dtype=torch.float64)
    """
    require_count("size", size)
    require_count("length", length)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(size, length, generator=generator, dtype=torch.float64)
    return (spread * draws).softmax(-1)


def whole(attention: Tensor, scores: Tensor) -> Inputs:
    """Inputs of :class:`Linear` without padding.

    Args:
        attention: Weights, shape ``(B, L)``.
        scores: Scores, likewise.

    Returns:
        Both, and a mask that is True everywhere.
    """
    return attention, scores, torch.ones(attention.shape, dtype=torch.bool)


def faithful(size: int = 6, length: int = 9, *, seed: int = 0) -> Planted:
    """A: scores are 1 or -1, both in every instance, so what a position does is its weight.

    Args:
        size: Number of instances.
        length: Positions of each.
        seed: Seed of attention and signs.

    Returns:
        The model with inputs; the truth is the attention, with the sign that a
        position has for the output.

    Examples:
        >>> from faithattn import gradient_correlation
        >>> gradient_correlation(*faithful(size=2)).statistic
        tensor([1., 1.], dtype=torch.float64)
    """
    attention = rows(size, length, seed=seed)
    draws = torch.randn(size, length, generator=torch.Generator().manual_seed(seed + 1))
    signs = draws.sign().double()
    alike = (signs == signs[:, :1]).all(-1)
    signs[alike, 0] *= -1  # or no attention would matter
    return Planted(
        "faithful",
        Linear(),
        whole(attention, signs),
        "tau with gradients and with leaving weights out (mask_attention) is 1",
        truth=attention * signs,
    )


def indifferent(size: int = 6, length: int = 9, *, seed: int = 0) -> Planted:
    """B: all values are equal, so attention cannot matter.

    Args:
        size: Number of instances.
        length: Positions of each.
        seed: Seed of the attention.

    Returns:
        The model with inputs; as long as the weights sum to 1, no weight has an
        effect, and the truth is 0.

    Examples:
        >>> from faithattn import permutation_test
        >>> permutation_test(*indifferent(size=2), seed=0).pvalue
        tensor([1., 1.], dtype=torch.float64)
    """
    scores = torch.full((size, length), 0.7, dtype=torch.float64)
    return Planted(
        "indifferent",
        Sigmoid(),
        whole(rows(size, length, seed=seed), scores),
        "no shuffle changes the output and every p-value is 1; the adversary puts all weight on "
        "the least attended position, the farthest there is",
        truth=torch.zeros_like(scores),
    )


def two_positions() -> Planted:
    """C: two positions against each other leave an adversary no room.

    Returns:
        The model with one instance.

    Examples:
        >>> from faithattn import adversarial_attention
        >>> adversarial_attention(*two_positions(), epsilon=0.05, seed=0).max_jsd.item() < 0.0025
        True
    """
    attention, scores = _row(0.7, 0.3), _row(2.0, -2.0)
    return Planted(
        "two_positions",
        Sigmoid(),
        whole(attention, scores),
        "epsilon-max JSD is .0024 at epsilon .05 and 8.4e-5 at .01",
        truth=attention * scores,
    )


def three_positions() -> Planted:
    """D: half the weight on either side of the original gives its output.

    Returns:
        The model with one instance.

    Examples:
        >>> from faithattn import adversarial_attention
        >>> round(adversarial_attention(*three_positions(), seed=0).max_jsd.item(), 6)
        0.693147
    """
    attention, scores = _row(0.0, 1.0, 0.0), _row(1.0, 0.0, -1.0)
    return Planted(
        "three_positions",
        Sigmoid(),
        whole(attention, scores),
        "epsilon-max JSD is ln 2",
        truth=attention * scores,
    )


def independent(size: int = 3000, length: int = 10, *, seed: int = 2) -> Planted:
    """E: the attention knows nothing of the scores.

    Args:
        size: Number of instances.
        length: Positions of each.
        seed: Seed of attention and scores.

    Returns:
        The model with inputs; the truth is the size of the scores, what a
        position would do if attention were uniform, times its length.

    Examples:
        >>> from faithattn import kendall_tau
        >>> case = independent()
        >>> abs(kendall_tau(case.inputs[0], case.truth).statistic.mean().item()) < 0.02
        True
    """
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, length, generator=generator, dtype=torch.float64)
    uniform = torch.rand(size, length, generator=generator, dtype=torch.float64)
    return Planted(
        "independent",
        Linear(),
        whole(uniform / uniform.sum(-1, keepdim=True), scores),
        "tau of attention and |score| is 0 on average, with the spread of unrelated rankings and "
        "p <= .05 in a twentieth of the instances",
        truth=scores.abs(),
    )


def suppressor(size: int = 6, length: int = 9, *, seed: int = 0) -> Planted:
    """F: the most attended position pushes the output down, the others push it up.

    Args:
        size: Number of instances.
        length: Positions of each, at least 3.
        seed: Seed of the attention.

    Returns:
        The model with inputs. Every instance is predicted positive: no
        position has half the weight.

    Examples:
        >>> bool((suppressor().model.run(suppressor().inputs).logits > 0).all())
        True
    """
    require_count("length", length, least=3)
    attention = rows(size, length, seed=seed)
    # Half the weight would turn the prediction around: towards uniform until the peak is below.
    peak = attention.amax(-1, keepdim=True)
    share = ((peak - _PEAK) / (peak - 1 / length)).clamp_min(0)
    attention = (1 - share) * attention + share / length
    top = attention == attention.amax(-1, keepdim=True)
    scores = torch.where(top, -1.0, 1.0).double()
    return Planted(
        "suppressor",
        Sigmoid(),
        whole(attention, scores),
        "faithfulness violation is 1: without its most attended position the model is surer",
        truth=attention * scores,
    )


def _row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)
