"""Adversaries where no closed form holds: optima of linear models, brought back to the real one."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.adversary.outcomes import SEARCHED
from faithattn.metrics.adversarial.assembly import affine_ceiling
from faithattn.metrics.adversarial.attack import Attack, Found, Judged, best_of
from faithattn.metrics.adversarial.climb import climbed
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
    count = attack.count
    judged = best_of(attack.judge(starts).beside(restored(attack, starts, 3)), count)
    if single:
        judged = best_of(judged.beside(_between(attack, starts)), count)
    cheap = attack.affine is not None
    steps = max(1, n_steps // (_CHEAP_STEPS if cheap else _STEPS))
    draws = (_CHEAP_STARTS if cheap else 1) * count
    for further in (draws, 0) if cheap else (draws,):
        judged = climbed(attack, judged, further, steps)
    nothing = torch.zeros(len(attack.ids), dtype=torch.long, device=judged.tvd.device)
    return Found(judged, affine_ceiling(attack), nothing + SEARCHED, nothing, "search")


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
