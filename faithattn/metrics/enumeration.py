"""Where all shuffles of an instance are known: by enumeration, or their moments in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.affine import Affine, fit_affine
from faithattn.adapters.reading import Reading
from faithattn.measures.draws import shuffle_rows, spans
from faithattn.measures.orders import order_keys, order_moments, order_sums
from faithattn.measures.outputs import class_probability, output_distance, probabilities

_LONGEST = 7  # 5,040 orders; those of 8 positions cost more than the shuffles of a whole batch
DRAWN = 32  # as many shuffles show a bend: not all of them leave two positions in their order
_LEAST_SPREAD = 1e-6  # of the scores: less is float noise


class Orders(NamedTuple):
    """All K orders of some instances of a batch.

    Attributes:
        instances: Their places ``(N,)``.
        tvd: Distance of the output under each order, ``(N, K)``.
        confidence: Probability of the predicted class, likewise; None without one.
        original: That under the own order, ``(N,)``.
    """

    instances: Tensor
    tvd: Tensor
    confidence: Tensor | None
    original: Tensor | None


def cheap_affine(reading: Reading, drawn: tuple[Tensor, Tensor]) -> Affine | None:
    """The affine form of the logits, where asking takes no whole forward.

    ``drawn`` are some shuffled rows with their logits. They show a bend as
    well as other rows do, if they are many enough to differ. Several logits
    are several derivatives, and a recorded replay may be most of a deep model,
    whose derivative takes memory: there a bend is looked for before.
    """
    # In double precision, which Apple's graphics processors do not have.
    if reading.replayed not in ("adapter", "recorded") or reading.outputs.device.type == "mps":
        return None
    slight = reading.replayed == "adapter" and reading.outputs.shape[-1] == 1
    return fit_affine(reading, drawn if slight and len(drawn[0]) >= DRAWN else None)


def every_order(reading: Reading, affine: Affine | None, count: int) -> Iterator[Orders]:
    """The orders of all instances that have few, with at most ``count`` replays."""
    lengths = reading.rows.valid.any(1).sum(-1)
    lengths.masked_fill_(lengths == 1, 0)
    if affine is not None:
        scored = affine.holds & _moved_alike(reading) & (lengths <= _LONGEST)
        yield from _by_scores(reading, affine, lengths * scored)
        lengths = lengths * ~scored
    few = lengths * (lengths <= _enumerable(count))
    if few.any():
        yield from _by_replay(reading, few)


def _enumerable(count: int) -> int:
    """The most positions that have at most ``count`` orders."""
    length = 1
    while math.factorial(length + 1) <= count:
        length += 1
    return length


def effect(reading: Reading, affine: Affine | None) -> tuple[Tensor, Tensor]:
    """Distance of the own margin from its mean over all orders in spreads, and the spread, (B,)."""
    undefined = torch.full_like(reading.outputs[:, 0], torch.nan)
    signs = _margin(reading)
    if affine is None or signs is None:
        return undefined, undefined
    rows = reading.rows
    scores = (affine.scores * signs[:, None]).sum(-1).view_as(rows.conditional)
    offset, spread = order_moments(rows.conditional, scores, rows.valid)
    spread = torch.where(affine.holds & _moved_alike(reading), spread, torch.nan)
    felt = spread > _LEAST_SPREAD * scores.abs().amax((1, 2))
    unusual = torch.where(felt, offset / spread, torch.nan)
    return unusual.to(undefined.dtype), spread.to(undefined.dtype)


def _margin(reading: Reading) -> Tensor | None:
    """What logits (B, C) are multiplied with to give the margin; None where there is none."""
    count, predicted = reading.outputs.shape[-1], reading.predicted
    if count == 1 and reading.output != "softmax":
        return torch.where(predicted == 0, -1, 1)[:, None]
    if count == 1 or reading.output != "softmax":
        return None
    chosen = torch.zeros_like(reading.outputs).scatter_(-1, predicted[:, None], 1)
    others = reading.run.logits.detach().masked_fill(chosen > 0, -torch.inf)
    return chosen.scatter_(-1, others.argmax(-1, keepdim=True), -1)


def _moved_alike(reading: Reading) -> Tensor:
    """Whether an instance's rows use the same positions, or none, (B,) bool."""
    valid = reading.rows.valid
    if valid.shape[1] == 1:
        return torch.ones_like(valid[:, 0, 0])
    return ((valid == valid.any(1, keepdim=True)) | ~valid.any(-1, keepdim=True)).all(-1).all(-1)


def _by_scores(reading: Reading, affine: Affine, lengths: Tensor) -> Iterator[Orders]:
    """From the affine form, for these instances alone; lengths (B,), 0 for the others."""
    for length in sorted({*lengths.tolist()} - {0}):
        members = (lengths == length).nonzero()[:, 0]
        elements = (
            math.factorial(length) * affine.scores.shape[-1] + reading.rows.conditional[0].numel()
        )
        step = chunk_size(elements, bytes_per_element=48)
        for first, last in spans(len(members), step):
            chunk = members[first:last]
            own = reading.run.logits[chunk].detach().double()
            logits = own + _added(reading, affine, chunk, length)
            # The own order goes the same way: equal attention gives equal numbers.
            yield _orders(reading, chunk, probabilities(logits, reading.output), own)


def _added(reading: Reading, affine: Affine, chunk: Tensor, length: int) -> Tensor:
    """What all orders add to the logits of some instances, (K, N, C)."""
    rows = reading.rows
    valid = rows.valid[chunk]
    columns = valid.any(1).nonzero()[:, 1].view(len(chunk), 1, length)
    columns = columns.expand(-1, valid.shape[1], -1)
    attention = rows.conditional[chunk].gather(-1, columns)
    scores = affine.scores[chunk].view(*valid.shape, -1)
    places = columns[..., None].expand(*columns.shape, scores.shape[-1])
    return order_sums(attention, scores.gather(2, places))


def _by_replay(reading: Reading, lengths: Tensor) -> Iterator[Orders]:
    """By the model itself, the others' rows left as they are; lengths likewise."""
    rows = reading.rows
    moved = rows.valid.any(1) & (lengths > 0)[:, None]
    step = reading.alternatives_at_once(bytes_per_element=48)
    outputs = []
    for first, last in spans(math.factorial(int(lengths.max())), step):
        shuffled = shuffle_rows(rows.conditional, rows.valid, order_keys(moved, first, last))
        outputs.append(reading.replay(shuffled.transpose(0, 1)))
    every = torch.cat(outputs)
    for length in sorted({*lengths.tolist()} - {0}):
        chunk = (lengths == length).nonzero()[:, 0]
        part = every[: math.factorial(length), chunk]
        yield _orders(reading, chunk, part, reading.run.logits[chunk].detach())


def _orders(reading: Reading, chunk: Tensor, outputs: Tensor, own: Tensor) -> Orders:
    """Compares outputs (K, N, C) with those of the own logits (N, C)."""
    original = probabilities(own, reading.output)
    tvd = output_distance(outputs, original, reading.output).T
    predicted = reading.predicted[chunk]
    if not bool((reading.predicted >= 0).all()):
        return Orders(chunk, tvd, None, None)
    confidence = class_probability(outputs, predicted, reading.output).T
    return Orders(chunk, tvd, confidence, class_probability(original, predicted, reading.output))
