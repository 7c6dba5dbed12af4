"""Digests of values by what they are: the same in every process, wherever tensors live."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_PIECE = 2**24  # elements of a tensor that are brought to the CPU at once
_NUMBERS = bool | int | float | complex
_WRITTEN = (
    datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction,
    pathlib.PurePath, range, slice, torch.device, torch.dtype, torch.Size, uuid.UUID,
)  # fmt: skip


def digest(kind: str, *parts: bytes | str) -> bytes:
    """SHA-256 of some parts, each with its length, so that no two lists of parts are alike."""
    found = hashlib.sha256()
    for part in (kind, *parts):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.digest()


def digest_of(value: Any, where: str, above: tuple[int, ...] = ()) -> bytes:
    """The digest of a value made of tensors, arrays, numbers, text and containers of them.

    Mappings and sets have no order, sequences have. Objects with attributes
    count as their class and these.

    Args:
        value: The value.
        where: What the caller calls it, for messages.
        above: Identities of the containers that it is in.

    Raises:
        TypeError: If a part of it is nothing of that kind.
        ValueError: If it contains itself.
    """
    plain = _plain(value)
    if plain is not None:
        return plain
    if id(value) in above:
        raise ValueError(
            f"{where} must not contain itself; got {type(value).__name__} that does. "
            "Give the model's inputs alone."
        )
    return _compound(value, where, (*above, id(value)))


def is_plain(value: Any, depth: int = 9) -> bool:
    """Whether a value is numbers and text, or built-in containers of them, not endlessly deep."""
    if depth == 0:
        return False
    if type(value) is dict:
        return all(is_plain(each, depth - 1) for pair in value.items() for each in pair)
    if type(value) in (list, tuple, set, frozenset):
        return all(is_plain(each, depth - 1) for each in value)
    single = (str, bytes, enum.Enum, np.generic, *_WRITTEN, _NUMBERS)
    return value is None or isinstance(value, single)


def _plain(value: Any) -> bytes | None:
    """The digest of a single value; None where it is none."""
    match value:
        case Tensor():
            return digest_of_tensor(value)
        case np.ndarray() | np.generic() if not value.dtype.hasobject:
            return _digest_of_array(np.asarray(value))
        case enum.Enum():
            return digest("enum", type(value).__qualname__, value.name)
        case None | bool() | int() | float() | complex():
            return digest(_number_kind(value), repr(value))
        case str():
            return digest("str", value)
        case bytes() | bytearray():
            return digest("bytes", bytes(value))
        case _ if isinstance(value, _WRITTEN):
            return digest(type(value).__name__, str(value))
    return None


def _number_kind(value: Any) -> str:
    kinds = (bool, int, float, complex)
    return next((kind.__name__ for kind in kinds if isinstance(value, kind)), "None")


def _compound(value: Any, where: str, above: tuple[int, ...]) -> bytes:
    """The digest of a container, or of an object with attributes."""

    def inside(each: Any, place: str) -> bytes:
        return digest_of(each, where + place, above)

    match value:
        case Mapping():
            pairs = [inside(key, "'s key") + inside(value[key], f"[{key!r}]") for key in value]
            return digest("mapping", *sorted(pairs))
        case np.ndarray() | np.generic():  # of Python objects
            return digest("array of objects", inside(value.tolist(), ""))
        case Sequence():
            kind = "tuple" if isinstance(value, tuple) else "list"
            return digest(kind, *(inside(each, f"[{k}]") for k, each in enumerate(value)))
        case Set():
            return digest("set", *sorted(inside(each, "'s member") for each in value))
    attributes = _attributes(value)
    if attributes is not None:
        return digest("object", type(value).__qualname__, inside(attributes, ""))
    if hasattr(value, "__array_interface__"):  # a picture
        return digest("object", type(value).__qualname__, inside(np.asarray(value), ""))
    raise TypeError(
        f"{where} must be made of tensors, arrays, numbers, text and containers of these, to be "
        f"known again; got {type(value).__module__}.{type(value).__qualname__}. "
        "Turn it into one of these by prepare=."
    )


def _attributes(value: Any) -> dict[str, Any] | None:
    """What a plain object consists of; None for what does something."""
    if isinstance(value, nn.Module | type) or callable(value) or isinstance(value, Iterator):
        return None
    if hasattr(value, "__array_interface__"):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(value, "__dict__", None)
    return dict(attributes) if attributes else None


def _digest_of_array(array: NDArray[Any]) -> bytes:
    return digest("array", array.dtype.str, repr(array.shape), array.tobytes())


def digest_of_tensor(tensor: Tensor) -> bytes:
    """The digest of a tensor's type, shape and bits; the device does not count.

    A tensor without data, on the meta device or of a lazy module, counts as its shape.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if nn.parameter.is_lazy(tensor):
        return digest("lazy tensor", kind)
    inner = _made_of(tensor)
    if inner is not None:  # whose sizes say what is to be said of its own
        return digest("tensor of tensors", kind, *map(digest_of_tensor, inner))
    tensor = tensor.detach()
    shape = repr(tuple(tensor.shape))
    if tensor.is_quantized:
        return digest("quantised tensor", kind, shape, *_quantised(tensor))
    if tensor.device.type == "meta":
        return digest("tensor without data", kind, shape)
    return digest("tensor", kind, shape, _digest_of_bits(tensor))


def _made_of(tensor: Tensor) -> list[Tensor] | None:
    """The tensors that one consists of which is not just an array of numbers."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [getattr(tensor, name) for name in names]
    if tensor.is_nested:
        return list(tensor.unbind())
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return [torch.tensor(tensor.shape), tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        places = [tensor.crow_indices(), tensor.col_indices()]
        return [torch.tensor(tensor.shape), *places, tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        places = [tensor.ccol_indices(), tensor.row_indices()]
        return [torch.tensor(tensor.shape), *places, tensor.values()]
    return [tensor.to_dense()] if tensor.is_mkldnn else None


def _quantised(tensor: Tensor) -> Iterator[bytes | str]:
    """Whole numbers, and how they become real ones."""
    yield digest_of_tensor(tensor.int_repr())
    yield str(tensor.qscheme())
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        yield repr((tensor.q_scale(), tensor.q_zero_point()))
    else:
        yield digest_of_tensor(tensor.q_per_channel_scales())
        yield digest_of_tensor(tensor.q_per_channel_zero_points())
        yield repr(tensor.q_per_channel_axis())


def _digest_of_bits(tensor: Tensor) -> bytes:
    found = hashlib.sha256()
    flat = tensor.resolve_conj().resolve_neg().reshape(-1)
    for piece in flat.split(_PIECE):  # type: ignore[no-untyped-call]
        found.update(piece.cpu().contiguous().view(torch.uint8).numpy())
    return found.digest()
