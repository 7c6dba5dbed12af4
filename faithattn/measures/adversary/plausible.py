"""What makes a changed attention plausible: limits besides the output."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.measures.divergence import relative_entropy

_SLACK = 1e-6  # float noise of a sum of weights


@dataclass(frozen=True, eq=False)
class Plausible:
    """Limits on an adversary besides the output; each is optional, and all must hold.

    Unlimited, the adversary farthest from an attention lies on one or two
    positions. Limits ask how far a plausible one can be. Every row is limited
    by itself, after conditioning on the positions it may use. The original
    always satisfies the limits: where it has less entropy or support than is
    asked for, what it has is enough.

    Attributes:
        min_entropy: Least entropy in nats, or ``"original"``: at least that of
            the row itself.
        min_support: Least number of positions that hold ``min_weight`` each.
        min_weight: What counts as weight for ``min_support``, in 0..1.
        max_change: Largest change of any weight, 0..1: a ball around the
            original in the maximum norm.
        max_kl: Largest KL(adversary || original) in nats.
        positions: The only ones that may change, ``(B, L)`` or ``(L,)`` bool.

    Raises:
        TypeError: If a limit has the wrong type.
        ValueError: If a limit is out of range.

    Examples:
        >>> str(Plausible(min_entropy="original", max_change=0.2))
        "min_entropy='original', max_change=0.2"
        >>> import torch
        >>> from faithattn import adversarial_attention
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
        >>> near = Plausible(max_change=0.1)
        >>> result = adversarial_attention(TextClassifier(9), ids, constraints=near, seed=0)
        >>> bool(((result.attention - result.original[:, None]).abs() <= 0.1 + 1e-6).all())
        True
    """

    min_entropy: float | str | None = None
    min_support: int | None = None
    min_weight: float = 0.01
    max_change: float | None = None
    max_kl: float | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        if self.min_entropy != "original":
            _check("min_entropy", self.min_entropy, math.inf, 'nats, or "original"')
        if self.min_support is not None:
            require_count("min_support", self.min_support)
        if self.min_weight is None:
            raise TypeError("min_weight must be a number; got None. Pass the weight that counts.")
        _check("min_weight", self.min_weight, 1, "the weight that counts")
        _check("max_change", self.max_change, 1, "the largest change of a weight")
        _check("max_kl", self.max_kl, math.inf, "nats")
        positions = self.positions
        if positions is not None and (
            not isinstance(positions, Tensor) or positions.dtype != torch.bool
        ):
            got = getattr(positions, "dtype", type(positions).__name__)
            raise TypeError(
                f"positions must be a boolean tensor; got {got}. Mark what may change with True."
            )

    @property
    def only_positions(self) -> bool:
        """Whether nothing is limited but where weights may change."""
        others = (self.min_entropy, self.min_support, self.max_change, self.max_kl)
        return all(other is None for other in others)

    def __str__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        parts = [f"{name}={value!r}" for name, value in given.items() if _is_told(name, value)]
        if self.min_support is not None:
            parts.append(f"min_weight={self.min_weight!r}")
        if self.positions is not None:
            parts.append("positions")
        return ", ".join(parts) or "none"


@dataclass(frozen=True)
class Limits:
    """Limits on the rows of one batch.

    Attributes:
        original: The rows ``(B, R, L)``, 0 where not valid.
        free: Where weights may change, ``(B, R, L)`` bool.
        entropy: Least entropy of each row ``(B, R)``; None for no limit.
        support: Least support of each row ``(B, R)``.
        min_weight: What counts for the support.
        max_change: Largest change of a weight.
        max_kl: Largest KL divergence from the original.
    """

    original: Tensor
    free: Tensor
    entropy: Tensor | None
    support: Tensor | None
    min_weight: float
    max_change: float | None
    max_kl: float | None

    @property
    def shape_free(self) -> bool:
        """Whether nothing is limited but where weights may change."""
        return (self.entropy, self.support, self.max_change, self.max_kl) == (None,) * 4

    def hold(self, rows: Tensor) -> Tensor:
        """Whether every row of ``(B, K, R, L)`` obeys, ``(B, K)``."""
        if self.shape_free:
            return torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
        return (self.excess(rows) <= _SLACK).all(-1)

    def unmoved(self, rows: Tensor) -> Tensor:
        """Whether ``(B, K, R, L)`` leave all weights that may not change alone, ``(B, K)``.

        Rows that were made within these limits do.
        """
        change = (rows - self.original[:, None]).abs().masked_fill(self.free[:, None], 0)
        return (change <= _SLACK).flatten(2).all(-1)

    def excess(self, rows: Tensor) -> Tensor:
        """By how much each row breaks the limit it breaks most, ``(B, K, R)``; 0 or less if none.

        Entropy, change and KL in their units; support in positions that are missing.
        """
        original, parts = self.original[:, None], []
        if self.entropy is not None:
            parts.append(self.entropy[:, None] - row_entropy(rows))
        if self.support is not None:
            missing = self.support[:, None] - self._supported(rows)
            parts.append(missing.to(rows.dtype))
        if self.max_change is not None:
            parts.append((rows - original).abs().amax(-1) - self.max_change)
        if self.max_kl is not None:
            parts.append(relative_entropy(rows, original).sum(-1) - self.max_kl)
        return torch.stack(parts).amax(0) if parts else rows.new_zeros(rows.shape[:3])

    def slope(self, rows: Tensor) -> Tensor:
        """Gradient of the limits that are broken, summed, ``(B, K, R, L)``."""
        original, slope = self.original[:, None], torch.zeros_like(rows)
        logs = rows.clamp_min(torch.finfo(rows.dtype).tiny).log()
        if self.entropy is not None:
            broken = self.entropy[:, None] > row_entropy(rows)
            slope += broken[..., None] * (logs + 1)
        if self.support is not None:
            # The positions that are nearest to counting are to be raised.
            short = (self.min_weight - rows).clamp_min(0).masked_fill(~self.free[:, None], math.inf)
            wanted = self.support[:, None, :, None] > short.argsort(-1).argsort(-1)
            slope -= (wanted & (short > 0)).to(rows.dtype)
        if self.max_change is not None:
            change = rows - original
            slope += change.sign() * (change.abs() > self.max_change)
        if self.max_kl is not None:
            floor = original.clamp_min(torch.finfo(rows.dtype).tiny).log()
            far = relative_entropy(rows, original).sum(-1) > self.max_kl
            slope += far[..., None] * (logs - floor + 1).clamp(-50, 50)
        return slope

    def _supported(self, rows: Tensor) -> Tensor:
        return (rows >= self.min_weight - _SLACK).sum(-1)


def resolve_limits(constraints: Plausible | None, original: Tensor, valid: Tensor) -> Limits:
    """Applies limits to the rows ``(B, R, L)`` of a batch."""
    given = constraints or Plausible()
    free = valid
    if given.positions is not None:
        shape = (valid.shape[0], valid.shape[-1])
        if given.positions.shape not in {shape, shape[1:]}:
            raise ValueError(
                f"positions must have shape {shape} or {shape[1:]}; got "
                f"{tuple(given.positions.shape)}. Give one flag a position of the attention."
            )
        flags = given.positions.to(valid.device).expand(shape)
        free = valid & flags[:, None]
    entropy, support = None, None
    if given.min_entropy is not None:
        own = row_entropy(original)
        asked = math.inf if isinstance(given.min_entropy, str) else float(given.min_entropy)
        entropy = own.clamp_max(asked)
    if given.min_support is not None:
        support = (original >= given.min_weight).sum(-1).clamp_max(given.min_support)
    return Limits(
        original,
        free,
        entropy,
        support,
        float(given.min_weight),
        None if given.max_change is None else float(given.max_change),
        None if given.max_kl is None else float(given.max_kl),
    )


def row_entropy(rows: Tensor) -> Tensor:
    """Entropy of rows ``(..., L)`` in nats."""
    return -(rows * rows.clamp_min(torch.finfo(rows.dtype).tiny).log()).sum(-1)


def check_constraints(constraints: object) -> None:
    """Raises for what is given as limits and is none."""
    if constraints is not None and not isinstance(constraints, Plausible):
        raise TypeError(
            f"constraints must be a Plausible or None; got {type(constraints).__name__}. "
            "Use constraints=Plausible(min_entropy=..., max_change=...)."
        )


def _is_told(name: str, value: object) -> bool:
    return value is not None and name not in ("positions", "min_weight")


def _check(name: str, value: object, highest: float, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}. Pass {what}.")
    if not 0 <= float(value) <= highest or not math.isfinite(value):
        limits = f"0..{highest:g}" if math.isfinite(highest) else "0 or more and finite"
        raise ValueError(f"{name} must be {limits}; got {value!r}. Pass {what}.")
