"""What can be left out of a replay, done in place, or done as one product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.replay import folding
from faithattn.adapters.replay.geometry import overwrite, write
from faithattn.adapters.replay.memory import Slot
from faithattn.adapters.replay.tape import Node

_aten = torch.ops.aten


def simplify(nodes: Sequence[Node], output: Slot, shapes: Sequence[torch.Size]) -> list[Node]:
    """The nodes that lead to the output, with weighted sums as products and writes in place."""
    kept = _needed(nodes, output)
    kept = _needed(_join_sums(kept, output, shapes), output)
    return _write_in_place(kept, output)


def _needed(nodes: Sequence[Node], output: Slot) -> list[Node]:
    """Drops nodes, and results, that nothing uses; nodes have no side effects."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        outputs = tuple(s if s in needed else None for s in node.outputs)
        if any(slot is not None for slot in outputs):
            needed.update(node.reads)
            kept.append(node if outputs == node.outputs else replace(node, outputs=outputs))
    return kept[::-1]


def _uses(nodes: Sequence[Node], output: Slot) -> Counter[Slot]:
    return Counter([output, *(slot for node in nodes for slot in node.reads)])


def _write_in_place(nodes: list[Node], output: Slot) -> list[Node]:
    """A flat copy that only the next write reads may be written itself: decoder loops."""
    uses = _uses(nodes, output)
    own = {node.outputs[0] for node in nodes if node.function is write}
    return [
        replace(node, function=overwrite)
        if node.function is write and node.args[0] in own and uses[node.args[0]] == 1
        else node
        for node in nodes
    ]


def _join_sums(nodes: Sequence[Node], output: Slot, shapes: Sequence[torch.Size]) -> list[Node]:
    """Replaces ``(weights * values).sum(dims)`` by a matrix product that never holds the terms."""
    uses = _uses(nodes, output)
    source = {slot: node for node in nodes for slot in node.outputs if slot is not None}
    joined = []
    for node in nodes:
        if node.function is _aten.sum.dim_IntList and not node.kwargs and len(node.args) < 4:
            product = source.get(node.args[0])
            if (
                product is not None
                and product.function is _aten.mul.Tensor
                and uses[node.args[0]] == 1
                and product.silent == node.silent
            ):
                node = _join(node, product, source, shapes) or node
        joined.append(node)
    return joined


def _join(
    total: Node, product: Node, source: dict[Slot, Node], shapes: Sequence[torch.Size]
) -> Node | None:
    """The product in place of a sum, if one factor is spread over a dimension that stays."""
    if not all(type(factor) is Slot for factor in product.args):
        return None
    left, right = (_unexpanded(factor, source) for factor in product.args)
    dims, keep = total.args[1], len(total.args) == 3 and total.args[2]
    shape = shapes[product.outputs[0] or 0]
    plan = _plan(shapes[left], shapes[right], shape, dims, bool(keep))
    if plan is None:
        return None
    return replace(total, function=plan, args=(left, right), kwargs={})


def _unexpanded(slot: Slot, source: dict[Slot, Node]) -> Slot:
    node = source.get(slot)
    if node is not None and node.function is _aten.expand.default and not node.silent:
        origin: Slot = node.args[0]
        return origin
    return slot


@dataclass(frozen=True)
class _WeightedSum:
    """``(left * right).sum(summed)`` as a batch of matrix products.

    Attributes:
        shapes: Of both factors, brought to the same number of dimensions.
        both: Dimensions both factors have and the sum keeps.
        summed: Dimensions both have and the sum removes.
        lefts: Dimensions only the left factor has.
        rights: Dimensions only the right factor has.
        keep: Summed dimensions stay, with size one.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    both: list[int]
    summed: list[int]
    lefts: list[int]
    rights: list[int]
    keep: bool

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = left.reshape(self.shapes[0]), right.reshape(self.shapes[1])
        if left.dtype != right.dtype or not left.is_floating_point():
            return (left * right).sum(self.summed, keepdim=self.keep)
        kept = [left.shape[d] for d in self.both]
        rows = [left.shape[d] for d in self.lefts]
        columns = [right.shape[d] for d in self.rights]
        left = left.permute(*self.both, *self.lefts, *self.summed, *self.rights)
        right = right.permute(*self.both, *self.summed, *self.rights, *self.lefts)
        batch, inner = _numel(kept), _numel([self.shapes[0][d] for d in self.summed])
        product = folding.bmm(
            left.reshape(batch, _numel(rows), inner), right.reshape(batch, inner, _numel(columns))
        )
        product = product.reshape(*kept, *rows, *columns, *[1] * len(self.summed))
        order = [*self.both, *self.lefts, *self.rights, *self.summed]
        product = product.permute([order.index(d) for d in range(len(order))])
        if self.keep:
            return product
        return product.reshape([n for d, n in enumerate(product.shape) if d not in self.summed])


def _plan(
    left: torch.Size, right: torch.Size, shape: torch.Size, dims: Any, keep: bool
) -> _WeightedSum | None:
    rank = len(shape)
    if rank == 0 or dims is None or not dims:
        return None
    one, two = ((1,) * (rank - len(s)) + tuple(s) for s in (left, right))
    summed = sorted(d % rank for d in dims)
    kept = [d for d in range(rank) if d not in summed]
    lefts = [d for d in kept if one[d] > two[d] == 1]
    rights = [d for d in kept if two[d] > one[d] == 1]
    both = [d for d in kept if d not in (*lefts, *rights)]
    if any(one[d] != two[d] for d in (*summed, *both)) or not (lefts or rights):
        return None
    return _WeightedSum((one, two), both, summed, lefts, rights, keep)


def _numel(sizes: Sequence[int]) -> int:
    return torch.Size(sizes).numel()
