"""Outputs without sets of positions, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.reading import Reading
from faithattn.importance.removal.naming import InputRemoval
from faithattn.importance.removal.operators import REPLAYED, Operator, prepared
from faithattn.importance.removal.sets import Marked, Sets
from faithattn.interventions.attention import without_positions
from faithattn.measures.draws import spans
from faithattn.measures.outputs import class_probability, probabilities

Reduce = Callable[[Tensor, Tensor], Tensor]  # logits (..., n, C) of rows (n,) to (..., n, ...)

# Rows per forward pass over changed inputs: past this a recurrent encoder
# gains nothing, and its working set leaves the cache (measured: 64 to 512).
_MOST_ROWS = 128
_FEW = 2  # sizes of sets that run apart at no more than it takes to find out otherwise


def removed_outputs(
    reading: Reading, removal: str | InputRemoval, rows: Tensor, gone: Tensor
) -> Tensor:
    """Outputs ``(n, C)`` of rows of a reading without sets of their positions.

    Args:
        reading: The reading of the whole inputs.
        removal: A checked removal, as :func:`leave_one_out_importance` takes.
        rows: The row ``(n,)`` of each set, in any order and repeated at will.
        gone: ``(n, L)`` bool, True at what goes; what is outside the mask stays.

    Returns:
        Outputs, the mean over draws where there are several. An empty set
        gives the outputs of the reading; nan where nothing is left to run, or
        nothing can be put in the place of a position.
    """
    sets = Marked(rows, gone & reading.rows.mask[rows])
    width = reading.outputs.shape[-1:]

    def reduce(logits: Tensor, _: Tensor) -> Tensor:
        return probabilities(logits, reading.output)

    return over_sets(reading, removal, sets, reduce, width)


def removed_probabilities(
    reading: Reading, removal: str | InputRemoval, rows: Tensor, gone: Tensor, classes: Tensor
) -> Tensor:
    """Probability ``(n,)`` of one class ``(B,)`` of each row; see :func:`removed_outputs`."""

    def reduce(logits: Tensor, at: Tensor) -> Tensor:
        return class_probability(probabilities(logits, reading.output), classes[at], reading.output)

    return over_sets(reading, removal, Marked(rows, gone & reading.rows.mask[rows]), reduce)


@torch.no_grad()
def over_sets(
    reading: Reading,
    removal: str | InputRemoval,
    sets: Sets,
    reduce: Reduce,
    width: tuple[int, ...] = (),
) -> Tensor:
    """What ``reduce`` makes ``(n, *width)`` of the logits without each set."""
    rows, sizes = sets.rows, sets.sizes
    values = reading.outputs.new_full((len(rows), *width), torch.nan)
    empty = (sizes == 0).nonzero()[:, 0]
    if len(empty):
        every = torch.arange(len(reading.outputs), device=rows.device)
        whole = reduce(reading.run.logits, every).to(values.dtype)
        values[empty] = whole[rows[empty]]
    wanted = (sizes > 0).nonzero()[:, 0]
    if isinstance(removal, str) and removal in REPLAYED:
        _replayed(reading, REPLAYED[removal], sets, wanted, reduce, values)
    else:
        _run_again(reading, prepared(reading, removal), sets, wanted, reduce, values)
    return values


def _run_again(
    reading: Reading,
    operator: Operator,
    sets: Sets,
    wanted: Tensor,
    reduce: Reduce,
    values: Tensor,
) -> None:
    """Fills in values by forward passes over changed inputs, the shortest rows first."""
    lengths, sizes = reading.rows.mask.sum(-1)[sets.rows], sets.sizes
    kept = ~operator.undefined[sets.rows]
    if not operator.all_may_go:
        kept &= sizes < lengths
    wanted = wanted[kept[wanted]]
    lengths = lengths - sizes if operator.shortens else lengths
    wanted = wanted[lengths[wanted].argsort(stable=True)]
    step = rows_at_once(reading)
    several = operator.alike and len(sizes[wanted].bincount().nonzero()) > _FEW
    alike = operator.alike and not (several and operator.mixes is not None and operator.mixes())
    for part in _parts(wanted, sizes, step, alike):
        rows = sets.rows[part]
        total, draws = torch.zeros((), dtype=values.dtype, device=values.device), 0
        for logits in operator.logits(rows, sets.gone(part)):
            total, draws = total + reduce(logits, rows), draws + 1
        values[part] = (total / draws).to(values.dtype)


def _parts(wanted: Tensor, sizes: Tensor, step: int, alike: bool) -> Iterator[Tensor]:
    """Cuts numbers of sets into parts, of one size each where sizes must be alike."""
    groups = [wanted]
    if alike:
        wanted = wanted[sizes[wanted].argsort(stable=True)]
        counts = torch.bincount(sizes[wanted]).tolist()
        groups = [part for part in torch.split(wanted, counts) if len(part)]
    for group in groups:
        for first, last in spans(len(group), step):
            yield group[first:last]


def rows_at_once(reading: Reading, *, times: int = 1) -> int:
    """Rows of one pass, few enough for the budget, by what the reading's own run holds of each."""
    run, size = reading.run, len(reading.outputs)
    features = sum(each.numel() for each in run.features.values()) or reading.rows.mask.numel() * 64
    weights = sum(each.numel() for each in run.attention.values())
    elements = times * (8 * features + 2 * weights + 4 * run.logits.numel()) // size
    return min(_MOST_ROWS, chunk_size(elements, bytes_per_element=run.logits.element_size()))


def _replayed(
    reading: Reading,
    renormalize: bool,
    sets: Sets,
    wanted: Tensor,
    reduce: Reduce,
    values: Tensor,
) -> None:
    """Fills in values by replays of the attention without the weights of each set."""
    rows = reading.rows
    every = torch.arange(len(rows.mask), device=rows.mask.device)
    table = _slots(sets.rows[wanted], len(every), wanted)
    logits = reading.run.logits
    step = reading.alternatives_at_once(bytes_per_element=4 * logits.element_size())
    for first, last in spans(len(table), step):
        part = table[first:last]
        there = part >= 0
        gone = sets.gone(part.clamp_min(0).flatten()).view(*part.shape, -1)
        without = without_positions(rows.conditional, gone, renormalize=renormalize)
        undefined = without.isnan().any(-1) & rows.counted
        again = reading.replay_override(rows.override(without.nan_to_num(0)))
        found = reduce(again, every).to(values.dtype)
        lost = undefined.any(-1)
        found[lost] = torch.nan
        values[part[there]] = found[there]


def _slots(rows: Tensor, size: int, numbers: Tensor) -> Tensor:
    """The numbers of the sets of each row one under the other ``(K, B)``, -1 below the last."""
    order = rows.argsort(stable=True)
    counts = rows.bincount(minlength=size)
    start = counts.cumsum(0) - counts
    sorted_rows = rows[order]
    slot = torch.arange(len(rows), device=rows.device) - start[sorted_rows]
    deepest = int(counts.max()) if len(rows) else 0
    table = torch.full((deepest, size), -1, device=rows.device)
    table[slot, sorted_rows] = numbers[order]
    return table
