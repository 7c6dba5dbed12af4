"""Batches as they come from the caller, numbered and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import batch_size
from faithattn.audits.batch import Batch

Prepare = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Numbered:
    """A batch with its place in the data.

    Attributes:
        number: Number of the batch, from 0.
        first: Id of its first instance.
        size: How many instances it has.
        batch: The batch.
    """

    number: int
    first: int
    size: int
    batch: Batch

    @property
    def instances(self) -> Tensor:
        """Ids of its instances, ``(B,)``."""
        return torch.arange(self.first, self.first + self.size)


def numbered(batches: Iterable[Any], prepare: Prepare | None) -> Iterator[Numbered]:
    """Yields the batches with running numbers.

    Raises:
        TypeError: If batches cannot be iterated over.
        ValueError: If a batch does not say how many instances it has, or has none.
    """
    first = 0
    check_batches(batches)
    for number, given in enumerate(batches):
        made = given if prepare is None else prepare(given)
        batch = made if isinstance(made, Batch) else Batch(made)
        size = _size(batch, number)
        yield Numbered(number, first, size, batch)
        first += size


def moved(batch: Batch, device: torch.device | str | None) -> Batch:
    """The same batch with its inputs on another device."""
    return batch if device is None else replace(batch, inputs=_moved(batch.inputs, device))


def count_of(batches: object) -> int | None:
    """How many batches there are, if they say so."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:  # an iterable data set of PyTorch has a __len__ that raises it too
        return None


def check_batches(batches: object) -> None:
    """Raises unless they can be iterated over, and are not one batch."""
    single = isinstance(batches, Tensor | np.ndarray | str | bytes | Mapping)
    if single or not isinstance(batches, Iterable):
        got = type(batches).__name__
        remedy = "Pass a DataLoader, or a list of what the model takes"
        if callable(batches):
            remedy = "Call it, and pass what it returns"
        elif isinstance(batches, Tensor | np.ndarray | Batch | Mapping):
            remedy = "If it is one batch, put it into a list"
        raise TypeError(f"batches must be an iterable of batches; got {got}. {remedy}.")


def _size(batch: Batch, number: int) -> int:
    counts = {
        name: _count(name, getattr(batch, name), number)
        for name in ("labels", "tokens", "clusters")
        if getattr(batch, name) is not None
    }
    size = batch_size(batch.inputs)
    if size is None:
        size = next(iter(counts.values()), None)
    if size is None:
        raise ValueError(
            "batches must hold tensors, or say how many instances they have; got "
            f"{type(batch.inputs).__name__} in batch {number}. Give Batch(inputs, labels=...)."
        )
    if size == 0:
        raise ValueError(f"batches must hold instances; got none in batch {number}. Leave it out.")
    for name, count in counts.items():
        if count != size:
            raise ValueError(
                f"{name} must have one entry an instance; got {count} for {size} in batch "
                f"{number}. Give {size}."
            )
    return size


def _count(name: str, known: Any, number: int) -> int:
    """How many entries there are of what is known about instances."""
    try:
        return len(known)
    except TypeError as error:  # a number, or a tensor without dimensions
        raise TypeError(
            f"{name} must have one entry an instance; got {type(known).__name__} in batch "
            f"{number}. Pass a list."
        ) from error


def _moved(inputs: Any, device: torch.device | str) -> Any:
    if hasattr(inputs, "to"):  # tensors, and what a tokenizer gives
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {key: _moved(value, device) for key, value in inputs.items()}
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(_moved(value, device) for value in inputs))
    if isinstance(inputs, tuple | list):
        return type(inputs)(_moved(value, device) for value in inputs)
    return inputs
