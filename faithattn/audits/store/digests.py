"""Digests by which an audit knows its model and its batches again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from faithattn.audits.batch import Batch
from faithattn.audits.store.hashing import digest, digest_of, digest_of_tensor, is_plain

_DEPTH = 6  # how far from an adapter its module may be


def digest_of_batch(batch: Batch) -> str:
    """The SHA-256 of all that a batch consists of.

    The device of tensors does not count. Mappings have no order.

    Args:
        batch: The batch; its parts are tensors, arrays, numbers, text,
            mappings, sequences and objects with such attributes.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: If a part is nothing of that kind, such as an open file.
        ValueError: If a part contains itself.

    Examples:
        >>> batch, other = (Batch({"ids": [[1, word]]}) for word in (2, 3))
        >>> digest_of_batch(batch) == digest_of_batch(batch), len(digest_of_batch(batch))
        (True, 64)
        >>> digest_of_batch(batch) == digest_of_batch(other)
        False
    """
    parts = [
        digest(field.name, digest_of(getattr(batch, field.name), field.name))
        for field in dataclasses.fields(batch)
    ]
    return digest("batch", *parts).hex()


def digest_of_model(model: Any) -> dict[str, Any]:
    """What tells a model from another one: its class, its weights and its settings.

    Args:
        model: A module, or an adapter that has modules or tensors somewhere in its attributes.

    Returns:
        ``class``, its name. ``digest``, the SHA-256 over names and classes of
        all modules, their parameters, their buffers, persistent or not, and
        other tensors among their attributes; copies on other devices have the
        same. None where there is neither a module nor a tensor. ``attributes``, the SHA-256 over
        public attributes that are numbers, text or containers of these, such as a
        dropout or a scale, but not ``training``. ``parameters`` and ``buffers``,
        how many numbers they are; tied ones count once.

        What a model computes may depend on more: on its code above all, and
        on attributes of other types.

    Examples:
        >>> found = digest_of_model(nn.Linear(3, 2))
        >>> found["class"], found["parameters"], len(found["digest"])
        ('torch.nn.modules.linear.Linear', 8, 64)
    """
    modules = _outermost([model] if isinstance(model, nn.Module) else _modules(model))
    # Where an adapter has its modules is its own affair: their order must not depend on it.
    weights = sorted(_digest_of_weights(module) for module in modules)
    settings = sorted(_digest_of_settings(module) for module in modules)
    if not isinstance(model, nn.Module):
        tensors = list(_tensors(model))
        weights += [digest(name, _digest_of_array(value)) for name, value in tensors]
        settings.append(digest_of(_plain_attributes(model), "model"))
    return {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "digest": digest("model", *weights).hex() if weights else None,
        "attributes": digest("settings", *settings).hex(),
        "parameters": _count(each for module in modules for each in module.parameters()),
        "buffers": _count(each for module in modules for each in module.buffers()),
    }


def _digest_of_weights(module: nn.Module) -> bytes:
    """The digest of every tensor by name, of tied ones under each of their names."""
    known: dict[int, bytes] = {}
    parts: list[bytes | str] = []
    for name, part in sorted(module.named_modules(remove_duplicate=False), key=_name):
        parts += ["module", name, type(part).__qualname__]
        own: dict[str, Any] = {**part._parameters, **part._buffers, **dict(_tensors(part))}
        for key in sorted(own):
            value = own[key]
            if value is not None:
                if id(value) not in known:
                    known[id(value)] = _digest_of_array(value)
                parts += [key, known[id(value)]]
    return digest("weights", *parts)


def _digest_of_settings(module: nn.Module) -> bytes:
    parts: list[bytes | str] = []
    for name, part in sorted(module.named_modules(remove_duplicate=False), key=_name):
        parts += [name, digest_of(_plain_attributes(part), "model")]
    return digest("settings", *parts)


def _name(pair: tuple[str, Any]) -> str:
    return pair[0]


def _digest_of_array(value: Any) -> bytes:
    return digest_of_tensor(value) if isinstance(value, Tensor) else digest_of(value, "model")


def _tensors(owner: Any) -> list[tuple[str, Any]]:
    """Tensors and arrays among the public attributes of an object, in the order of names."""
    return sorted(
        (name, value)
        for name, value in _public(owner)
        if isinstance(value, Tensor)
        or (isinstance(value, np.ndarray) and not value.dtype.hasobject)
    )


def _plain_attributes(owner: Any) -> dict[str, Any]:
    return {name: value for name, value in _public(owner) if name != "training" and is_plain(value)}


def _public(owner: Any) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in _attributes(owner) if not name.startswith("_"))


def _attributes(owner: Any) -> list[tuple[str, Any]]:
    """The attributes of an object itself, slots included."""
    slots = (
        slot
        for kind in type(owner).__mro__
        for slot in (lambda names: [names] if isinstance(names, str) else names)(
            kind.__dict__.get("__slots__", ())
        )
    )
    found = {slot: getattr(owner, slot) for slot in slots if hasattr(owner, slot)}
    return list({**found, **getattr(owner, "__dict__", {})}.items())


def _modules(value: Any) -> list[nn.Module]:
    """Every module that can be reached from an object, each once."""
    found: dict[int, nn.Module] = {}
    level, seen = [value], {id(value)}
    for _ in range(_DEPTH):
        reached = [each for owner in level for each in _reached(owner)]
        level = []
        for each in reached:
            if id(each) not in seen:
                seen.add(id(each))
                level.append(each)
                if isinstance(each, nn.Module):
                    found[id(each)] = each
        level = [each for each in level if not isinstance(each, nn.Module)]
    return list(found.values())


def _reached(owner: Any) -> list[Any]:
    """What an object refers to: its attributes, its members, what a function was made with."""
    if isinstance(owner, str | bytes | Tensor | np.ndarray | type | ModuleType):
        return []
    if isinstance(owner, Mapping):
        return list(owner.values())
    if isinstance(owner, list | tuple | set | frozenset):
        return list(owner)
    if isinstance(owner, functools.partial):
        return [owner.func, *owner.args, *owner.keywords.values()]
    if isinstance(owner, MethodType):
        return [owner.__self__, owner.__func__]
    if isinstance(owner, FunctionType):
        return [cell.cell_contents for cell in owner.__closure__ or () if _is_full(cell)]
    if isinstance(owner, BuiltinFunctionType):
        return []
    return [value for _, value in _attributes(owner)]


def _is_full(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _outermost(modules: list[nn.Module]) -> list[nn.Module]:
    """The modules that are not part of another one."""
    inner = {id(part) for each in modules for part in each.modules() if part is not each}
    return [each for each in modules if id(each) not in inner]


def _count(tensors: Any) -> int:
    return sum(each.numel() for each in tensors if not nn.parameter.is_lazy(each))
