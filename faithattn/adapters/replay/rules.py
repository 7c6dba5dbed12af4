"""How a recorded operation is replayed: without writing in place, whatever the layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from faithattn.adapters.replay import folding
from faithattn.adapters.replay.refusal import Unrecordable, is_scalar_choice, traits

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_aten = torch.ops.aten


def replayed(func: OpOverload[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The call that takes an operation's place in a replay.

    An alternative may be laid out unlike the recorded weights, so views become
    reshapes, and requests for a layout are dropped.
    """
    if "memory_format" in kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "memory_format"}
    if func in _SUBSTITUTES:
        return _SUBSTITUTES[func], args, kwargs
    if func is _aten._reshape_alias.default:
        return torch.reshape, args[:2], {}
    return func, args, kwargs


def without_writing(
    func: OpOverload[Any, Any], written: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    """The call that returns what an in-place operation leaves in its first argument."""
    name, size, dtype = traits(func).name, tuple(written.shape), written.dtype
    if name == "aten::copy_":
        return _filled, (args[1], size, dtype, written.device), {}
    if func is _aten.fill_.Tensor:
        return _filled, (args[1], size, dtype, written.device), {}
    if name in ("aten::zero_", "aten::fill_"):
        return torch.full_like, (args[0], args[1] if len(args) > 1 else 0), {}
    if name == "aten::index_put_" and is_scalar_choice(args):
        return _masked_put, (args[0], args[1][0], args[2]), {}
    return partial(_kept, _functional(func), dtype), args, kwargs


@cache
def _functional(func: OpOverload[Any, Any]) -> OpOverload[Any, Any]:
    """The operation that returns what this one writes."""
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    twin: OpOverload[Any, Any] | None = getattr(packet, schema.overload_name or "default", None)
    if (
        not name.endswith("_")
        or name.startswith("__")
        or traits(func).reshapes
        or traits(func).writes != (0,)
        or twin is None
        or twin._schema.is_mutable
        or [a.name for a in twin._schema.arguments] != [a.name for a in schema.arguments]
    ):
        raise Unrecordable(f"{schema.name} writes in place in a way that is not recorded.")
    return twin


def can_batch(function: Callable[..., Any]) -> bool:
    """True if ``torch.func.vmap`` has a rule, and need not loop, for what a node calls."""
    if isinstance(function, partial):
        function = function.args[0]
    return not isinstance(function, OpOverload) or _has_rule(function)


@cache
def _has_rule(func: OpOverload[Any, Any]) -> bool:
    keys = ("FuncTorchBatched", "FuncTorchBatchedDecomposition", "CompositeImplicitAutograd")
    name = func.name()  # type: ignore[no-untyped-call]
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys)


def _kept(func: Callable[..., Tensor], dtype: torch.dtype, *args: Any, **kwargs: Any) -> Tensor:
    """An in-place operation keeps the dtype of what it writes into."""
    result = func(*args, **kwargs)
    return result if result.dtype == dtype else result.to(dtype)


def _filled(
    source: Tensor, size: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return source.to(device, dtype).expand(size)


def _masked_put(target: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    mask = mask.reshape(*mask.shape, *[1] * (target.dim() - mask.dim()))
    return torch.where(mask, value.reshape(()).to(target), target)


def _contiguous(value: Tensor) -> Tensor:
    return value.contiguous()


def _view_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.contiguous().view(dtype)


def _view_as_complex(value: Tensor) -> Tensor:
    return torch.view_as_complex(value.contiguous())


_SUBSTITUTES: dict[Any, Callable[..., Any]] = {
    _aten.view.default: torch.reshape,
    _aten._unsafe_view.default: torch.reshape,
    _aten.view.dtype: _view_dtype,
    _aten.view_as_complex.default: _view_as_complex,
    _aten.clone.default: _contiguous,
    _aten.bmm.default: folding.bmm,
    _aten.addmm.default: folding.addmm,
    _aten._scaled_dot_product_flash_attention_for_cpu.default: folding.attention,
}

VIEWS_IN_PLACE: dict[Any, Callable[..., Any]] = {
    _aten.transpose_.default: _aten.transpose.int,
    _aten.t_.default: _aten.t.default,
    _aten.squeeze_.default: _aten.squeeze.default,
    _aten.squeeze_.dim: _aten.squeeze.dim,
    _aten.squeeze_.dims: _aten.squeeze.dims,
    _aten.unsqueeze_.default: _aten.unsqueeze.default,
}
