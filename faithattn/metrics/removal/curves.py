"""Comprehensiveness, sufficiency, and areas under deletion and insertion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, explained_class, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.leave_one_out import Removal, changes, check_removal, expected_replays
from faithattn.importance.removal.outputs import Reduce, over_sets
from faithattn.importance.removal.sets import Ranked
from faithattn.measures.outputs import class_log_odds, class_probability, probabilities
from faithattn.metrics.removal.order import (
    check_fractions,
    counts_of,
    ranks_of,
    steps_of,
    undefined_rows,
)
from faithattn.results.removal import RemovalCurves

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)


def removal_curves(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    removal: Removal = "delete",
    fractions: tuple[float, ...] = FRACTIONS,
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    steps: int | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> RemovalCurves:
    """How the output falls without the positions that an explanation ranks first.

    Of the probability p of the explained class: comprehensiveness is
    p(x) - p(x without the top share of the positions), and larger is more
    faithful; sufficiency is p(x) - p(the top share alone), and smaller is more
    faithful; both also as their mean over the shares (AOPC). The log-odds fall
    is comprehensiveness in ln(p / (1 - p)). The area under deletion is that
    under p as the first positions go one by one, and smaller is more faithful;
    the area under insertion is that under p as they come one by one, and
    larger is more faithful. Areas are divided by the length of their axis.

    A share q of T positions is ``ceil(q T)`` of them, so at least one. Of
    equal scores the lower position goes first. Scores are signed: what is
    least goes last.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name that ``explain`` knows, or scores ``(B, L)`` of
            one's own, larger ones more important.
        removal: How positions are taken away, as in
            :func:`leave_one_out_importance`; they can disagree. A function of
            one position is applied to each, the last first.
        fractions: Shares of the positions, ascending, in (0, 1].
        target: Class to explain, an int or ``(B,)``; None is the prediction.
            Several labels or regression outputs need one.
        view: Which attention is explained; not needed for one row.
        steps: Number of equal steps of the two areas; None takes every
            position, which is about 2 T forward passes a text, 0 leaves the areas out.
        seed: Seed of an explanation that is drawn.
        instances: Ids ``(B,)`` of the rows for it; default ``arange(B)``.

    Returns:
        Values of each instance: differences of probabilities in -1..1 (output
        units for regression), areas in 0..1. nan where an explanation has a
        nan, where nothing can be said without a set, and areas with fewer than
        two points. Where nothing can be said without all positions, as of a
        text of none, the curves end one position before; of few steps, one step.

    Raises:
        AdapterError: If the model cannot remove positions this way.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or no class is predicted
            and none is named.

    References:
        DeYoung et al. (2020), "ERASER: A benchmark to evaluate rationalized
        NLP models"; the mean over the shares is that of its scorer. Petsiuk et
        al. (2018), "RISE", for the areas.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> curves = removal_curves(model, torch.tensor([[2, 5, 6, 7, 3]]))
        >>> curves.aopc_sufficiency.shape, curves.removal
        (torch.Size([1]), 'delete')
    """
    name, shares = check_removal(removal), check_fractions(fractions)
    steps = None if steps is None else require_count("steps", steps, least=0)
    with torch.no_grad():
        reading = read(
            model, inputs, view, replay=2 * expected_replays(name), changes=changes(name)
        )
    scores = scores_of(
        reading, explanation, target=target, seed=seed, instances=instances, removal=removal
    )
    classes = explained_class(reading, target)
    with torch.no_grad():
        found = curves_of(reading, scores, classes, removal, shares, steps)
    rows = reading.rows
    return RemovalCurves(
        **(reading.described() | found),
        length=rows.mask.sum(-1),
        fractions=shares,
        explanation=name_of_explanation(explanation),
        removal=name,
    )


def curves_of(
    reading: Reading,
    scores: Tensor,
    classes: Tensor,
    removal: Removal,
    fractions: tuple[float, ...],
    steps: int | None,
) -> dict[str, Tensor]:
    """What shares and areas say, by the names of the result; each set is run once."""
    mask = reading.rows.mask
    lengths = mask.sum(-1)
    counts = counts_of(fractions, lengths)
    points = steps_of(steps, lengths, mask.shape[1])
    needed = points.scatter(1, counts, True) & ~undefined_rows(scores, mask)[:, None]
    without, alone = _chains(reading, removal, ranks_of(scores, mask), needed, classes)
    every = torch.arange(len(lengths), device=lengths.device)
    whole = _watched(reading, classes)(reading.run.logits, every)
    fall = whole[:, None] - without.gather(1, counts[..., None].expand(*counts.shape, 2))
    rest = whole[:, None, 0] - alone[..., 0].gather(1, counts)
    return {
        "comprehensiveness": fall[..., 0],
        "sufficiency": rest,
        "aopc_comprehensiveness": fall[..., 0].mean(-1),
        "aopc_sufficiency": rest.mean(-1),
        "log_odds": fall[..., 1],
        "deletion_area": _area(without[..., 0], points, lengths),
        "insertion_area": _area(alone[..., 0], points, lengths),
        "original": whole[:, 0],
        "without": without[..., 0],
        "alone": alone[..., 0],
    }


def _chains(
    reading: Reading, removal: Removal, ranks: Tensor, needed: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """P and log-odds ``(B, L + 1, 2)`` without the k first positions, and of those alone."""
    mask = reading.rows.mask
    rows, cuts = needed.nonzero(as_tuple=True)
    first = torch.ones_like(rows, dtype=torch.bool)
    ahead = torch.cat([first, ~first])
    # Nothing left is the same of both: it is run once.
    lengths = mask.sum(-1)
    kept = torch.cat([first, cuts > 0])
    both = Ranked(rows.repeat(2)[kept], cuts.repeat(2)[kept], ahead[kept], ranks, mask)
    values = reading.outputs.new_full((2, *needed.shape, 2), torch.nan)
    side = (~both.ahead).long()
    values[side, both.rows, both.cuts] = over_sets(
        reading, removal, both, _watched(reading, classes), (2,)
    )
    every = torch.arange(len(lengths), device=lengths.device)
    whole_gone = values[0, every, lengths]
    values[1, :, 0] = torch.where(needed[:, :1], whole_gone, torch.nan)
    return values[0], values[1]


def _watched(reading: Reading, classes: Tensor) -> Reduce:
    """Maps logits to p and log-odds of the watched class, ``(..., n, 2)``."""

    def reduce(logits: Tensor, rows: Tensor) -> Tensor:
        at = classes[rows]
        share = class_probability(probabilities(logits, reading.output), at, reading.output)
        odds = class_log_odds(logits, at, reading.output)
        return torch.stack([share, odds.to(share.dtype)], -1)

    return reduce


def _area(values: Tensor, points: Tensor, lengths: Tensor) -> Tensor:
    """Area ``(B,)`` under values at the points, by trapezoids, divided by the axis.

    A value that says nothing at either end is left out; elsewhere it makes the area nan.
    """
    numbers = torch.arange(points.shape[1], device=points.device)
    ends = (numbers == 0) | (numbers == lengths[:, None])
    used = points & ~(ends & values.isnan())
    # The points first; behind them the last one again, which has no width.
    count = used.sum(-1, keepdim=True)
    order = (~used).byte().argsort(dim=-1, stable=True)
    order = order.gather(-1, numbers.minimum((count - 1).clamp_min(0)))
    y, x = values.gather(-1, order), order.to(values.dtype)
    area = torch.trapezoid(y, x) / (x[:, -1] - x[:, 0])
    return area.masked_fill(count[:, 0] < 2, torch.nan)
