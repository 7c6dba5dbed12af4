"""The optimum in closed form: one affine row, one number that the output is a function of."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.affine import unknown_reason
from faithattn.measures.adversary.gains import NONE
from faithattn.measures.adversary.outcomes import EXACT
from faithattn.measures.adversary.pairs import best_vertices
from faithattn.measures.adversary.slabs import free_slab, margin, slab_of
from faithattn.measures.adversary.vertices import Slab, Vertices, share_at
from faithattn.metrics.adversarial.attack import Attack, Found, Judged, joined
from faithattn.metrics.adversarial.lines import restored

# Units in the last place of a probability by which a narrower slab is aimed at: on its very end
# rounding decides whether the model agrees.
_MARGINS = (0.0, 0.125, 0.25, 0.5, 1.0, 4.0)
_BYTES = 64  # held for each weight of a row that is confirmed


def exact_reason(attack: Attack) -> str:
    """Why there is no closed form; empty where there is."""
    if attack.original.shape[1] != 1:
        return f"the view has {attack.original.shape[1]} rows, not one"
    if not attack.limits.shape_free:
        return "constraints limit more than the positions"
    if attack.affine is None:
        return unknown_reason(attack.reading)
    if margin(attack.affine.scores, attack.affine.constant, attack.reading.output) is None:
        count = attack.affine.scores.shape[-1]
        return f"the output is a function of {count} logits, not of one number"
    return ""


def exact_attack(attack: Attack) -> Found:
    """The global optimum of each instance, and others that share no position with it."""
    slab, ends = _slab(attack, attack.epsilon)
    vertices = best_vertices(slab, attack.count, single=attack.original.dtype != torch.float64)
    # The original is within any slab: where rounding leaves none a vertex, nothing is proven.
    upper = vertices.value[:, 0].clamp_min(0)
    upper = upper.masked_fill(vertices.value[:, 0] == NONE, torch.inf)
    filled = vertices.filled()
    pieces = attack.pieces(attack.count, _BYTES * len(_MARGINS))
    judged = joined([_confirmed(attack, slab, filled.part(a, b), ends) for a, b in pieces])
    nothing = torch.zeros(len(upper), dtype=torch.long, device=upper.device)
    return Found(judged, upper, nothing + EXACT, nothing, "exact")


def _slab(attack: Attack, epsilon: float) -> tuple[Slab, Tensor]:
    """What the weights that may change can be, and the ends for narrower epsilons ``(2, n, B)``."""
    affine, output = attack.affine, attack.reading.output
    found = None if affine is None else margin(affine.scores, affine.constant, output)
    if found is None:
        raise ValueError("attack must have a closed form; got none. Ask exact_reason first.")
    weights = attack.original[:, 0].double()
    scores, constant = found[0].double(), found[1].double()
    value = (weights * scores).sum(-1) + constant
    low, high = slab_of(value, epsilon, output)
    slab = free_slab(weights, scores, low - constant, high - constant, attack.limits.free[:, 0])
    unit = torch.finfo(attack.reading.run.logits.dtype).eps
    narrow = [max(epsilon - n * unit, epsilon / (2 + n)) if n else epsilon for n in _MARGINS]
    rest = value - (slab.weights * slab.scores).sum(-1)  # what the constant and fixed weights add
    several = torch.tensor(narrow, dtype=value.dtype, device=value.device)[:, None]
    return slab, torch.stack(slab_of(value, several, output)) - rest


def _confirmed(attack: Attack, slab: Slab, vertices: Vertices, ends: Tensor) -> Judged:
    """Every vertex as the model confirms it: on the slab's end, else as near as it takes."""
    free, original = attack.limits.free[:, None, 0], attack.original[:, None, 0]
    rows = vertices.rows(slab, share_at(slab, vertices, *ends)).to(original.dtype)
    moves = (slab.weights.sum(-1) > 0)[:, None] & (vertices.value > NONE)
    rows = torch.where(moves[..., None] & free, rows, original).permute(1, 2, 0, 3)
    outputs, tvd = attack.ask(rows.flatten(1, 2)[:, :, None])
    feasible = (tvd <= attack.epsilon).view(rows.shape[:3])
    # The first that is feasible; the vertex itself where none is.
    places = feasible.byte().argmax(-1, keepdim=True)
    chosen = rows.gather(2, places[..., None].expand(-1, -1, -1, rows.shape[-1]))
    numbers = places[..., 0] + len(_MARGINS) * torch.arange(rows.shape[1], device=places.device)
    judged = Judged(
        chosen,
        outputs.gather(1, numbers[..., None].expand(-1, -1, outputs.shape[-1])),
        tvd.gather(1, numbers),
        attack.divergence(chosen),
        feasible.any(-1),
    )
    if bool(judged.feasible.all()):
        return judged
    return judged.where(judged.feasible, restored(attack, chosen))
