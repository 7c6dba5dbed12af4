"""What the metrics of one batch share: runs, importances, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, chosen_feature, read
from faithattn.adapters.several import Views, read_group, seen_as
from faithattn.adapters.state import differentiating
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.errors import AdapterError
from faithattn.importance.gradient import gradient_of
from faithattn.importance.leave_one_out import (
    Removal,
    both_leave_one_out_of,
    leave_one_out_of,
)
from faithattn.importance.removal.operators import REPLAYED

Found = TypeVar("Found")


class Removed(NamedTuple):
    """Leave-one-out importance of one removal.

    Attributes:
        unsigned: How far the output moves, ``(B, L)``.
        signed: How far the probability falls, likewise; None where nobody asked.
    """

    unsigned: Tensor
    signed: Tensor | None


class Needs(NamedTuple):
    """What a batch will be asked for.

    Attributes:
        replay: How many outputs under other attention, about.
        changes: Whether changed inputs will be run.
        signed: Whether leave-one-out is needed with its sign, too.
        plain: Whether anything is needed but gradients.
        detach: Whether gradients hold the attention fixed.
    """

    replay: int
    changes: bool
    signed: bool
    plain: bool
    detach: bool


@dataclass
class Memory:
    """What is computed at the first call only, for all views of a batch."""

    kept: dict[Hashable, Any] = field(default_factory=dict)
    masks: list[Tensor] = field(default_factory=list)

    def once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """What was computed; what failed fails again, and takes no more time."""
        if key not in self.kept:
            try:
                self.kept[key] = compute()
            except Exception as error:
                self.kept[key] = error
                raise
        found = self.kept[key]
        if isinstance(found, Exception):
            raise found
        result: Found = found
        return result

    def number_of(self, mask: Tensor) -> int:
        """A number that equal masks share."""
        for number, other in enumerate(self.masks):
            if other.shape == mask.shape and torch.equal(other, mask):
                return number
        self.masks.append(mask)
        return len(self.masks) - 1


class Shared:
    """Runs of one batch for a group of views, and what is computed from them.

    Attributes:
        readings: By view.
    """

    def __init__(
        self,
        adapter: object,
        inputs: Any,
        views: Views,
        target: int | Tensor | None,
        needs: Needs,
        memory: Memory,
    ) -> None:
        self._adapter, self._inputs, self._views = adapter, inputs, views
        self._target, self._needs, self._memory = target, needs, memory
        self._plain = needs.plain or (needs.detach and isinstance(adapter, TorchAdapter))
        self.own = Memory()  # runs, which go with the group
        self._graphs: list[tuple[bool, Reading]] = []
        if not self._plain:
            self.readings = {view: self.differentiable(view, needs.detach) for view in views}
            return
        with torch.inference_mode(False), torch.no_grad():
            self.readings = read_group(
                adapter, inputs, views, replay=needs.replay, changes=needs.changes
            )

    def differentiable(self, view: str, detach: bool) -> Reading:
        """A reading that carries gradients; a graph serves the views of the same sites."""
        asked = self._views[view]

        def run() -> Reading:
            for other, graph in self._graphs:
                same = seen_as(self._adapter, graph, asked) if other == detach else None
                if same is not None and _differentiated(same) == _differentiated(graph):
                    return same
            with differentiating():
                reading = read(self._adapter, self._inputs, asked, replay=int(detach))
            self._graphs.append((detach, reading))
            return reading

        return self.own.once((view, detach), run)

    def gradient(self, view: str, detach: bool) -> tuple[Reading, Tensor]:
        """Gradient importance ``(B, L)``, and the reading whose attention it goes with.

        Views of the same sites and feature have one. Where attention is held
        fixed, that of the run without gradients is: one run with gradients is
        enough then, also for a model that would have to run twice to know it.
        """
        reading = self.readings[view]
        holds = detach and self._plain and not _replays_cheaply(reading)
        if not holds:
            reading = self.differentiable(view, detach)

        def compute() -> Tensor:
            with differentiating():
                if holds:
                    return gradient_of(reading.held(), False, self._target)
                return gradient_of(reading, detach, self._target)

        mask = self._memory.number_of(reading.rows.mask)
        key = ("gradient", _differentiated(reading), mask, detach)
        return reading, self._memory.once(key, compute)

    def removed(self, view: str, removal: Removal) -> Removed:
        """Leave-one-out importance; what removes input positions has one for many views."""
        reading = self.readings[view]

        def compute() -> Removed:
            with torch.inference_mode(False), torch.no_grad():
                if not self._needs.signed or not _has_class(reading, self._target):
                    return Removed(leave_one_out_of(reading, removal, self._target), None)
                return Removed(*both_leave_one_out_of(reading, removal, self._target))

        name = removal if isinstance(removal, str) else id(removal)
        mask = self._memory.number_of(reading.rows.mask)
        scope = _scope(reading, view, removal)
        return self._memory.once(("removed", name, scope, mask), compute)


def _differentiated(reading: Reading) -> Hashable:
    """What a gradient depends on: the sites that are held fixed, and the feature."""
    return frozenset(reading.rows.attention), reading.rows.view.feature


def _replays_cheaply(reading: Reading) -> bool:
    """Whether one alternative takes no whole forward: a recording is not worth it for one."""
    return reading.can_replay and not isinstance(reading.model, TorchAdapter)


def _has_class(reading: Reading, target: int | Tensor | None) -> bool:
    """Whether there is a class whose probability can fall."""
    alone = reading.output == "identity" and reading.outputs.shape[-1] == 1
    return target is not None or alone or bool((reading.predicted >= 0).all())


def _scope(reading: Reading, view: str, removal: Removal) -> Hashable:
    """What a removal depends on besides the mask: the feature, or the view itself."""
    if isinstance(removal, str) and removal in REPLAYED:
        return "view", view
    try:
        return "feature", chosen_feature(reading)[0]
    except AdapterError:
        return ("view", view) if isinstance(reading.model, TorchAdapter) else ("feature", None)
