"""The first step of an order of removal at which the decision flips.

The model decides: a closed form only tells which steps need no question. A
flip need not last, so that steps cannot be bisected.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading
from faithattn.interventions.attention import without_positions
from faithattn.measures.draws import spans
from faithattn.measures.outputs import predicted_class
from faithattn.metrics.erasure.orders import Ranked, against_others

_FIRST_STEPS = 4  # asked at once, then twice as many each time: most flips come early
_TOLERANCE = 1e-4  # of the scale: what an affine form was held to


class Foreseen(NamedTuple):
    """What a closed form says of each step k = 1..L of each order, ``(B, N, L)`` bool.

    Attributes:
        stays: The decision surely stays.
        flips: It surely flips.
    """

    stays: Tensor
    flips: Tensor


def first_flips(
    reading: Reading,
    ranks: Tensor,
    possible: Tensor,
    foreseen: Foreseen | None,
    *,
    renormalize: bool,
) -> Tensor:
    """First step at which the decision flips, ``(B, N)`` int64; 0 where none does.

    Args:
        reading: Of the model.
        ranks: Place of each position in each order, ``(B, N, L)``.
        possible: Steps that can be taken, ``(B, N, L)``.
        foreseen: What needs not be asked; None asks for every step.
        renormalize: Whether the weights left are divided by their sum.
    """
    if foreseen is None:
        return _asked(reading, ranks, possible, renormalize)
    numbers = torch.arange(1, ranks.shape[-1] + 1, device=ranks.device)
    never = ranks.shape[-1] + 1
    flips = foreseen.flips & possible
    first = torch.where(flips, numbers, never).amin(-1)
    last = torch.where(possible, numbers, 0).amax(-1)
    # The flip itself, the step before it, or the last of all are asked for confirmation.
    around = (numbers == first[..., None]) | (numbers == torch.minimum(first - 1, last)[..., None])
    unsure = ~(foreseen.stays | flips) & (numbers < first[..., None])
    found = _asked(reading, ranks, possible & (around | unsure), renormalize)
    at = (found - 1).clamp_min(0)[..., None]
    wrong = torch.where(
        found > 0,
        (foreseen.stays & possible).gather(-1, at)[..., 0],
        first < never,
    )
    if not wrong.any():
        return found
    again = _asked(reading, ranks, possible & wrong[..., None], renormalize)
    return torch.where(wrong, again, found)


def _asked(reading: Reading, ranks: Tensor, asked: Tensor, renormalize: bool) -> Tensor:
    """First of the steps asked for at which the model's decision flips, (B, N)."""
    length = ranks.shape[-1]
    numbers = torch.arange(1, length + 1, device=ranks.device)
    steps = torch.where(asked, numbers, length + 1).sort(-1).values
    steps.masked_fill_(steps > length, 0)  # takes nothing away
    totals = asked.sum(-1)
    found = torch.zeros_like(totals)
    start, width = 0, _FIRST_STEPS
    while True:
        live = ((found == 0) & (totals > start)).any(0).nonzero()[:, 0]
        if not len(live):
            return found
        if reading.replayed == "whole forwards":
            width = 1  # no step more than is needed
        part = steps[:, live, start : min(start + width, int(totals.max()))]
        flipped = _flipped(reading, ranks[:, live], part, renormalize)
        flip = torch.where(flipped, part, length + 1).amin(-1)
        known = found[:, live]
        found[:, live] = torch.where((known == 0) & (flip <= length), flip, known)
        start, width = start + width, 2 * width


