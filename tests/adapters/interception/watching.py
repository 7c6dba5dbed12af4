"""A watcher for tests of the tap by itself, and models small enough to compute by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.interception.guards import eager
from faithattn.adapters.interception.tap import Place, Tap
from faithattn.adapters.parts import parts_of


class Notes:
    """Notes all weights with their keys last; replaces them by a function if given."""

    def __init__(self, change: Callable[[Tensor], Tensor] | None = None) -> None:
        self.change = change
        self.places: list[Place] = []
        self.found: list[Tensor] = []
        self.supports: list[Callable[[], Tensor] | None] = []
        self.dims: list[int] = []

    def wants(self, place: Place) -> bool:
        return True

    def weights(
        self,
        place: Place,
        value: Tensor,
        dim: int,
        support: Callable[[], Tensor] | None,
        heads: int | None = None,
    ) -> Tensor:
        self.places.append(place)
        self.dims.append(dim)
        self.supports.append(support)
        last = value.movedim(dim, -1)
        used = last if self.change is None else self.change(last)
        self.found.append(used)
        return used.movedim(-1, dim)

    def embedded(self, place: Place, value: Tensor, *rest: Any) -> Tensor:
        return value

    def result(self, value: Tensor) -> Tensor:
        return value

    def read(self, function: Any, args: tuple[Any, ...]) -> None:
        pass

    def support(self) -> Tensor:
        """The only support, keys last."""
        (rule,) = self.supports
        assert rule is not None
        return rule().movedim(self.dims[0], -1)


class Calling(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def watched(
    function: Callable[[], Any], change: Callable[[Tensor], Tensor] | None = None
) -> tuple[Any, Notes]:
    """What a function returns under a tap, and what the tap saw."""
    notes = Notes(change)
    module = function if isinstance(function, nn.Module) else Calling(function)
    with eager(), Tap(parts_of(module), notes):
        returned = module()
    return returned, notes


def halved(weights: Tensor) -> Tensor:
    """Another distribution: half of each row's weight moved to the next key."""
    return (weights + weights.roll(1, -1)) / 2


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
