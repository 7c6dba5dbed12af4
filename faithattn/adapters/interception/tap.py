"""Sees and replaces attention weights and embeddings while a model runs."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faithattn.adapters.interception import kernels
from faithattn.adapters.interception.fused import attended
from faithattn.adapters.interception.guards import refuse_recomputed
from faithattn.adapters.interception.lent import Lent
from faithattn.adapters.interception.naming import Naming
from faithattn.adapters.interception.outputs import replaced
from faithattn.adapters.interception.softmax import (
    EXP,
    LOG_SOFTMAX,
    SOFTMAX,
    Logarithms,
    Scores,
    first_of,
)
from faithattn.adapters.interception.watcher import Place as Place
from faithattn.adapters.interception.watcher import Watcher
from faithattn.adapters.parts import Parts
from faithattn.adapters.replay.refusal import READS

_local = threading.local()


class Tap(TorchFunctionMode):
    """Shows a watcher every attention and embedding of a model; uses what it returns.

    The mode is local to the thread and to the ``with`` block: nothing is left
    on the model. A tap inside another one (an override that runs a model)
    sees its own model only, and the outer one sees nothing of it.
    """

    def __init__(
        self,
        parts: Parts,
        watcher: Watcher,
        *,
        outputs: Iterable[str] = (),
        results: bool = False,
        copied: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._modules = parts.by_path
        self._outputs = tuple(outputs)
        self._watcher = watcher
        self._results = results
        self._lent = Lent(copied)
        self._naming = Naming(parts.names)
        self._logarithms = Logarithms()
        self._base: FrameType | None = None
        self._heads: int | None = None
        self._appended = 0
        self._graph = torch.is_grad_enabled()
        self._aside = False  # in a hook, where the mode is on, but what runs is not the model
        self._stack: list[Tap] = []
        self._cleanup = ExitStack()
        self._handlers = _handlers()

    def __enter__(self) -> Tap:
        with ExitStack() as stack:
            for name in self._outputs:
                part = self._modules[name]
                if not isinstance(part, torch.jit.ScriptModule):  # which takes no hooks
                    hook = self._output_hook(name)
                    stack.callback(part.register_forward_hook(hook).remove)
            self._stack = _taps()
            self._stack.append(self)
            stack.callback(self._stack.remove, self)
            super().__enter__()  # type: ignore[no-untyped-call]
            self._base = sys._getframe(1)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)  # type: ignore[no-untyped-call]
        finally:
            self._base = None
            self._cleanup.close()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        handler = self._handlers.get(func)
        if handler is None and not self._results:  # nearly every call
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if self._aside or self._stack[-1] is not self:
            return func(*args, **kwargs)
        if handler is not None:
            return handler(self, func, args, kwargs)
        result = func(*args, **kwargs)
        return self._watcher.result(result) if isinstance(result, Tensor) else result

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        place = self._place("multi_head" if self._heads else "softmax")
        value: Tensor = func(*args, **kwargs)
        if not value.is_floating_point() or value.ndim < 2:
            return value
        return self._normalised(place, value, Scores.of(func, args, kwargs), kwargs.get("out"))

    def _log_softmax(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        if value.ndim > 1 and value.is_floating_point():
            self._logarithms.note(value, Scores.of(func, args, kwargs))
        return value

    def _exp(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """The exponential of a log_softmax is a softmax."""
        logarithm = first_of(args, kwargs)
        scores = self._logarithms.scores_of(logarithm)
        value: Tensor = func(*args, **kwargs)
        if scores is None:
            return value
        buffer = value if value is logarithm else kwargs.get("out")
        return self._normalised(self._place("softmax"), value, scores, buffer)

    def _normalised(
        self, place: Place, value: Tensor, scores: Scores, buffer: Tensor | None
    ) -> Tensor:
        """What the model goes on with; ``buffer`` is what it had the weights written to."""
        least = kernels.smallest(value)
        certain = least is not None and not math.isnan(least)
        weights = value if certain else scores.repaired(value)
        if self._wants(place):
            support = kernels.softmax_support(
                scores.values.detach(), scores.dim, least if certain else None
            )
            shown = weights if buffer is None else weights.clone()
            used = self._watcher.weights(place, shown, scores.dim, support, self._heads)
            weights = self._lent.used(place.name, used) if used is shown else used.clone()
        if buffer is None or weights is buffer:
            return weights
        return buffer.copy_(weights)

    def _sdpa(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        place = self._place("multi_head" if self._heads else "sdpa")
        if not self._wants(place):
            return func(*args, **kwargs)  # type: ignore[no-any-return]
        return attended(self._watcher, place, *args, **kwargs)

    def _multi_head(self, _func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Runs the function with the mode on, so that its own softmax or kernel is seen."""
        self._heads = kernels.argument("num_heads", args, kwargs)
        bias, zero = (kernels.argument(name, args, kwargs) for name in ("bias_k", "add_zero_attn"))
        self._appended = (bias is not None) + bool(zero)
        try:
            with self._reentered():
                return kernels.multi_head_attention(*args, **kwargs)
        finally:
            self._heads, self._appended = None, 0

    def _gumbel(self, _func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        with self._reentered():
            return kernels.gumbel_softmax(*args, **kwargs)

    def _reentered(self) -> ExitStack:
        """The mode itself once more, without what entering a tap does."""
        stack = ExitStack()
        TorchFunctionMode.__enter__(self)  # type: ignore[no-untyped-call]
        stack.push(lambda *error: TorchFunctionMode.__exit__(self, *error))  # type: ignore[no-untyped-call]
        return stack

    def _flex(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        place = self._place("flex")
        if not self._wants(place):
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
        used = self._watcher.embedded(place, value, ids, padding, table.shape[0])
        if used is value:
            return used if used.ndim != 3 else self._lent.used(place.name, used)
        return used.clone()  # many models write positions into it: not into the feature

    def _aten_embedding(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        def swapped(ids: Tensor, weight: Tensor, *rest: Any) -> Any:
            return func(weight, ids, *rest)

        named = dict(zip(("weight", "indices", "padding_idx"), args, strict=False)) | dict(kwargs)
        padding = named.get("padding_idx", -1)
        return self._embedding(swapped, (named["indices"], named["weight"], padding), {})

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        self._watcher.read(func, (args, kwargs))
        self._lent.read(*args)
        return func(*args, **kwargs)

    def _data(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        self._lent.read(*args)
        return func(*args, **kwargs)

    def copies_needed(self) -> set[str]:
        """Sites whose weights, as they were shown, the model may have written to, or keeps."""
        return self._lent.copies_needed()

    def _output_hook(self, name: str) -> Callable[..., Any]:
        owner = threading.get_ident()  # hooks are seen by every thread that runs the model

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if self._aside or threading.get_ident() != owner or _taps()[-1:] != [self]:
                return output
            place = self._naming.numbered(name, "module", "output")
            if not self._watcher.wants(place):
                return output

            def show(value: Tensor, dim: int) -> Tensor:
                if not self._watcher.wants(place):  # the first of several was it
                    return value
                return self._watcher.weights(place, value, dim, None).clone()

            self._aside = True
            try:
                return replaced(output, show)
            finally:
                self._aside = False

        return hook

    def _place(self, kind: str) -> Place:
        """Where the function that is being handled was called."""
        place = self._naming.place(kind, sys._getframe(3), self._base)
        return place._replace(appended=self._appended) if self._appended else place

    def _wants(self, place: Place) -> bool:
        """Whether to show these weights; raises where gradients could not follow them."""
        wanted = self._watcher.wants(place)
        if wanted and self._graph:
            where = f"{place.name!r} ({place.where})"
            refuse_recomputed(sys._getframe(1), self._base, where)
        return wanted


def _taps() -> list[Tap]:
    """The taps of this thread, the innermost last."""
    taps: list[Tap] | None = getattr(_local, "taps", None)
    if taps is None:
        taps = _local.taps = []
    return taps


_Handler = Callable[[Tap, Any, tuple[Any, ...], Any], Any]
_aten = torch.ops.aten
_HANDLERS: dict[Any, _Handler] = {
    **dict.fromkeys(READS, Tap._read),
    torch._C._set_grad_enabled: Tap._read,
    Tensor.data.__get__: Tap._data,  # type: ignore[attr-defined]
    F.gumbel_softmax: Tap._gumbel,
    **dict.fromkeys(SOFTMAX, Tap._softmax),
    **dict.fromkeys(LOG_SOFTMAX, Tap._log_softmax),
    **dict.fromkeys(EXP, Tap._exp),
    F.scaled_dot_product_attention: Tap._sdpa,
    _aten.scaled_dot_product_attention: Tap._sdpa,
    _aten.scaled_dot_product_attention.default: Tap._sdpa,
    F.multi_head_attention_forward: Tap._multi_head,
    F.embedding: Tap._embedding,
    _aten.embedding: Tap._aten_embedding,
    _aten.embedding.default: Tap._aten_embedding,
}


def _handlers() -> dict[Any, _Handler]:
    """What a tap looks at; flex attention only where somebody has imported it."""
    flex = sys.modules.get("torch._higher_order_ops.flex_attention")
    return _HANDLERS if flex is None else {**_HANDLERS, flex.flex_attention: Tap._flex}
