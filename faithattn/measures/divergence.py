"""Distances between distributions: TVD, KL and Jensen-Shannon divergence."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn._checks import require_alike, require_floating


def total_variation_distance(p: Tensor, q: Tensor) -> Tensor:
    """Total variation distance between distributions.

    Half the sum of absolute differences: the largest difference in
    probability that any event can have.

    Args:
        p: Probabilities, shape ``(..., positions)``, floating point.
        q: Probabilities to compare; same shape, dtype and device as ``p``.

    Returns:
        One value per row in 0..1, shape ``p.shape[:-1]``, dtype of ``p``.

    Raises:
        TypeError: If an input is not a floating-point tensor.
        ValueError: If shapes, dtypes or devices differ, or a row is no distribution.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 3.

    Examples:
        >>> import torch
        >>> p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
        >>> q = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
        >>> total_variation_distance(p, q)
        tensor([0.6000, 1.0000])
    """
    wide_p, wide_q = _check_distributions(p, q)
    return variation(wide_p, wide_q).to(p.dtype)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(p || q), in nats.

    Args:
        p: Probabilities, shape ``(..., positions)``, floating point.
        q: Probabilities to compare; same shape, dtype and device as ``p``.

    Returns:
        One value per row, zero or more and infinite where ``q`` is zero and
        ``p`` is not; shape ``p.shape[:-1]``, dtype of ``p``. Positions where
        ``p`` is zero add nothing to the value.

    Raises:
        TypeError: If an input is not a floating-point tensor.
        ValueError: If shapes, dtypes or devices differ, or a row is no distribution.

    References:
        Kullback & Leibler (1951), "On Information and Sufficiency".

    Examples:
        >>> import torch
        >>> p = torch.tensor([0.5, 0.5, 0.0])
        >>> kl_divergence(p, torch.tensor([0.25, 0.25, 0.5]))
        tensor(0.6931)
    """
    wide_p, wide_q = _check_distributions(p, q)
    return relative_entropy(wide_p, wide_q).sum(-1).to(p.dtype)


def jensen_shannon_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence between attention distributions, in nats.

    The mean of KL(p || m) and KL(q || m), where m averages p and q. Zero
    means identical rows; ln 2 (about 0.6931) means disjoint support. It is
    the divergence, not its square root.

    Args:
        p: Attention weights, shape ``(..., positions)``, floating point.
        q: Weights to compare; same shape, dtype and device as ``p``.

    Returns:
        One value per row in 0..ln 2, shape ``p.shape[:-1]``, dtype of ``p``.
        Positions that are zero in both inputs add nothing to value or gradient.

    Raises:
        TypeError: If an input is not a floating-point tensor.
        ValueError: If shapes, dtypes or devices differ, or a row is no distribution.

    References:
        Lin (1991), "Divergence measures based on the Shannon entropy".

    Examples:
        >>> import torch
        >>> p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
        >>> q = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
        >>> jensen_shannon_divergence(p, q)
        tensor([0.2531, 0.6931])
    """
    wide_p, wide_q = _check_distributions(p, q)
    return jensen_shannon(wide_p, wide_q).to(p.dtype)


def variation(p: Tensor, q: Tensor) -> Tensor:
    """Total variation without checks; broadcasts."""
    return (p - q).abs().sum(-1) / 2


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence without checks; broadcasts."""
    middle = (p + q) / 2
    terms = relative_entropy(p, middle) + relative_entropy(q, middle)
    # Rounding can leave a sum of cancelling terms a few ulp below zero.
    return (terms.sum(-1) / 2).clamp_min(0)


def relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    """Terms p ln(p / q) by position, unchecked; where p is 0 both value and gradient are 0."""
    # Below the smallest normal number p counts as 0: half of it, and so an average, may be 0.
    present = p >= torch.finfo(p.dtype).tiny
    # A difference of logarithms: the ratio of a weight to a tiny one would overflow.
    logs = torch.where(present, p, 1).log() - torch.where(present, q, 1).log()
    return torch.where(present, p * logs, 0)


def _check_distributions(p: object, q: object) -> tuple[Tensor, Tensor]:
    """Validates both inputs and widens half precision."""
    first, second = require_floating("p", p), require_floating("q", q)
    require_alike("q", second, "p", first)
    wide = torch.float64 if first.dtype == torch.float64 else torch.float32
    if first.shape[-1] == 0:
        raise ValueError("p must have at least one position; got none. Leave empty rows out.")
    for name, value in (("p", first), ("q", second)):
        check_rows(name, value.detach().to(wide), first.dtype)
    if (first.detach().any(-1) != second.detach().any(-1)).any():
        raise ValueError(
            "p and q must both be distributions where one is; got a row of zeros beside one that "
            "sums to 1. Leave that row out."
        )
    return first.to(wide), second.to(wide)


def check_rows(name: str, value: Tensor, dtype: torch.dtype) -> None:
    """Requires rows that are distributions; rows of zeros (all padding) may stand."""
    if value.numel() == 0:
        return
    if not (value >= 0).all():
        raise ValueError(
            f"{name} must hold probabilities; got a lowest value of {float(value.min()):.4g}. "
            "Pass weights after the softmax, without NaN."
        )
    sums = value.sum(-1)
    tolerance = 1e-3 if dtype in (torch.float32, torch.float64) else 2e-2
    off = ((sums - 1).abs() > tolerance) & (sums != 0)
    if off.any():
        raise ValueError(
            f"{name} must hold rows that sum to 1; got a row that sums to "
            f"{float(sums[off][0]):.4g}. Normalise the last dimension."
        )
