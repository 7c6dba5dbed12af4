"""Uphill in divergence along the edge of what is allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.adversary.published import START_SPREAD, OutputChange
from faithattn.metrics.adversarial.attack import Attack, Judged, best_of
from faithattn.metrics.adversarial.lines import restored
from faithattn.metrics.adversarial.published import output_change

# Found on trained question answerers and random readouts of several classes: long steps that grow
# short, their sum much the same however many, and a penalty that pushes back about as hard as
# divergence pulls. The published ones are a hundred times as short, the penalty as high.
_WAY = 25.0
_LONGEST = 1.0
_LAST_RATE = 0.01
_PENALTY = 10.0
_BETAS = (0.8, 0.9)
_STABILITY = 1e-8
_BYTES = 96  # held for each weight on the way
_LEAST = 1e-6  # of the mass: a weight of 0 has no way back


def climbed(
    attack: Attack, known: Judged, draws: int, kept: int, n_steps: int, looks: int
) -> Judged:
    """The best of what is known, of what ascents from the first K pass, and of how they end.

    Adam on the logits of a softmax over the positions that may change, with a
    penalty beyond a limit. The farthest feasible rows on the way count, and the
    farthest between the original and the last.

    Args:
        attack: The batch under attack.
        known: Where to begin, the best first.
        draws: How often to begin at random, besides.
        kept: How many to return.
        n_steps: Steps.
        looks: How often to look at a line from the original to an end.
    """
    change, found = output_change(attack), known
    count = min(attack.count, known.rows.shape[1])
    for first, last in attack.pieces(count + draws, _BYTES):
        scores = _as_scores(attack, known.rows[:, first : min(last, count)])
        if last > count:
            noise = attack.noise(draws, max(0, first - count), last - count)
            scores = torch.cat([scores, START_SPREAD * noise], 1)
        found = best_of(found.beside(_piece(attack, change, scores, n_steps, looks)), kept)
    return found


def _as_scores(attack: Attack, rows: Tensor) -> Tensor:
    """Logits of rows, with a little of the original and of all others mixed in."""
    free, original, mass = _parts(attack)
    evenly = mass / free.sum(-1, keepdim=True).clamp_min(1)
    inner = (rows * 0.98 + original * 0.015 + evenly * 0.005) / _positive(mass)
    return inner.clamp_min(_LEAST).log()


def _piece(
    attack: Attack, change: OutputChange, scores: Tensor, n_steps: int, looks: int
) -> Judged:
    """Some of the ascents: they do not influence each other."""
    scores, first, second = scores.clone(), torch.zeros_like(scores), torch.zeros_like(scores)
    best = attack.original[:, None].expand_as(scores).contiguous()
    reached = torch.zeros(scores.shape[:2], dtype=scores.dtype, device=scores.device)
    # Both parts are averaged over all rows, padding among them: its number must not matter.
    counted = attack.reading.rows.counted.sum(-1).clamp_min(1)
    scale = (scores.shape[2] / counted).to(scores.dtype)[:, None, None, None]
    longest = min(_LONGEST, _WAY / n_steps)
    for step in range(1, n_steps + 1):
        rows = _rows(attack, scores)
        distance, slope = change(rows)
        feasible = (distance <= attack.epsilon) & attack.limits.hold(rows)
        value = attack.divergence(rows).masked_fill(~feasible, -1)
        better = value > reached
        reached = torch.where(better, value, reached)
        best = torch.where(better[..., None, None], rows, best)
        beyond = (_PENALTY * (distance > attack.epsilon))[..., None, None]
        gradient = _through_softmax(attack, rows, slope * beyond - _divergence_slope(attack, rows))
        gradient *= scale
        first.lerp_(gradient, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        size = (second / (1 - _BETAS[1] ** step)).sqrt_().add_(_STABILITY)
        rate = longest * (1 - (step - 1) / n_steps) + _LAST_RATE
        scores.addcdiv_(first, size, value=-rate / (1 - _BETAS[0] ** step))
    if looks == 1:  # there is no time for the ends
        return attack.judge(best)
    return attack.judge(best).beside(restored(attack, _rows(attack, scores), looks))


def _parts(attack: Attack) -> tuple[Tensor, Tensor, Tensor]:
    """Which weights may change, the original, and the mass that may move, to broadcast over K."""
    free, original = attack.limits.free[:, None], attack.original[:, None]
    return free, original, (original * free).sum(-1, keepdim=True)


def _rows(attack: Attack, scores: Tensor) -> Tensor:
    """The mass that may move, by a softmax; the rest as it is."""
    free, original, mass = _parts(attack)
    shares = scores.masked_fill(~free, torch.finfo(scores.dtype).min / 4).softmax(-1)
    return torch.where(free, shares * mass, original)


def _divergence_slope(attack: Attack, rows: Tensor) -> Tensor:
    """Gradient of the mean divergence, up to a constant along each row."""
    tiny = torch.finfo(rows.dtype).tiny
    middle = (rows + attack.original[:, None]).clamp_min_(tiny).log_()
    return rows.clamp_min(tiny).log_().sub_(middle).mul_(0.5 / rows.shape[2])


def _through_softmax(attack: Attack, rows: Tensor, gradient: Tensor) -> Tensor:
    """Gradient by the logits, the limits on the rows added to it."""
    free, _, mass = _parts(attack)
    if not attack.limits.shape_free:
        gradient = gradient + attack.limits.slope(rows)
    gradient = gradient.masked_fill(~free, 0)
    return (gradient - (gradient * rows).sum(-1, keepdim=True) / _positive(mass)) * rows


def _positive(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, mass, 1)
