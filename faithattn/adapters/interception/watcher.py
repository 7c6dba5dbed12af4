"""What a tap shows its finds to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Place(NamedTuple):
    """A call that computes attention or an embedding: its name, its kind and its line.

    ``appended`` is the number of keys that the function itself puts behind those it is given.
    """

    name: str
    kind: str
    where: str
    call: int
    appended: int = 0


class Watcher(Protocol):
    """What a tap shows its finds to."""

    def wants(self, place: Place) -> bool:
        """Whether these weights are worth computing explicitly."""
        ...

    def weights(
        self,
        place: Place,
        value: Tensor,
        dim: int,
        support: Callable[[], Tensor] | None,
        heads: int | None = None,
    ) -> Tensor:
        """Takes weights with their keys on ``dim``; returns those to go on with."""
        ...

    def embedded(
        self, place: Place, value: Tensor, ids: Tensor, padding: int | None, entries: int
    ) -> Tensor:
        """Takes the output of an embedding; returns the one to go on with."""
        ...

    def result(self, value: Tensor) -> Tensor:
        """Takes the result of any other function."""
        ...

    def read(self, function: Any, args: tuple[Any, ...]) -> None:
        """Hears that a tensor's content is read by Python."""
        ...
