"""Adversaries where no closed form holds: optima of linear models, brought back to the real one."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.adversary.outcomes import SEARCHED
from faithattn.measures.adversary.published import START_SPREAD
from faithattn.measures.divergence import jensen_shannon
from faithattn.metrics.adversarial.assembly import affine_ceiling
from faithattn.metrics.adversarial.attack import Attack, Found, Judged, best_of
from faithattn.metrics.adversarial.climb import as_scores, climbed
from faithattn.metrics.adversarial.exact import exact_reason
from faithattn.metrics.adversarial.lines import along, restored
from faithattn.metrics.adversarial.starts import rearranged, straight_corners, straight_pairs

_STEPS = 20  # of the published search for one of ours
_CHEAP_STEPS = 5  # where a step is a product of matrices
_CHEAP_STARTS = 4  # for each adversary


def search(attack: Attack, n_steps: int) -> Found:
    """The best of what several ways find.

    Starts are optima of the model made linear. Each is brought within epsilon
    along the line from the original; pairs of positions also along the line
    between the two. The best, and as many random rows, are then moved uphill.
    """
    single = attack.original.shape[1] == 1
    starts = straight_pairs(attack) if single else straight_corners(attack)
    if not attack.limits.shape_free:
        starts = torch.cat([starts, rearranged(attack)], 1)
    # More than are asked for are kept, so that some of them differ.
    kept = 2 * attack.count
    judged = best_of(attack.judge(starts).beside(restored(attack, starts, 3)), kept)
    if single:
        judged = best_of(judged.beside(_between(attack, starts)), kept)
    best = as_scores(attack, judged.rows[:, : attack.count])
    # Where a closed form gave the starts already, there is little to add.
    cheap = attack.affine is not None and bool(exact_reason(attack))
    noise = attack.noise((_CHEAP_STARTS if cheap else 1) * attack.count)
    steps = max(1, n_steps // (_CHEAP_STEPS if cheap else _STEPS))
    scores = torch.cat([best, START_SPREAD * noise], 1)
    judged = best_of(judged.beside(climbed(attack, scores, steps)), kept)
    if cheap:
        again = as_scores(attack, judged.rows[:, : attack.count])
        judged = best_of(judged.beside(climbed(attack, again, steps)), kept)
    judged = _apart(attack, judged)
    nothing = torch.zeros(len(attack.ids), dtype=torch.long, device=judged.tvd.device)
    return Found(judged, affine_ceiling(attack), nothing + SEARCHED, nothing, "search")


def _apart(attack: Attack, judged: Judged) -> Judged:
    """The best adversary, then each time the one that adds most to the published objective.

    It weighs the divergence from the original, and 1 / (K (K - 1)) that from each other.
    """
    value, count = judged.worth, attack.count
    picked: list[Tensor] = []
    for _ in range(min(count, value.shape[1])):
        picked.append(value.argmax(-1, keepdim=True))
        value = value.scatter(1, picked[-1], -torch.inf)
        if count > 1:
            one = judged.chosen(picked[-1]).rows
            parts = [
                attack.mean(jensen_shannon(judged.rows[:, a:b], one))
                for a, b in attack.pieces(value.shape[1], 64)
            ]
            value = value + torch.cat(parts, 1) / (count * (count - 1))
    return judged.chosen(torch.cat(picked, 1))


def _between(attack: Attack, rows: Tensor) -> Judged:
    """Best points of the lines between the two positions that a row is on."""
    free = attack.limits.free[:, None]
    own = rows.masked_fill(~free, 0)
    value, ends = own.topk(min(2, own.shape[-1]), -1)
    ends = torch.where(value > 0, ends, ends[..., :1])  # a row on one position is no line
    mass = own.sum(-1, keepdim=True)
    start, end = (
        torch.where(free, torch.zeros_like(rows).scatter_(-1, place, mass), rows)
        for place in (ends[..., :1], ends[..., -1:])
    )
    return along(attack, start, end, 3)
