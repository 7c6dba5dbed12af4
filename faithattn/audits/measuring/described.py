"""Options and functions as a manifest tells them, so that a changed one is noticed."""

from __future__ import annotations

import functools
import hashlib
import inspect
import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, is_dataclass
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor

from faithattn.audits.store.hashing import digest_of, is_plain


def described(value: Any) -> Any:
    """An option as JSON holds it.

    What is code is told by its name, a digest of its source, and what it was made with.

    Examples:
        >>> described({"n_permutations": np.int64(7), "orders": ("attention",)})
        {'n_permutations': 7, 'orders': ['attention']}
    """
    return _described(value, ())


def _described(value: Any, above: tuple[int, ...]) -> Any:
    """The same; ``above`` are the functions and containers that it is in."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__index__") and not isinstance(value, Tensor | np.ndarray):
        return operator.index(value)  # a whole number of NumPy's
    if isinstance(value, Tensor | np.ndarray):
        return value.tolist()
    if id(value) in above:
        return "itself"
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(name): _described(each, above) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__qualname__, **_described(asdict(value), above)}
    if callable(value):
        return _code(value, above)
    if isinstance(value, Sequence):
        return [_described(each, above) for each in value]
    if isinstance(value, Set):
        return sorted(str(_described(each, above)) for each in value)
    return str(value)


def _code(function: Any, above: tuple[int, ...]) -> dict[str, Any]:
    """A function by module, name and source; None where the source is not at hand."""
    plain = inspect.unwrap(function)
    named = plain if hasattr(plain, "__qualname__") else type(plain)
    try:
        source = hashlib.sha256(inspect.getsource(named).encode()).hexdigest()
    except (OSError, TypeError):
        source = None
    found = {"name": f"{named.__module__}.{named.__qualname__}", "source": source}
    made_with = {name: _kept(each, above) for name, each in _made_with(function).items()}
    return {**found, "made_with": made_with} if made_with else found


def _made_with(function: Any) -> Mapping[str, Any]:
    """What a function holds besides its code, by name: two of one source may differ in it."""
    if isinstance(function, functools.partial):
        return {"function": function.func, "arguments": function.args, **function.keywords}
    if isinstance(function, MethodType):
        return _made_with(function.__self__)
    if not isinstance(function, FunctionType):
        own = {} if isinstance(function, type) else getattr(function, "__dict__", {})
        return {name: value for name, value in own.items() if not name.startswith("_")}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return defaults | {name: cell.cell_contents for name, cell in cells if _is_full(cell)}


def _is_full(cell: Any) -> bool:
    """Whether a variable of an outer function has its value yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _kept(value: Any, above: tuple[int, ...]) -> Any:
    """What a function holds: other objects by class, as their text may be an address."""
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return digest_of(value, "score").hex()
    if is_plain(value) or isinstance(value, FunctionType | MethodType | functools.partial):
        return _described(value, above)
    return f"{type(value).__module__}.{type(value).__qualname__}"
