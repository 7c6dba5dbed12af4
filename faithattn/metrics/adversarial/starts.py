"""Where a search begins: optima of a model made linear, on lines between positions."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.adversary.pairs import best_vertices
from faithattn.measures.adversary.slabs import free_slab, slab_of
from faithattn.measures.adversary.vertices import NONE
from faithattn.measures.draws import shuffle_rows, sort_keys
from faithattn.metrics.adversarial.attack import Attack

_MOST_POSITIONS = 256  # whose outputs are looked at one by one
_BISECTIONS = 40
_ORDERS = 7


def tangent(attack: Attack) -> tuple[Tensor, Tensor]:
    """The margin's value ``(B,)`` at the original and its gradient ``(B, R, L)``."""
    with torch.enable_grad():
        point = attack.original[None].detach().requires_grad_()
        value = margins(attack, point)[0]
        slope = None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
    return value.detach(), torch.zeros_like(point[0]) if slope is None else slope[0].detach()


def margins(attack: Attack, rows: Tensor) -> Tensor:
    """One number ``(K, B)`` that decides much of the output under rows ``(K, B, R, L)``.

    The log-odds of the predicted class; of labels and regression the mean logit.
    """
    reading = attack.reading
    logits = reading.replay_override(reading.rows.override(rows))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if reading.output != "softmax":
        return logits.mean(-1)
    predicted = reading.predicted.expand(logits.shape[:2])[..., None]
    own = logits.gather(-1, predicted)[..., 0]
    others = logits.scatter(-1, predicted, -torch.inf).logsumexp(-1)
    return own - others.clamp_min(torch.finfo(logits.dtype).min)


def straight_pairs(attack: Attack) -> Tensor:
    """Best vertices ``(B, n, 1, L)`` of models that are linear, in two ways.

    By the gradient at the original, and through what the model really says
    of all weight on one position.
    """
    value, slope = tangent(attack)
    known = slope[:, 0]
    alone = _one_by_one(attack, known)
    found = [_vertices(attack, value, known), _vertices(attack, value, alone)]
    return torch.cat(found, 1)[:, :, None]


def straight_corners(attack: Attack) -> Tensor:
    """Rows ``(B, K, R, L)``, each on one position, for the tangent model: a price of the margin.

    Of several rows, each is free. A price turns the one constraint into a term
    of every row's choice; bisection finds the price at which the choices meet
    the constraint, and a mixture of the choices around it meets it exactly.
    """
    value, slope = tangent(attack)
    low, high = slab_of(value, attack.epsilon, _kind(attack))
    alone = attack.alone().masked_fill(~attack.limits.free, NONE)
    found = []
    for _ in range(attack.count):
        rows, places = _priced(attack, alone, slope, low - value, high - value)
        found.append(rows)
        alone = alone.scatter(-1, places[..., None], NONE)
        # Rows that have used all of their positions begin again.
        spent = (alone == NONE).all(-1, keepdim=True)
        alone = torch.where(spent, attack.alone().masked_fill(~attack.limits.free, NONE), alone)
    return torch.stack(found, 1)


def rearranged(attack: Attack) -> Tensor:
    """The same weights in other places, ``(B, n, R, L)``: as much entropy and support as before.

    The most attended position gets the least weight and so on; and random orders.
    """
    free, original = attack.limits.free, attack.original
    rising = original.masked_fill(~free, torch.inf).argsort(-1)
    falling = original.masked_fill(~free, NONE).argsort(-1, descending=True)
    # Fixed weights come last in both orders, in any order: they are put back.
    turned = torch.zeros_like(original).scatter_(-1, rising, original.gather(-1, falling))
    turned = torch.where(free, turned, original)[:, None]
    keys = sort_keys(attack.seed, attack.ids, 0, _ORDERS, attack.reading.rows.mask)
    return torch.cat([turned, shuffle_rows(original, free, keys)], 1)


