"""Names of places: the module whose forward is running, and how often it came by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from types import FrameType

import torch.nn.functional as F
from torch import nn
from torch.overrides import handle_torch_function

from faithattn.adapters.interception.watcher import Place

ROOT = "attention"
# Between a module's forward and a function that is seen: none of them is a method of the model.
_CALL_FRAMES = {
    each.__code__
    for each in (
        *(nn.Module._call_impl, nn.Module._wrapped_call_impl, handle_torch_function),
        *(F.softmax, F.log_softmax, F.softmin, F.embedding, F.multi_head_attention_forward),
    )
}


class Naming:
    """Names the places of one forward."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)

    def place(self, kind: str, frame: FrameType | None, base: FrameType | None) -> Place:
        """The innermost module of the model whose forward is on the stack.

        Args:
            kind: What is computed there.
            frame: Who computes it.
            base: Who runs the model; modules of its callers are none of this forward.
        """
        found, where = None, "?"
        while frame is not None and frame is not base:
            code = frame.f_code
            if code.co_argcount and code not in _CALL_FRAMES:
                found = self._names.get(id(frame.f_locals.get(code.co_varnames[0])))
                if found is not None:
                    where = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
                    break
            frame = frame.f_back
        return self.numbered(found or ROOT, kind, where)

    def numbered(self, name: str, kind: str, where: str) -> Place:
        """A place with the suffix of a repeated call: nothing, then #1, #2, ..."""
        counted = kind if kind in ("embedding", "module") else "weights"
        call = self._calls[name, counted]
        self._calls[name, counted] += 1
        return Place(f"{name}#{call}" if call else name, kind, where, call)
