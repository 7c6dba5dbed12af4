"""What is certified: the new rows of attention that may be chosen, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

Array: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]
Constraint: TypeAlias = Callable[[Array], tuple[float, Array]]

OUTPUTS = ("sigmoid", "softmax", "identity")
SLACK = 1e-9  # how far a constraint of the caller's may be missed
_STEEPEST = -40.0  # slope of the divergence at a weight of 0, where it is infinite


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows of attention far from the original at almost the same output.

    The divergence is the mean over the rows of the Jensen-Shannon divergence
    from the original, in nats. It is maximised over rows on the simplex, in a
    box, whose output is within epsilon: ``mean |dp|`` of independent labels,
    half of ``sum |dp|`` of a softmax, ``mean |dz|`` of a regression.

    Attributes:
        attention: Original rows of one instance, ``(R, T)``, each summing to 1.
        scores: What each weight adds to the logits, ``(R, T, C)``.
        constant: Rest of the logits, ``(C,)``.
        output: ``sigmoid`` (C labels), ``softmax`` or ``identity``.
        epsilon: Allowed change of the output, above 0.
        lower: Least new weights, ``(R, T)`` or a number.
        upper: Greatest new weights, ``(R, T)`` or a number; 0 where masked.
        concave: Further constraints, each a function of the rows ``(R, T)`` that
            gives a value, at least 0 where allowed and concave in the rows, and its
            gradient ``(R, T)``. The original must satisfy them.

    Raises:
        ValueError: If shapes differ, rows are no distributions, or the original is not allowed.
    """

    attention: Array
    scores: Array
    constant: Array
    output: str
    epsilon: float
    lower: Array | float = 0.0
    upper: Array | float = 1.0
    concave: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        for name in ("attention", "scores", "constant"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite; got NaN or infinity. Mask those out.")
            object.__setattr__(self, name, value)
        _check_shapes(self)
        _check_choices(self)
        sums = self.attention.sum(-1, keepdims=True)
        if (self.attention < 0).any() or (abs(sums - 1) > 1e-3).any():
            raise ValueError(
                "attention must hold rows of weights that sum to 1; got a lowest weight of "
                f"{self.attention.min():.4g} and sums from {sums.min():.4g} to {sums.max():.4g}. "
                "Normalise the rows."
            )
        object.__setattr__(self, "attention", self.attention / sums)
        _check_box(self)
        for position, constraint in enumerate(self.concave):
            spare = constraint(self.attention)[0]
            if not spare >= -SLACK:
                raise ValueError(
                    f"concave must hold constraints that the original satisfies; got {spare:.4g} "
                    f"from the one at {position}. Loosen it to at least 0."
                )

    @cached_property
    def box(self) -> tuple[Array, Array]:
        """Least and greatest weights ``(R, T)``; the original lies between, to the last bit."""
        lower = np.broadcast_to(np.asarray(self.lower, dtype=np.float64), self.attention.shape)
        upper = np.broadcast_to(np.asarray(self.upper, dtype=np.float64), self.attention.shape)
        return (
            np.clip(np.minimum(lower, self.attention), 0, 1),
            np.clip(np.maximum(upper, self.attention), 0, 1),
        )

    def logits(self, rows: Array) -> Array:
        """Logits ``(..., C)`` of rows ``(..., R, T)``."""
        flat = rows.reshape(*rows.shape[:-2], -1)
        linear: Array = flat @ self.scores.reshape(-1, self.scores.shape[-1]) + self.constant
        return linear

    def outputs(self, rows: Array) -> Array:
        """Outputs ``(..., C)`` of rows ``(..., R, T)``."""
        return squash(self.logits(rows), self.output)

    @cached_property
    def original(self) -> Array:
        """Outputs ``(C,)`` of the original."""
        return self.outputs(self.attention)

    def distance(self, rows: Array) -> Array:
        """How far the output of rows ``(..., R, T)`` is from the original's, ``(...)``."""
        change = abs(self.outputs(rows) - self.original)
        found: Array = change.sum(-1) / 2 if self.output == "softmax" else change.mean(-1)
        return found

    def divergence(self, rows: Array) -> Array:
        """What rows ``(..., R, T)`` are worth, ``(...)`` in 0..ln 2."""
        terms = divergence_terms(rows, self.attention).sum(-1).mean(-1)
        found: Array = np.clip(terms, 0, math.log(2))
        return found

    def slope(self, rows: Array) -> Array:
        """Gradient of the divergence, steep but finite at weights of 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.log(2 * rows / (rows + self.attention)) / 2
        slopes = np.where(self.attention > 0, slopes, math.log(2) / 2)
        return np.maximum(slopes, _STEEPEST) / len(rows)

    def allows(self, rows: Array, margin: float = 0.0) -> bool:
        """Whether rows ``(R, T)`` of the box meet all other constraints, by the affine form."""
        if not self.distance(rows) <= self.epsilon - margin:
            return False
        return all(constraint(rows)[0] >= -SLACK for constraint in self.concave)


@dataclass(frozen=True, eq=False)
class Certificate:
    """The best rows that were found, and how much better any can be.

    Attributes:
        rows: The rows found, ``(R, T)``.
        value: Their divergence in nats.
        upper: Proven: no allowed rows have a greater divergence.
        nodes: Nodes of the tree that were looked at.
        outcome: ``closed``: ``upper - value`` is within the tolerance. ``nodes``: their
            number ran out. ``relaxation``: the tree is closed, but no rows near its bound
            were allowed (by the model, if it was asked); ``upper - value`` says how near.
    """

    rows: Array
    value: float
    upper: float
    nodes: int
    outcome: str

    @property
    def gap(self) -> float:
        """How much the optimum can exceed the value."""
        return self.upper - self.value


def squash(logits: Array, output: str) -> Array:
    """Logits ``(..., C)`` as outputs."""
    if output == "identity":
        return logits
    if output == "sigmoid":
        return np.asarray(expit(logits))
    return np.exp(logits - log_sum_exp(logits)[..., None])


def log_sum_exp(values: Array) -> Array:
    """Logarithm of the sum of exponentials over the last axis; SciPy's takes longer than a tree."""
    top = values.max(-1)
    found: Array = top + np.log(np.exp(values - top[..., None]).sum(-1))
    return found


def divergence_terms(rows: Array, attention: Array) -> Array:
    """What each weight adds to the divergence of its row; 0 at the original."""
    half = (xlogy(rows, rows) + xlogy(attention, attention)) / 2
    middle = (rows + attention) / 2
    terms: Array = half - xlogy(middle, middle)
    return terms


def _check_shapes(problem: Problem) -> None:
    shape, scores = problem.attention.shape, problem.scores.shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"attention must have shape (R, T), both at least 1; got {shape}. Give the rows of one "
            "instance."
        )
    if len(scores) != 3 or scores[:2] != shape or scores[2] == 0:
        raise ValueError(
            f"scores must have shape (R, T, C) for attention {shape}; got {scores}. Give what each "
            "weight adds to each logit."
        )
    if problem.constant.shape != scores[2:]:
        raise ValueError(
            f"constant must have shape {scores[2:]}; got {problem.constant.shape}. Give one number "
            "for each logit."
        )


def _check_choices(problem: Problem) -> None:
    if problem.output not in OUTPUTS:
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}; got {problem.output!r}. Resolve 'auto' "
            "first."
        )
    if not 0 < problem.epsilon < math.inf:
        raise ValueError(
            f"epsilon must be a number above 0; got {problem.epsilon!r}. The published value is "
            ".01."
        )


def _check_box(problem: Problem) -> None:
    shape = problem.attention.shape
    for name, sign in (("lower", 1), ("upper", -1)):
        bound = np.asarray(getattr(problem, name), dtype=np.float64)
        if bound.shape not in {(), shape}:
            raise ValueError(
                f"{name} must be a number or have shape {shape}; got {bound.shape}. Give every "
                "weight a bound."
            )
        beyond = float((sign * (bound - problem.attention)).max())
        if not beyond <= 1e-6:
            raise ValueError(
                f"{name} must leave room for the original; got a weight {beyond:.4g} beyond it. "
                "Centre the box on the attention."
            )
