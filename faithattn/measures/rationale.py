"""How far scores single out given positions: counts, spans, and what shuffled scores give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress, groupby
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from faithattn._checks import require_count, require_flags
from faithattn.measures.kendall.row_ranks import centred_ranks, group_sizes
from faithattn.measures.retrieval import average_precision
from faithattn.measures.tops import first_by_rank

__all__ = ["rationale_mask"]

Span: TypeAlias = tuple[int, int]  # first position and the one after the last
Spans: TypeAlias = list[list[Span]]
_MATCH = 0.5  # of intersection over union: the published threshold


class RationaleAgreement(NamedTuple):
    """Values of each row, ``(B,)``, and those of shuffled scores, exact means over all orders."""

    average_precision: Tensor
    auroc: Tensor
    precision: Tensor
    recall: Tensor
    f1: Tensor
    share: Tensor  # of the positive scores
    average_precision_chance: Tensor
    recall_chance: Tensor
    f1_chance: Tensor
    density: Tensor  # share of the positions: chance of precision and share


def rationale_mask(
    rationale: Sequence[Sequence[Any]], shape: tuple[int, int] | torch.Size
) -> Tensor:
    """Marks spans or positions, as people annotate them, in the shape of a batch.

    Args:
        rationale: For each instance a list, empty where nothing is marked: of
            spans ``(start, end)``, ``end`` not included, or of single
            positions. Both count from 0 and may overlap.
        shape: ``(B, L)``, or ``(B, G)`` where they count groups such as words.

    Returns:
        True at what is marked, shape ``shape``, bool.

    Raises:
        TypeError: If what is marked is neither a whole number nor a pair.
        ValueError: If there is another number of instances than B, or a
            position lies outside the length, or a span is empty.

    Examples:
        >>> rationale_mask([[(0, 2)], [3, 1], []], (3, 4)).int()
        tensor([[1, 1, 0, 0],
                [0, 1, 0, 1],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    size, length = shape
    mask = torch.zeros(size, length, dtype=torch.bool)
    for row, spans in enumerate(spans_of(rationale, size, length)):
        for first, last in spans:
            mask[row, first:last] = True
    return mask


def spans_of(rationale: object, size: int, length: int) -> Spans:
    """Checked spans of each of ``size`` instances; neighbouring single positions are one span."""
    if not isinstance(rationale, Sequence) or isinstance(rationale, str):
        raise TypeError(
            "rationale must be a boolean tensor or a list of spans for each instance; "
            f"got {type(rationale).__name__}. Pass lists of (start, end)."
        )
    if len(rationale) != size:
        raise ValueError(
            f"rationale must have a list for each instance, {size} in all; got {len(rationale)}. "
            "Give an instance without one an empty list."
        )
    return [_spans_of_row(_listed(marks), row, length) for row, marks in enumerate(rationale)]


def checked_rationale(rationale: object, like: Tensor) -> tuple[Tensor, Spans | None]:
    """A rationale as flags of the shape of ``like``, and its spans where it is given by them."""
    if isinstance(rationale, Tensor):
        return require_flags("rationale", rationale, "explanation", like, "marked"), None
    size, length = like.shape
    spans = spans_of(rationale, size, length)
    return rationale_mask(spans, like.shape).to(like.device), spans


def runs(flags: Tensor, mask: Tensor) -> Spans:
    """Spans of neighbouring True in each row, in positions of the mask alone."""
    found: Spans = []
    for row, counted in zip(flags.tolist(), mask.tolist(), strict=True):
        ends, at = [], 0
        for flag, members in groupby(compress(row, counted)):
            start, at = at, at + len(list(members))
            if flag:
                ends.append((start, at))
        found.append(ends)
    return found


def renumbered(spans: Spans, mask: Tensor) -> Spans:
    """Spans in positions of the mask alone, without those that have none."""
    before = torch.nn.functional.pad(mask.long().cumsum(1), (1, 0)).tolist()
    moved = [
        [(places[first], places[last]) for first, last in row]
        for row, places in zip(spans, before, strict=True)
    ]
    return [[(first, last) for first, last in row if first < last] for row in moved]


def agreement(
    ranks: Tensor, scores: Tensor, relevant: Tensor, mask: Tensor, k: int | None
) -> RationaleAgreement:
    """Compares scores with what is relevant among the positions of the mask.

    Args:
        ranks: Ranks of the scores ``(B, L)``, 0 for the largest.
        scores: Scores ``(B, L)``, for the share alone.
        relevant: Bool ``(B, L)``, False outside the mask.
        mask: Positions that take part.
        k: How many positions are chosen; None for as many as are relevant.

    Returns:
        nan where nothing is relevant, there are fewer than two positions or a
        score is nan; the share also where no score is positive.
    """
    wide = scores.dtype
    count, wanted = mask.sum(1).to(wide), relevant.sum(1).to(wide)
    cut = wanted if k is None else count.clamp(max=k)
    chosen = first_by_rank(ranks, mask, cut[:, None])
    hits = (chosen & relevant).sum(1).to(wide)
    density = wanted / count
    positive = scores.clamp_min(0).masked_fill(~mask, 0)
    values = RationaleAgreement(
        average_precision=average_precision(-ranks.to(wide), relevant, mask=mask),
        auroc=_auroc(ranks, relevant, mask, wide),
        precision=hits / cut,
        recall=hits / wanted,
        f1=2 * hits / (cut + wanted),
        share=(positive * relevant).sum(1) / positive.sum(1),
        average_precision_chance=_expected_precision(ranks, wanted, count, mask),
        recall_chance=cut / count,
        f1_chance=2 * cut * density / (cut + wanted),
        density=density,
    )
    undefined = (wanted == 0) | (count < 2) | (scores.isnan() & mask).any(1)
    return RationaleAgreement(*(each.masked_fill(undefined, math.nan) for each in values))


def span_f1(chosen: Spans, wanted: Spans) -> list[float]:
    """F1 of spans: one is found if it shares half its union with one of the others.

    Precision counts chosen spans and recall wanted ones; the published recall
    counts chosen ones, too, which differs only where a span matches two by
    exactly half. nan where nothing is wanted.
    """
    return [_span_f1(one, other) for one, other in zip(chosen, wanted, strict=True)]


def _auroc(ranks: Tensor, relevant: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Probability that a relevant position scores above another; ties count half."""
    wanted = relevant.sum(1)
    others = mask.sum(1) - wanted
    above = -(centred_ranks(ranks, mask) * relevant).sum(1)  # rank 0 is the largest score
    return 0.5 + above.to(dtype) / (2 * wanted * others)


def _expected_precision(ranks: Tensor, wanted: Tensor, count: Tensor, mask: Tensor) -> Tensor:
    """Mean average precision over all places of the relevant positions, ties as they are.

    Of a position that is relevant, each other one is so with q = (R - 1) /
    (n - 1); with c positions scored at least as high, the precision at its
    place is 1 / c + (1 - 1 / c) q on average.
    """
    at_least = group_sizes(ranks, mask).cumsum(1).gather(1, ranks).to(wanted.dtype)
    inverse = (1 / at_least).masked_fill(~mask, 0).sum(1) / count
    other = (wanted - 1) / (count - 1)
    return other + (1 - other) * inverse


def _listed(marks: object) -> Sequence[object]:
    if isinstance(marks, Sequence) and not isinstance(marks, str):
        return marks
    raise TypeError(
        "rationale must be a list of spans or positions for each instance; "
        f"got {type(marks).__name__} for one. Put it into a list."
    )


def _spans_of_row(marks: Sequence[object], row: int, length: int) -> list[Span]:
    """Spans as they are given, then those that single positions make."""
    found = [(_span(mark, row, length), isinstance(mark, Sequence)) for mark in marks]
    spans = [span for span, given in found if given]
    single = {span[0] for span, given in found if not given}
    starts = sorted(at for at in single if at - 1 not in single)
    ends = sorted(at + 1 for at in single if at + 1 not in single)
    return spans + list(zip(starts, ends, strict=True))


def _span(mark: object, row: int, length: int) -> Span:
    if isinstance(mark, Sequence) and not isinstance(mark, str) and len(mark) == 2:
        first, last = (require_count("rationale", end, least=0) for end in mark)
    elif isinstance(mark, Sequence):
        raise TypeError(
            "rationale must hold spans (start, end) or positions; "
            f"got {mark!r} in instance {row}. Give each span two ends."
        )
    else:
        first = require_count("rationale", mark, least=0)
        last = first + 1
    if not first < last <= length:
        raise ValueError(
            f"rationale must hold spans within 0..{length}, each of one position or more; "
            f"got ({first}, {last}) in instance {row}. The end is not included."
        )
    return first, last


def _span_f1(chosen: Sequence[Span], wanted: Sequence[Span]) -> float:
    if not wanted:
        return math.nan
    if not chosen:
        return 0.0
    precision = _found(chosen, wanted) / len(chosen)
    recall = _found(wanted, chosen) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def _found(spans: Sequence[Span], others: Sequence[Span]) -> int:
    return sum(any(_overlap(span, other) >= _MATCH for other in others) for span in spans)


def _overlap(one: Span, other: Span) -> float:
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)
