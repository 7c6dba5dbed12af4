"""Transformed values: what a unit of attention adds to the output of its layer.

Nothing is assumed of how a module multiplies weights with values. Of what it
computes after its weights, the tensor is looked for in which keys and heads
have been added up; its derivative by the weights is the transformed values.
That it is affine in the weights is checked on others, in every batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.adapters.state import differentiating
from faithattn.adapters.torch_module.layer_output import LayerOutput, UntoldError, layer_output
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Request
from faithattn.adapters.torch_module.trail import follow
from faithattn.errors import AdapterError

_PROBES = 6  # numbers of a tensor that are differentiated to see what it depends on
_MOST_RESULTS = 256  # an output projection comes soon after its attention


class Values(NamedTuple):
    """What a unit of weight adds to a site's output.

    Attributes:
        vectors: By head and key, ``(B, H, Lk, E)``, in the precision of the output.
        used: ``(B, H, Lq, Lk)`` bool, False where a weight moves nothing, as
            where a model masks weights after their softmax.
    """

    vectors: Tensor
    used: Tensor


def transformed_values(
    runner: Runner, request: Request, size: int, site: str, weights: Tensor
) -> Values:
    """Transformed values of a site with these weights.

    Raises:
        AdapterError: If the output is not affine in the weights, or cannot be told.
    """
    with differentiating():
        weights = weights.detach().clone()
        leaf = weights.clone().requires_grad_()
        changed = _changed(weights)
    search = _Search(leaf)
    follow(runner, request, size, site, leaf, search)
    numbers = {each.number for each in search.found}
    again: dict[int, Tensor] = {}

    def keep(number: int, value: Tensor) -> None:
        if number in numbers:
            again[number] = value.detach().clone()

    if numbers:
        follow(runner, request, size, site, changed, keep)
    difference = _four(changed - weights)
    for each in reversed(search.found):
        if each.number in again and each.agrees(difference, again[each.number]):
            return Values(each.values.to(each.result.dtype), each.used)
    reason = search.reason or (
        "its output is not affine in the weights, as where they are divided by their sum, or "
        "a normalisation comes before the output projection"
        if search.found
        else "no result was found in which keys and heads are added up"
    )
    raise AdapterError(
        f"attention[{site!r}] must be multiplied with values and its heads be added by a linear "
        f"map, for the values to be known; {reason}. "
        "Use an explanation that needs no values, such as 'attention' or 'rollout'."
    )


def _changed(weights: Tensor) -> Tensor:
    """Other weights, each between a third and three times as large; none is 0 that was not."""
    numbers = torch.arange(weights.numel(), device=weights.device, dtype=torch.float64)
    factors = 1.25 + (numbers * 2.399963229728653).sin()
    return weights * factors.view(weights.shape).to(weights)


def _four(weights: Tensor) -> Tensor:
    """Weights as (B, H, Lq, Lk)."""
    if weights.ndim == 2:
        return weights[:, None, None]
    return weights[:, None] if weights.ndim == 3 else weights


class _Search:
    """Looks for the output of a layer among what is computed after its weights.

    First comes the tensor in which keys are added up. A single row of a single
    head ends there: what is summed are its values. Otherwise the first tensor
    follows that mixes the numbers of that one and depends on all heads, as an
    output projection does. Of a single head without one, the values
    themselves remain.
    """

    def __init__(self, leaf: Tensor) -> None:
        self.found: list[LayerOutput] = []
        self.reason = ""
        self._leaf = leaf
        shape = _four(leaf).shape
        self._heads, self._pooling = shape[1], shape[1] * shape[2] == 1
        self._summed: Tensor | None = None
        self._done = False

    def __call__(self, number: int, value: Tensor) -> None:
        if self._done or not value.requires_grad or not value.is_floating_point():
            return
        if number >= _MOST_RESULTS:
            self._done = True
        elif self._summed is None:
            mixed = self._adds_keys(value)
            if mixed is None:
                return
            self._summed = value
            self._done = self._pooling or mixed
            if self._done or self._heads == 1:
                self._take(number, value)
        elif self._mixes(value) and self._of_all_heads(value):
            self._done = True
            self._take(number, value)

    def _take(self, number: int, value: Tensor) -> None:
        try:
            self.found.append(layer_output(number, value, self._leaf))
        except UntoldError as reason:
            self.reason = str(reason)

    def _adds_keys(self, value: Tensor) -> bool | None:
        """Whether several heads are added, too; None where no keys are."""
        several = min(2, self._leaf.shape[-1])
        for probe in _probes(value):
            slope = _pulled(value, self._leaf, probe)
            if slope is None:
                return None
            used = _four(slope) != 0
            if int(used.flatten(0, 2).any(0).sum()) >= several:
                heads = int(used.transpose(0, 1).flatten(1).any(1).sum())
                return self._heads > 1 and heads == self._heads
        return None

    def _mixes(self, value: Tensor) -> bool:
        """Whether a number of the tensor is made of several of the summed ones."""
        if self._summed is None:
            return False
        for probe in _probes(value):
            slope = _pulled(value, self._summed, probe)
            if slope is None:
                return False
            if int((slope != 0).sum()) > 1:
                return True
        return False

    def _of_all_heads(self, value: Tensor) -> bool:
        numbers = torch.arange(value.numel(), device=value.device, dtype=torch.float64)
        slope = _pulled(value, self._leaf, numbers.cos().view(value.shape).to(value))
        if slope is None:
            return False
        heads = (_four(slope) != 0).transpose(0, 1).flatten(1)
        return bool(heads.any(1).all())


def _probes(value: Tensor) -> Iterator[Tensor]:
    """One-hot cotangents at the largest number of each of some parts of a tensor."""
    flat = value.detach().abs().flatten()
    step = max(1, -(-len(flat) // _PROBES))
    for first in range(0, len(flat), step):
        probe = torch.zeros(len(flat), dtype=value.dtype, device=value.device)
        probe[first + int(flat[first : first + step].argmax())] = 1
        yield probe.view(value.shape)


def _pulled(value: Tensor, by: Tensor, cotangent: Tensor) -> Tensor | None:
    """Derivative by a tensor; None where there is no dependence."""
    if value is by:
        return None
    (slope,) = torch.autograd.grad(value, by, cotangent, retain_graph=True, allow_unused=True)
    return slope
