"""Attention kernels written out, so that the weights are on the way to the output."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

# A score this far below the best of its row is a mask, whatever number stands for -infinity.
_MASKED_BELOW = 5000.0


def _without_dispatch(function: Any) -> Any:
    """A copy of a function of torch.nn.functional whose inner calls a mode can see.

    The original hands itself to the mode and then runs with the mode off.
    """
    never = {"has_torch_function": lambda *_: False, "has_torch_function_unary": lambda _: False}
    names = {**F.__dict__, **never}
    copy = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


multi_head_attention = _without_dispatch(F.multi_head_attention_forward)
gumbel_softmax = _without_dispatch(F.gumbel_softmax)
_PARAMETERS = F.multi_head_attention_forward.__code__.co_varnames


def argument(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An argument of multi_head_attention_forward, None where it was left out."""
    place = _PARAMETERS.index(name)
    return args[place] if place < len(args) else kwargs.get(name)


def repeat_heads(query: Tensor, other: Tensor) -> Tensor:
    """Keys or values of grouped queries, one for each query head."""
    if query.ndim < 3 or other.shape[-3] == query.shape[-3]:
        return other
    return other.repeat_interleave(query.shape[-3] // other.shape[-3], -3)


def as_autocast(*tensors: Tensor | None) -> list[Any]:
    """What autocast would hand to a kernel; the tensors themselves where it is off."""
    if not torch._C._is_any_autocast_enabled():
        return list(tensors)
    kind = next(each for each in tensors if each is not None).device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    single = (torch.float32, torch.float16, torch.bfloat16)
    return [
        each.to(dtype) if each is not None and each.dtype in single else each for each in tensors
    ]


def sdpa_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Weights of scaled_dot_product_attention; a row that may use no key is zero.

    Half precision is computed in single, as the fused kernels do.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = _in_single(query, key)
    with _exactly(query):
        scores = torch.matmul(left * scale, right.transpose(-2, -1))
    if is_causal:
        causal = _causal(query.shape[-2], key.shape[-2], query.device)
        scores = _added(scores, _additive(causal, scores.dtype))
    if mask is None:
        return scores.softmax(-1)
    bias = _additive(mask, scores.dtype) if mask.dtype == torch.bool else mask
    closed = (bias == -math.inf).all(-1, keepdim=True)
    if not holds_any(closed):
        return _added(scores, bias).softmax(-1)
    # Only rows that may use no key pay for being put to zero.
    return _added(scores, bias.masked_fill(closed, 0)).softmax(-1) * ~closed


def _added(scores: Tensor, bias: Tensor) -> Tensor:
    """Scores with a bias added, in their own memory where that is possible."""
    pairs = zip(bias.shape[::-1], scores.shape[::-1], strict=False)
    fitting = bias.ndim <= scores.ndim and all(own in (1, length) for own, length in pairs)
    if fitting and bias.dtype == scores.dtype and is_plain(scores):
        return scores.add_(bias)
    return scores + bias


def smallest(weights: Tensor) -> float | None:
    """The smallest weight, nan if there is a nan; None where it cannot be known."""
    if not weights.numel() or not is_plain(weights):
        return None
    return float(weights.detach().amin())


def is_plain(tensor: Tensor) -> bool:
    """Whether nobody follows what is done with a tensor: no torch.func, no recorder."""
    followed = torch._C._len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack()
    return not followed and not tensor.is_inference()


def _exactly(query: Tensor) -> AbstractContextManager[Any]:
    """Turns autocast off, which would round the scores that a kernel keeps in single."""
    if not torch._C._is_any_autocast_enabled():
        return nullcontext()
    kind = query.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _in_single(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Half precision in single."""
    if query.dtype in (torch.float16, torch.bfloat16):
        return query.float(), key.float()
    return query, key


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as numbers to add, in its own shape, which is the smallest."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -math.inf)


def holds_any(flags: Tensor) -> bool:
    """Whether any flag is set, for any of the instances of torch.vmap, too."""
    while torch._C._functorch.is_functorch_wrapped_tensor(flags):
        flags = torch._C._functorch.get_unwrapped(flags)
    if not torch._C._len_torch_dispatch_stack():
        return bool(flags.any())
    with _disable_current_modes():  # a look of ours, not the model's: no recorder need know
        return bool(flags.any())


def sdpa_support(weights: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Keys that each row may use, shaped like the weights."""
    allowed = torch.ones_like(weights, dtype=torch.bool)
    if is_causal:
        rows, columns = weights.shape[-2:]
        allowed = allowed & _causal(rows, columns, weights.device)
    if mask is not None:
        open_ = mask if mask.dtype == torch.bool else mask > -_MASKED_BELOW
        allowed = allowed & open_
    return allowed


def softmax_support(scores: Tensor, dim: int, least: float | None) -> Callable[[], Tensor]:
    """Computes the keys whose score is no stand-in for -infinity.

    Scores are not kept for it: a weight above 0 has no such score, and where
    some are 0, as where there is padding, one flag for each is.

    Args:
        scores: What the softmax was taken of.
        dim: The axis of the keys.
        least: The smallest weight, None where it cannot be known.
    """
    if least is None:
        return lambda: scores > scores.amax(dim, keepdim=True) - _MASKED_BELOW
    if least > 0:
        shape, device = scores.shape, scores.device
        return lambda: torch.ones(shape, dtype=torch.bool, device=device)
    lowest = scores.amax(dim, keepdim=True) - _MASKED_BELOW
    # Comparisons that give numbers are vectorised on CPUs, those that give flags are not.
    found = torch.gt(scores, lowest, out=torch.empty_like(scores)).bool()
    return lambda: found


def flex_weights(
    query: Tensor, key: Tensor, score_mod: Callable[..., Tensor], mask_mod: Any, scale: float
) -> tuple[Tensor, Tensor]:
    """Weights of flex attention and the keys that each row may use."""
    # A function may index tensors by its places; only this mode of torch's lets vmap do so.
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    left, right = _in_single(query, repeat_heads(query, key))
    with _exactly(query):
        scores = torch.matmul(left * scale, right.transpose(-2, -1))
    size, heads, rows, columns = scores.shape
    places = [torch.arange(n, device=scores.device) for n in (size, heads, rows, columns)]
    allowed = torch.ones_like(scores, dtype=torch.bool)
    with TransformGetItemToIndex():
        scores = _over_places(score_mod, first=True)(scores, *places)
        if mask_mod is not None:
            allowed = _over_places(mask_mod, first=False)(*places).expand_as(scores)
    return torch._safe_softmax(scores.masked_fill(~allowed, -math.inf), -1), allowed


def _over_places(function: Callable[..., Tensor], *, first: bool) -> Callable[..., Tensor]:
    """Applies a function of (score,) batch, head, query and key to every place."""
    lead: tuple[int, ...] = (0,) if first else ()
    for place in (3, 2, 1, 0):
        dims: list[int | None] = [None] * 4
        dims[place] = 0
        function = torch.vmap(function, in_dims=(*lead, *dims))
    return function


def _causal(rows: int, columns: int, device: torch.device) -> Tensor:
    return torch.ones(rows, columns, dtype=torch.bool, device=device).tril()
