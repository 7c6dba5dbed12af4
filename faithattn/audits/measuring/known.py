"""What is known of the instances of a batch besides what the model makes of them."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faithattn.adapters.reading import Reading

UNKNOWN = -1


def labels_of(labels: Tensor | Sequence[int] | None, size: int) -> NDArray[np.int64]:
    """Gold classes ``(B,)``; -1 where they are unknown."""
    return _numbers("labels", labels, size, names=False)


def clusters_of(clusters: Tensor | Sequence[Any] | None, size: int) -> NDArray[np.int64]:
    """A number for each cluster ``(B,)``; -1 where they are unknown.

    Whole numbers from 0 are themselves, as far as int64 goes. A name or another number gets one
    that depends on it alone, so that batches need not know of each other.
    """
    return _numbers("clusters", clusters, size, names=True)


def _numbers(name: str, values: Any, size: int, *, names: bool) -> NDArray[np.int64]:
    if values is None:
        return np.full(size, UNKNOWN, dtype=np.int64)
    listed = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if isinstance(listed, str) or not isinstance(listed, Sequence) or len(listed) != size:
        listing = isinstance(listed, Sequence) and not isinstance(listed, str)
        got = len(listed) if listing else type(values).__name__
        raise ValueError(
            f"{name} must hold one value for each of the {size} instances; got {got}. "
            "Take them from the same rows as the inputs."
        )
    return np.array([_number(name, value, names) for value in listed], dtype=np.int64)


def _number(name: str, value: object, names: bool) -> int:
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        number = operator.index(value)
        if names and not 0 <= number < 2**63:
            return _hashed(str(number))
        if -(2**63) <= number < 2**63:
            return number
    if names and isinstance(value, str):
        return _hashed(value)
    raise TypeError(
        f"{name} must be whole numbers{' or names' if names else ''}; got {value!r}. "
        f"{'Pass str(...) of it.' if names else 'Number the classes from 0.'}"
    )


def _hashed(text: str) -> int:
    """A number from 0 that depends on a text alone, 62 bits: two of a million never agree."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def texts_of(
    tokens: Sequence[Sequence[str]] | None, reading: Reading
) -> tuple[tuple[str, ...], ...] | None:
    """The text of each position of the mask; None where it is unknown.

    An instance's list may be as long as its row of the mask, or hold the
    positions of the mask alone.
    """
    if tokens is None:
        return None
    mask = reading.rows.mask.cpu().numpy()
    if isinstance(tokens, str) or len(tokens) != len(mask):
        raise ValueError(
            f"tokens must hold a list for each of the {len(mask)} instances; got {len(tokens)}. "
            "Take them from the same rows as the inputs."
        )
    return tuple(_texts(number, row, mask[number]) for number, row in enumerate(tokens))


def _texts(number: int, row: Sequence[str], mask: NDArray[np.bool_]) -> tuple[str, ...]:
    places, count = np.flatnonzero(mask), len(row)
    if count == len(mask):
        return tuple(str(row[place]) for place in places.tolist())
    if count == len(places) and not isinstance(row, str):
        return tuple(map(str, row))
    raise ValueError(
        f"tokens must hold {len(mask)} texts an instance, one a position of the mask, or the "
        f"{len(places)} of its real positions; got {count} for instance {number} of the batch. "
        "Pad them as the inputs are."
    )