def _flipped(reading: Reading, ranks: Tensor, steps: Tensor, renormalize: bool) -> Tensor:
    """Whether the decision flips after each of the steps (B, n, w) of orders (B, n, L)."""
    n, width = steps.shape[1:]
    turned = []
    at_once = reading.alternatives_at_once(bytes_per_element=48)
    for first, last in spans(n * width, at_once):
        chosen = torch.arange(first, last, device=steps.device)
        gone = ranks[:, chosen // width] < steps.flatten(1)[:, chosen, None]
        rows = without_positions(
            reading.rows.conditional, gone.transpose(0, 1), renormalize=renormalize
        )
        outputs = reading.replay(rows.nan_to_num_(0))  # a row with nothing left attends to nothing
        turned.append(predicted_class(outputs, reading.output) != reading.predicted)
    return (torch.cat(turned).T.view(len(steps), n, width)) & (steps > 0)


def possible_steps(order: Ranked, *, renormalize: bool) -> Tensor:
    """Steps k = 1..L that can be taken: positions are left, and weight to renormalise."""
    numbers = torch.arange(1, order.places.shape[-1] + 1, device=order.places.device)
    lengths = order.lengths[:, None, None]
    defined = ~order.undefined[..., None]
    if not renormalize:
        return (numbers <= lengths) & defined
    left = _suffix_sums(order.share[:, None].expand(order.places.shape).gather(-1, order.places))
    return (numbers < lengths) & (left > 0) & defined


def _suffix_sums(values: Tensor, dim: int = -1) -> Tensor:
    """Sum of all that follows each place; from the end, so that little left stays exact."""
    sums = values.flip(dim).cumsum(dim).flip(dim)
    return torch.cat(
        [sums.narrow(dim, 1, sums.shape[dim] - 1), torch.zeros_like(sums.narrow(dim, 0, 1))], dim
    )


def foresee(
    reading: Reading, affine: Affine | None, places: Tensor, *, renormalize: bool
) -> Foreseen | None:
    """What an affine form says of all steps of orders (B, N, L); None where there is none.

    Of one row with scores s and constant c, step k leaves the logits
    sum(a s) / sum(a) + c over the weights kept, or sum(a s) + c without
    renormalising, whatever the number of rows.
    """
    rows = reading.rows
    several = renormalize and rows.conditional.shape[1] > 1
    if affine is None or several or bool((reading.predicted < 0).any()):
        return None
    scores = affine.scores.double().view(*rows.conditional.shape, -1)
    terms = torch.einsum("brl,brlc->blc", rows.conditional.double(), scores)
    terms = torch.cat([terms, rows.conditional.double().sum(1)[..., None]], -1)
    scale = 1 + affine.scores.abs().amax(1).double() + affine.constant.abs().double()
    stays, flips = [], []
    step = chunk_size(terms.numel(), bytes_per_element=64)
    for first, last in spans(places.shape[1], step):
        every = terms[:, None].expand(-1, last - first, -1, -1)
        index = places[:, first:last, :, None].expand_as(every)
        sums = _suffix_sums(every.gather(2, index), 2)
        logits, mass = sums[..., :-1], sums[..., -1:]
        if renormalize:
            logits = logits / torch.where(mass > 0, mass, 1)
        low, high = _margins(logits + affine.constant.double()[:, None, None], scale, reading)
        stays.append((low > 0) & affine.holds[:, None, None])
        flips.append((high < 0) & affine.holds[:, None, None])
    return Foreseen(torch.cat(stays, 1), torch.cat(flips, 1))


def _margins(logits: Tensor, scale: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Least margin (B, N, L) of the predicted class, less and plus the tolerance."""
    own, others = against_others(logits.movedim(-1, 1), reading)
    of_own, of_others = against_others(scale, reading)
    slack = _TOLERANCE * (of_own.abs() + of_others)[..., None, None]
    return (own - others - slack).amin(1), (own - others + slack).amin(1)


def holds_without_weight(reading: Reading, affine: Affine) -> Tensor:
    """Whether the form holds off the simplex, too: without weight, and with half of it; (B,)."""
    rows = reading.rows
    second = rows.mask.cumsum(-1)[:, None] % 2 == 0
    points = torch.stack([torch.zeros_like(rows.conditional), rows.conditional * second])
    actual = reading.replay_override(rows.override(points))
    expected = affine.logits(points.transpose(0, 1)).transpose(0, 1)
    scale = 1 + affine.scores.abs().amax(1) + affine.constant.abs()
    near = (actual.to(expected.dtype) - expected).abs() <= _TOLERANCE * scale
    return near.all(-1).all(0)