def _priced(
    attack: Attack, alone: Tensor, slope: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows ``(B, R, L)`` at the right price, and the positions ``(B, R)`` they are on."""
    original, counted = attack.original, attack.reading.rows.counted
    base = (slope * original).sum(-1, keepdim=True)
    moved = (slope - base) * counted[..., None]  # what all weight on a position adds to the margin
    share = 1 / counted.sum(-1).clamp_min(1)[:, None, None]

    def choose(price: Tensor) -> tuple[Tensor, Tensor]:
        places = (alone * share - price[:, None, None] * moved).argmax(-1)
        return places, moved.gather(-1, places[..., None])[..., 0].sum(-1)

    _, total = choose(torch.zeros_like(low))
    above, below = total > high, total < low
    sign = torch.where(above, 1.0, -1.0).to(low)
    aim = torch.where(above, high, low)
    least, most = torch.zeros_like(low), torch.ones_like(low)
    for _ in range(_BISECTIONS // 2):  # until the price is high enough
        _, reached = choose(sign * most)
        most = torch.where((reached - aim) * sign > 0, most * 4, most)
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        _, reached = choose(sign * middle)
        far = (reached - aim) * sign > 0
        least, most = torch.where(far, middle, least), torch.where(far, most, middle)
    (outer, far), (inner, near) = choose(sign * least), choose(sign * most)
    mixed = ((aim - near) / torch.where(far == near, 1, far - near)).clamp(0, 1)
    mixed = torch.where(above | below, mixed, 1)[:, None, None]
    rows = torch.zeros_like(original).scatter_(-1, outer[..., None], 1) * mixed
    rows.scatter_add_(-1, inner[..., None], (1 - mixed).expand(*inner.shape, 1))
    return _kept(attack, rows), outer


def _vertices(attack: Attack, value: Tensor, scores: Tensor) -> Tensor:
    """Rows ``(B, K, L)`` for a margin that is linear in the row, with these scores."""
    weights, free = attack.original[:, 0].double(), attack.limits.free[:, 0]
    scores = scores.double()
    low, high = slab_of(value.double(), attack.epsilon, _kind(attack))
    rest = value.double() - (weights * scores).sum(-1)
    slab = free_slab(weights, scores, low - rest, high - rest, free)
    best = best_vertices(slab, attack.count).filled()
    moves = (weights * free).sum(-1)[:, None, None] > 0
    rows = torch.where(free[:, None] & moves, best.rows(slab), weights[:, None])
    return rows.to(attack.original.dtype)


def _one_by_one(attack: Attack, known: Tensor) -> Tensor:
    """The margin ``(B, L)`` with all weight on one position; ``known`` where not looked at."""
    free, original = attack.limits.free[:, 0], attack.original[:, 0]
    places = _spread(known, free)
    found = []
    for first, last in attack.pieces(places.shape[1], 64):
        some = places[:, first:last]
        rows = torch.zeros(*some.shape, free.shape[1], dtype=original.dtype, device=free.device)
        rows.scatter_(-1, some[..., None], 1)
        found.append(margins(attack, _kept(attack, rows[:, :, None]).transpose(0, 1)).T)
    base = found[0].new_zeros(free.shape)
    # Positions not looked at: the tangent, as far as it is from those that were.
    return (base + known).scatter(1, places, torch.cat(found, 1))


def _spread(scores: Tensor, free: Tensor) -> Tensor:
    """Positions ``(B, n)`` of each row, evenly spread over the order of their scores."""
    order = scores.masked_fill(~free, torch.inf).argsort(-1)
    if order.shape[1] <= _MOST_POSITIONS:
        return order
    steps = torch.linspace(0, 1, _MOST_POSITIONS, dtype=torch.float64, device=order.device)
    # Counted in the positions that may change: padding leaves the choice as it is.
    places = steps * (free.sum(-1, keepdim=True) - 1).clamp_min(0)
    return order.gather(1, places.long())


def _kept(attack: Attack, rows: Tensor) -> Tensor:
    """Puts rows of total 1 into the weight that may change; ``(B, R, L)`` or ``(B, n, R, L)``."""
    original, free = attack.original, attack.limits.free
    if rows.ndim == 4:
        original, free = original[:, None], free[:, None]
    mass = (original * free).sum(-1, keepdim=True)
    return torch.where(free & (mass > 0), rows * mass, original)


def _kind(attack: Attack) -> str:
    """The margin under a softmax is that of one class against the others: a sigmoid's."""
    return "identity" if attack.reading.output == "identity" else "sigmoid"
