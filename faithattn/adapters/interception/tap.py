"""Sees and replaces attention weights and embeddings while a model runs."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faithattn.adapters.interception.site import Site

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}
_ROOT = "attention"
_CALL_FRAMES = {nn.Module._call_impl.__code__, nn.Module._wrapped_call_impl.__code__}

Visitor = Callable[["Site", Tensor], Tensor]


class Tap(TorchFunctionMode):
    """Calls a visitor for every softmax and embedding of a model; uses what it returns.

    The mode is local to the thread and to the ``with`` block: no hook is left
    on the model. Hooks on ``outputs`` modules, if any, are removed on exit.
    """

    def __init__(self, model: nn.Module, visit: Visitor, outputs: Iterable[str] = ()) -> None:
        super().__init__()
        self._names = {id(part): name for name, part in model.named_modules()}
        self._modules = dict(model.named_modules())
        self._outputs = tuple(outputs)
        self._visit = visit
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._handles: list[Any] = []

    def __enter__(self) -> Tap:
        for name in self._outputs:
            hook = self._output_hook(name)
            self._handles.append(self._modules[name].register_forward_hook(hook))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _SOFTMAX:
            dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
            return self._softmax(result, dim)
        if func is F.embedding:
            return self._visit(self._site("embedding", result), result)
        return result

    def _softmax(self, weights: Tensor, dim: int | None) -> Tensor:
        """Visits a softmax with the normalised dimension last, and puts it back."""
        dim = -1 if dim is None else dim
        last = weights.movedim(dim, -1)
        squeezed = weights.ndim == 3 and last.shape[1] == 1 and dim % 3 != 2
        seen = last.squeeze(1) if squeezed else last  # scores (B, L, 1) over dim 1
        used = self._visit(self._site("softmax", seen), seen)
        # Also where nothing is replaced: what was seen is then on the way to the logits.
        return (used.unsqueeze(1) if squeezed else used).movedim(-1, dim)

    def _output_hook(self, name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            call = self._number(name, "module")
            column = output.ndim == 3 and output.shape[-1] == 1
            seen = output.squeeze(-1) if column else output
            site = Site(name + call, "module", tuple(seen.shape), "output")
            used = self._visit(site, seen)
            return used.unsqueeze(-1) if column else used

        return hook

    def _site(self, kind: str, value: Tensor) -> Site:
        """Names the innermost module of the model whose forward is on the stack."""
        frame = sys._getframe(2)
        found, where = None, "?"
        while frame is not None:
            code = frame.f_code
            if code.co_argcount and code not in _CALL_FRAMES:
                found = self._names.get(id(frame.f_locals.get(code.co_varnames[0])))
                if found is not None:
                    where = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
                    break
            frame = frame.f_back  # type: ignore[assignment]
        name = found or _ROOT
        return Site(name + self._number(name, kind), kind, tuple(value.shape), where)

    def _number(self, name: str, kind: str) -> str:
        """The suffix of a repeated call: nothing, then #1, #2, ..."""
        call = self._calls[name, kind]
        self._calls[name, kind] += 1
        return f"#{call}" if call else ""
