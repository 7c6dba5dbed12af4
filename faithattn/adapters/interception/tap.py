"""Sees and replaces attention weights and embeddings while a model runs."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faithattn.adapters.interception import kernels
from faithattn.adapters.interception.guards import (
    inside_checkpoint,
    refuse_checkpoint,
)
from faithattn.adapters.state import parts_of
from faithattn.errors import AdapterError

ROOT = "attention"
_CALL_FRAMES = {nn.Module._call_impl.__code__, nn.Module._wrapped_call_impl.__code__}
_local = threading.local()


@dataclass(frozen=True)
class Place:
    """A call that computes attention or an embedding: its name, its kind and its line."""

    name: str
    kind: str
    where: str
    call: int


class Watcher(Protocol):
    """What a tap shows its finds to."""

    def wants(self, place: Place) -> bool:
        """Whether these weights are worth computing explicitly."""
        ...

    def weights(
        self,
        place: Place,
        value: Tensor,
        dim: int,
        support: Callable[[], Tensor] | None,
        heads: int | None = None,
    ) -> Tensor:
        """Takes weights with their keys on ``dim``; returns those to go on with."""
        ...

    def embedded(
        self, place: Place, value: Tensor, ids: Tensor, padding: int | None, entries: int
    ) -> Tensor:
        """Takes the output of an embedding; returns the one to go on with."""
        ...

    def result(self, value: Tensor) -> Tensor:
        """Takes the result of any other function."""
        ...

    def read(self, function: Any, args: tuple[Any, ...]) -> None:
        """Hears that a tensor's content is read by Python."""
        ...


