"""Hears every operation of the current thread from a point in the middle of a forward on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)


class Listener(TorchDispatchMode):
    """Hands every operation to a function instead of running it.

    It starts and stops at points that no ``with`` block encloses, so that
    stopping must find it even if another mode lies on top.
    """

    supports_higher_order_operators = True  # else an unknown one would raise in the model

    def __init__(self, dispatch: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dispatch = dispatch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._dispatch(func, args, kwargs or {})

    def start(self) -> None:
        """Listens from now on."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Listens no more; modes above it stay as they are."""
        if all(mode is not self for mode in _get_current_dispatch_mode_stack()):
            return
        above = []
        while (mode := _pop_mode()) is not self:
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)


def modes() -> list[TorchDispatchMode]:
    """The dispatch modes of the current thread, outermost first."""
    stack: list[TorchDispatchMode] = _get_current_dispatch_mode_stack()
    return stack
