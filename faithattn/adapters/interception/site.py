"""A place where a model computes attention."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """One place where something like attention was computed.

    Attributes:
        name: Path of the module whose forward was running ("attention" for
            the model itself), with ``#n`` for the n-th further call.
        kind: ``"softmax"``, ``"module"`` (a submodule's output) or
            ``"embedding"``.
        shape: Shape of the weights.
        where: File name and line of the call.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    where: str

    def __str__(self) -> str:
        return f"{self.name!r} {self.shape} ({self.kind}, {self.where})"