class Tap(TorchFunctionMode):
    """Shows a watcher every attention and embedding of a model; uses what it returns.

    The mode is local to the thread and to the ``with`` block: nothing is left
    on the model. A tap inside another one (an override that runs a model)
    sees its own model only, and the outer one sees nothing of it.
    """

    def __init__(
        self,
        model: nn.Module,
        watcher: Watcher,
        *,
        outputs: Iterable[str] = (),
        results: bool = False,
    ) -> None:
        super().__init__()
        self._model = model
        self._modules = parts_of(model)
        self._names = {id(part): name for name, part in self._modules.items()}
        self._outputs = tuple(outputs)
        self._watcher = watcher
        self._results = results
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._logarithms: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}
        self._heads: int | None = None
        self._graph = torch.is_grad_enabled()
        self._cleanup = ExitStack()
        self._handlers = _handlers()

    def __enter__(self) -> Tap:
        with ExitStack() as stack:
            for name in self._outputs:
                hook = self._output_hook(name)
                stack.callback(self._modules[name].register_forward_hook(hook).remove)
            taps = _taps()
            taps.append(self)
            stack.callback(taps.remove, self)
            super().__enter__()  # type: ignore[no-untyped-call]
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)  # type: ignore[no-untyped-call]
        finally:
            self._cleanup.close()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if _taps()[-1] is not self:
            return func(*args, **kwargs)
        handler = self._handlers.get(func)
        if handler is not None:
            return handler(self, func, args, kwargs)
        result = func(*args, **kwargs)
        if self._results and isinstance(result, Tensor):
            return self._watcher.result(result)
        return result

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        place = self._place("multi_head" if self._heads else "softmax")
        value: Tensor = func(*args, **kwargs)
        if not value.is_floating_point() or value.ndim < 2:
            return value
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        scores = args[0].detach() if args else None
        at = _old_default(value.ndim) if dim is None else dim

        def support() -> Tensor:
            return kernels.softmax_support(scores if scores is not None else value, at)

        return self._normalised(place, value, at, support if scores is not None else None)

    def _log_softmax(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if value.ndim > 1 and args:
            at = _old_default(value.ndim) if dim is None else dim
            self._logarithms[id(value)] = (weakref.ref(value), at, args[0].detach())
        return value

    def _exp(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """The exponential of a log_softmax is a softmax."""
        value: Tensor = func(*args, **kwargs)
        known = self._logarithms.get(id(args[0])) if args else None
        if known is None or known[0]() is not args[0]:
            return value
        _, dim, scores = known
        place = self._place("softmax")
        return self._normalised(place, value, dim, lambda: kernels.softmax_support(scores, dim))

    def _normalised(
        self, place: Place, value: Tensor, dim: int, support: Callable[[], Tensor] | None
    ) -> Tensor:
        if not self._watcher.wants(place):
            return value
        # A row that may use no key is nan after a softmax; it is shown, and goes on, as 0.
        return self._watcher.weights(place, value.nan_to_num(0.0), dim, support, self._heads)

    def _sdpa(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        place = self._place("multi_head" if self._heads else "sdpa")
        if not self._watcher.wants(place):
            return func(*args, **kwargs)  # type: ignore[no-any-return]
        return self._explicit(place, *args, **kwargs)

    def _explicit(
        self,
        place: Place,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """scaled_dot_product_attention with its weights shown to the watcher."""
        if query.is_nested or key.is_nested:
            raise AdapterError(
                f"attention must be computed on plain tensors; got nested ones in {place.name!r} "
                f"({place.where}). Run the model with padding and a mask."
            )
        if enable_gqa:
            key, value = kernels.repeat_heads(query, key), kernels.repeat_heads(query, value)
        weights = kernels.sdpa_weights(query, key, attn_mask, is_causal, scale)
        shape, rows, columns = weights.detach(), query.detach(), key.detach()

        def support() -> Tensor:
            return kernels.sdpa_support(shape, rows, columns, attn_mask, is_causal)

        used = self._watcher.weights(place, weights, -1, support)
        if dropout_p > 0:
            used = F.dropout(used, dropout_p)
        return torch.matmul(used.to(value.dtype), value)

    def _multi_head(self, _func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Runs the function with the mode on, so that its own softmax or kernel is seen."""
        self._heads = kernels.argument("num_heads", args, kwargs)
        try:
            with self._reentered():
                return kernels.multi_head_attention(*args, **kwargs)
        finally:
            self._heads = None

    def _reentered(self) -> ExitStack:
        """The mode itself once more, without what entering a tap does."""
        stack = ExitStack()
        TorchFunctionMode.__enter__(self)  # type: ignore[no-untyped-call]
        stack.push(lambda *error: TorchFunctionMode.__exit__(self, *error))  # type: ignore[no-untyped-call]
        return stack

    def _flex(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        place = self._place("flex")
        if not self._watcher.wants(place):
            return func(*args, **kwargs)
        query, key, value, score_mod, block_mask, scale = args[:6]
        mask_mod = None if block_mask is None else block_mask[-1]
        weights, allowed = kernels.flex_weights(query, key, score_mod, mask_mod, scale)
        used = self._watcher.weights(place, weights, -1, lambda: allowed)
        with torch.no_grad():
            rest = func(*args, **kwargs)[1:]  # the statistics that come with the output
        return (torch.matmul(used.to(value.dtype), kernels.repeat_heads(query, value)), *rest)

    def _embedding(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ids = args[0] if args else kwargs["input"]
        table = args[1] if len(args) > 1 else kwargs["weight"]
        padding = args[2] if len(args) > 2 else kwargs.get("padding_idx")
        place = self._place("embedding")
        return self._watcher.embedded(place, value, ids, padding, table.shape[0])

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        self._watcher.read(func, args)
        return func(*args, **kwargs)

    def _output_hook(self, name: str) -> Callable[..., Any]:
        owner = threading.get_ident()  # hooks are seen by every thread that runs the model

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if threading.get_ident() != owner or _taps()[-1:] != [self]:
                return output
            place = Place(name + self._number(name, "module"), "module", "output", 0)
            if not self._watcher.wants(place):
                return output
            if isinstance(output, Tensor):
                return self._output(place, output)
            if isinstance(output, tuple):
                return tuple(
                    self._output(place, each) if _like_weights(each) else each for each in output
                )
            return output

        return hook

    def _output(self, place: Place, value: Tensor) -> Tensor:
        column = value.ndim == 3 and value.shape[-1] == 1
        return self._watcher.weights(place, value, 1 if column else -1, None)

    def _place(self, kind: str) -> Place:
        """Names the innermost module of the model whose forward is on the stack."""
        frame = sys._getframe(3)
        found, where = None, "?"
        while frame is not None:
            code = frame.f_code
            if code.co_argcount and code not in _CALL_FRAMES:
                found = self._names.get(id(frame.f_locals.get(code.co_varnames[0])))
                if found is not None:
                    where = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
                    break
            frame = frame.f_back  # type: ignore[assignment]
        name = found or ROOT
        if self._graph and kind != "embedding" and inside_checkpoint(frame):
            refuse_checkpoint(name, where)
        number = self._number(name, "embedding" if kind == "embedding" else "weights")
        return Place(name + number, kind, where, int(number[1:] or 0))

    def _number(self, name: str, kind: str) -> str:
        """The suffix of a repeated call: nothing, then #1, #2, ..."""
        call = self._calls[name, kind]
        self._calls[name, kind] += 1
        return f"#{call}" if call else ""


def _taps() -> list[Tap]:
    """The taps of this thread, the innermost last."""
    taps: list[Tap] | None = getattr(_local, "taps", None)
    if taps is None:
        taps = _local.taps = []
    return taps


def _old_default(ndim: int) -> int:
    """The dimension that softmax takes where none is given."""
    return 0 if ndim in (0, 1, 3) else 1


def _like_weights(value: Any) -> bool:
    """Whether a tensor may hold attention: rows of weights that sum to one."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
        return False
    content = value.detach()
    sums = content.sum(-1)
    return bool((content >= 0).all() and (((sums - 1).abs() < 1e-2) | (sums == 0)).all())


_Handler = Callable[[Tap, Any, tuple[Any, ...], Any], Any]
_HANDLERS: dict[Any, _Handler] = {
    **dict.fromkeys(
        (F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax, torch._safe_softmax),
        Tap._softmax,
    ),
    **dict.fromkeys(
        (F.log_softmax, torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax),
        Tap._log_softmax,
    ),
    torch.exp: Tap._exp,
    Tensor.exp: Tap._exp,
    F.scaled_dot_product_attention: Tap._sdpa,
    F.multi_head_attention_forward: Tap._multi_head,
    F.embedding: Tap._embedding,
    **dict.fromkeys(
        (
            Tensor.tolist,
            Tensor.numpy,
            Tensor.item,
            Tensor.__array__,
            Tensor.__bool__,
            Tensor.__float__,
            Tensor.__int__,
            Tensor.__index__,
        ),
        Tap._read,
    ),
}


def _handlers() -> dict[Any, _Handler]:
    """What a tap looks at; flex attention only where somebody has imported it."""
    flex = sys.modules.get("torch._higher_order_ops.flex_attention")
    return _HANDLERS if flex is None else {**_HANDLERS, flex.flex_attention: Tap._flex}
