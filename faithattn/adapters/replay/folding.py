"""Products with a constant operand, for many alternatives at once, without copying the constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _ConstantRight(torch.autograd.Function):
    """``left @ right`` of batches of matrices: alternatives become rows."""

    @staticmethod
    def forward(left: Tensor, right: Tensor) -> Tensor:
        return torch.bmm(left, right)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the rule below is differentiated, not this function."""

    @staticmethod
    def vmap(_info: Any, in_dims: Any, left: Tensor, right: Tensor) -> tuple[Tensor, int]:
        left = left.movedim(in_dims[0], 1)  # (batch, K, rows, inner)
        return torch.bmm(left.flatten(1, 2), right).unflatten(1, left.shape[1:3]), 1  # type: ignore[no-untyped-call]


class _ConstantLeft(torch.autograd.Function):
    """``left @ right`` of batches of matrices: alternatives become columns."""

    @staticmethod
    def forward(left: Tensor, right: Tensor) -> Tensor:
        return torch.bmm(left, right)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the rule below is differentiated, not this function."""

    @staticmethod
    def vmap(_info: Any, in_dims: Any, left: Tensor, right: Tensor) -> tuple[Tensor, int]:
        right = right.movedim(in_dims[1], 2)  # (batch, inner, K, columns)
        return torch.bmm(left, right.flatten(2)).unflatten(2, right.shape[2:]), 2  # type: ignore[no-untyped-call]


class _ConstantWeights(torch.autograd.Function):
    """``bias + rows @ weights`` of one matrix: alternatives become rows."""

    @staticmethod
    def forward(bias: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        return torch.addmm(bias, rows, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the rule below is differentiated, not this function."""

    @staticmethod
    def vmap(
        _info: Any, in_dims: Any, bias: Tensor, rows: Tensor, weights: Tensor
    ) -> tuple[Tensor, int]:
        rows = rows.movedim(in_dims[1], 0)
        product = torch.addmm(bias, rows.flatten(0, 1), weights)
        return product.unflatten(0, rows.shape[:2]), 0  # type: ignore[no-untyped-call]


def bmm(left: Tensor, right: Tensor) -> Tensor:
    """``torch.bmm`` whose batched form leaves an unbatched operand as it is."""
    batched = _is_batched(left), _is_batched(right)
    if batched == (True, False):
        product: Tensor = _ConstantRight.apply(left, right)  # type: ignore[no-untyped-call]
    elif batched == (False, True):
        product = _ConstantLeft.apply(left, right)  # type: ignore[no-untyped-call]
    else:
        product = torch.bmm(left, right)
    return product


def addmm(bias: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """``torch.addmm`` that stays one call in its batched form where only the rows are batched."""
    batched = tuple(map(_is_batched, (bias, rows, weights)))
    if bias.dim() == 1 and batched == (False, True, False):
        product: Tensor = _ConstantWeights.apply(bias, rows, weights)  # type: ignore[no-untyped-call]
        return product
    return torch.addmm(bias, rows, weights)


def _is_batched(tensor: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(tensor)
