"""Adversaries where no closed form holds: optima of linear models, brought back to the real one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from faithattn.measures.adversary.outcomes import SEARCHED
from faithattn.measures.divergence import jensen_shannon
from faithattn.metrics.adversarial.assembly import affine_ceiling
from faithattn.metrics.adversarial.attack import Attack, Found, Judged, best_of
from faithattn.metrics.adversarial.climb import climbed
from faithattn.metrics.adversarial.exact import exact_reason
from faithattn.metrics.adversarial.lines import along, restored
from faithattn.metrics.adversarial.starts import rearranged, straight_corners, straight_pairs


class _Effort(NamedTuple):
    """How much is spent, by what an alternative costs and how hard good ones are to find.

    Attributes:
        steps: Of the published search for one of ours.
        starts: Random ones for each adversary.
        rounds: Ascents, each from the best of the last.
    """

    steps: int
    starts: int
    rounds: int


_FEWEST = 5  # adversaries that are looked for, however few are asked for
_LOOKS = 3  # at a line, each four times as close
_HURRIED = 100  # with fewer steps than these, looking closely would take longer than the climb
_KNOWN = _Effort(20, 1, 1)  # a closed form gave the starts: there is little to add
_AFFINE = _Effort(5, 4, 2)  # an alternative is a product of matrices
_ONE_ROW = _Effort(7, 2, 1)
_SEVERAL_ROWS = _Effort(10, 2, 1)  # often a forward pass for each alternative, and room in plenty


def search(attack: Attack, n_steps: int) -> Found:
    """The best of what several ways find.

    Starts are optima of the model made linear. Each is brought within epsilon
    along the line from the original; pairs of positions also along the line
    between the two. The best, and random rows, are then moved uphill.
    """
    asked, attack = attack, attack.within(attack.epsilon, max(attack.count, _FEWEST))
    single = attack.original.shape[1] == 1
    starts = straight_pairs(attack) if single else straight_corners(attack)
    if not attack.limits.shape_free:
        starts = torch.cat([starts, rearranged(attack)], 1)
    looks = _LOOKS if n_steps >= _HURRIED else 1
    # More than are asked for are kept, so that some of them differ.
    kept = 2 * attack.count
    judged = best_of(restored(attack, starts, looks), kept)
    if single:
        judged = best_of(judged.beside(_between(attack, starts, looks)), kept)
    effort = _effort(attack)
    draws, steps = effort.starts * attack.count, max(1, n_steps // effort.steps)
    for number in range(effort.rounds):
        judged = climbed(attack, judged, 0 if number else draws, kept, steps, looks)
    judged = _apart(asked, judged)
    nothing = torch.zeros(len(attack.ids), dtype=torch.long, device=judged.tvd.device)
    return Found(judged, affine_ceiling(attack), nothing + SEARCHED, nothing, "search")


def _effort(attack: Attack) -> _Effort:
    if attack.affine is not None:
        return _AFFINE if exact_reason(attack) else _KNOWN
    return _ONE_ROW if attack.original.shape[1] == 1 else _SEVERAL_ROWS


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


def _between(attack: Attack, rows: Tensor, looks: int) -> Judged:
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
    return along(attack, start, end, looks)
