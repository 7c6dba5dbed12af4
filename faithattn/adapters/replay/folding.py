"""Products with a constant operand, for many alternatives at once, without copying the constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


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


class _Attention(torch.autograd.Function):
    """Fused attention on a CPU, for which torch has no rule: alternatives become instances."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        return _fused(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the rule below is differentiated, not this function."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        count: int = info.batch_size
        tensors = (
            _instances(value, dim, count) for value, dim in zip(args[:4], in_dims, strict=False)
        )
        result = _fused(*tensors, *args[4:])
        return tuple(part.reshape(count, -1, *part.shape[1:]) for part in result), (0, 0)


def _fused(
    query: Any, key: Any, value: Any, mask: Any, dropout: Any, causal: Any, scale: Any
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _flash(
        query, key, value, dropout, causal, attn_mask=mask, scale=scale
    )
    return result


def _instances(value: Tensor | None, dim: int | None, count: int) -> Tensor | None:
    """Alternatives in front of instances, as one dimension; shared masks stay as they are."""
    if value is None or (dim is None and (value.dim() < 4 or len(value) == 1)):
        return value
    stack = value.expand(count, *value.shape) if dim is None else value.movedim(dim, 0)
    if stack.dim() < 5:
        raise NotImplementedError("A mask of few dimensions differs between alternatives.")
    return stack.flatten(0, 1)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The CPU's fused attention, with a batched form."""
    args = query, key, value, attn_mask, dropout_p, is_causal, scale
    if any(_is_batched(x) for x in args[:4] if x is not None):
        result: tuple[Tensor, Tensor] = _Attention.apply(*args)  # type: ignore[no-untyped-call]
        return result
    return _fused(*args)


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
