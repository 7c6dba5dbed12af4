"""Spellings of softmax: what their arguments are, and rows that may use no key."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn.adapters.interception.kernels import holds_any

_aten = torch.ops.aten
SOFTMAX: frozenset[Any] = frozenset(
    [
        *(F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax, F.softmin),
        *(torch._softmax, torch._safe_softmax, _aten.softmax, _aten.softmax.int),
        *(_aten._softmax, _aten._softmax.default),
        *(_aten._safe_softmax, _aten._safe_softmax.default),
    ]
)
LOG_SOFTMAX: frozenset[Any] = frozenset(
    [
        *(F.log_softmax, torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax),
        *(torch._log_softmax, _aten.log_softmax, _aten.log_softmax.int),
        *(_aten._log_softmax, _aten._log_softmax.default),
    ]
)
EXP: frozenset[Any] = frozenset(
    [torch.exp, Tensor.exp, torch.exp_, Tensor.exp_, _aten.exp, _aten.exp.default]
)


@dataclass(frozen=True)
class Scores:
    """What a softmax was taken of.

    Attributes:
        values: The scores.
        dim: Their axis of keys.
    """

    values: Tensor
    dim: int

    @classmethod
    def of(cls, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Scores:
        """The arguments of any function of SOFTMAX or LOG_SOFTMAX."""
        values = first_of(args, kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if dim is None:  # what torch takes where none is given
            dim = 0 if values.ndim in (0, 1, 3) else 1
        return cls(-values if func is F.softmin else values, dim)

    def repaired(self, weights: Tensor) -> Tensor:
        """The weights, where a row that may use no key (all scores -inf) is 0, not nan.

        A nan that comes from elsewhere stays one. The first weight of a row
        tells: nan anywhere is nan everywhere in it.
        """
        if weights.numel() == 0 or not holds_any(weights.select(self.dim, 0).isnan()):
            return weights
        closed = self.values.amax(self.dim, keepdim=True) == -math.inf
        if not holds_any(closed):
            return weights
        # Anew, for the derivative of a softmax that is nan is nan, whatever is done with it.
        scores = self.values.masked_fill(closed, 0)
        return torch.softmax(scores, self.dim, dtype=weights.dtype).masked_fill(closed, 0)


class Logarithms:
    """The results of log_softmax so far: the exponential of one is a softmax."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], int, Scores]] = {}

    def note(self, result: Tensor, scores: Scores) -> None:
        """Remembers a result as long as it lives."""
        self._known[id(result)] = (weakref.ref(result), _version(result), scores)

    def scores_of(self, tensor: Any) -> Scores | None:
        """The scores of a result that is still as it was; None for any other tensor."""
        known = self._known.get(id(tensor))
        if known is None:
            return None
        result, version, scores = known
        unchanged = result() is tensor and isinstance(tensor, Tensor)
        return scores if unchanged and version == _version(tensor) else None


def first_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The tensor that a function is about, by position or keyword."""
    return args[0] if args else kwargs["input"] if "input" in kwargs else kwargs["self"]


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; not counted in inference mode."""
    return 0 if tensor.is_inference() else tensor._version
