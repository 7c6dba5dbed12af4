"""Runs the nodes of a replay once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.replay.memory import Slot
from faithattn.adapters.replay.tape import Node


class Steps:
    """Nodes in order, each with the values that nothing needs after it.

    Attributes:
        largest: Bytes of the largest result at recording.
        peak: Most bytes of results that live at the same time.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[Slot],
        output: Slot,
        constants: dict[Slot, Tensor],
        sizes: Sequence[int],
    ) -> None:
        self._inputs = tuple(inputs)
        self._output = output
        self._template: list[Any] = [None] * len(sizes)
        for slot, value in constants.items():
            self._template[slot] = value
        dead = _last_uses(nodes, {output, *constants})
        self._steps = [(node, _is_flat(node), free) for node, free in zip(nodes, dead, strict=True)]
        self.largest = max((sizes[s] for n in nodes for s in n.outputs if s is not None), default=0)
        self.peak = self._most_at_once(sizes)

    def __call__(self, *alternatives: Tensor) -> Tensor:
        """The output for one alternative of each input."""
        values = self._template.copy()
        for slot, alternative in zip(self._inputs, alternatives, strict=True):
            values[slot] = alternative
        for node, flat, dead in self._steps:
            if flat:
                args = [values[a] if type(a) is Slot else a for a in node.args]
                kwargs = node.kwargs
            else:
                args, kwargs = _filled(node.args, values), _filled(node.kwargs, values)
            if node.silent:
                with torch.no_grad():
                    result = node.function(*args, **kwargs)
            else:
                result = node.function(*args, **kwargs)
            if node.single:
                values[node.outputs[0]] = result  # type: ignore[index]
            else:
                for place, value in zip(node.outputs, result, strict=True):
                    if place is not None:
                        values[place] = value
            for slot in dead:
                values[slot] = None
        output: Tensor = values[self._output]
        return output

    def _most_at_once(self, sizes: Sequence[int]) -> int:
        live = most = sum(sizes[slot] for slot in self._inputs)
        for node, _, dead in self._steps:
            live += sum(sizes[slot] for slot in node.outputs if slot is not None)
            most = max(most, live)
            live -= sum(sizes[slot] for slot in dead)
        return most


def _last_uses(nodes: Sequence[Node], kept: set[Slot]) -> list[tuple[Slot, ...]]:
    """For each node the slots that it is the last to use."""
    seen, dead = set(kept), []
    for node in reversed(nodes):
        last = set(node.reads) - seen
        dead.append(tuple(last))
        seen |= last
    return dead[::-1]


def _is_flat(node: Node) -> bool:
    """True if slots are found only at the top level of the arguments."""
    return len(node.reads) == sum(type(value) is Slot for value in node.args)


def _filled(values: Any, found: list[Any]) -> Any:
    """Arguments with values in place of slots."""
    if type(values) is Slot:
        return found[values]
    if isinstance(values, list | tuple):
        return [_filled(value, found) for value in values]
    if isinstance(values, dict):
        return {name: _filled(value, found) for name, value in values.items()}
    return values
