"""Names of places: the module whose forward is running, and how often it came by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from types import FrameType

from torch import nn

from faithattn.adapters.interception.watcher import Place

ROOT = "attention"
_CALL_FRAMES = {nn.Module._call_impl.__code__, nn.Module._wrapped_call_impl.__code__}


class Naming:
    """Names the places of one forward."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._names = {id(part): name for name, part in modules.items()}
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
