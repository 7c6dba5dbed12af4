"""From what a method found to the result that a caller gets."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine
from faithattn.measures.adversary.outcomes import CLOSED, EXACT, UNCONFIRMED, UNDEFINED
from faithattn.measures.adversary.plausible import Plausible, row_entropy
from faithattn.measures.adversary.slabs import relaxed_slabs, slab_bound
from faithattn.measures.divergence import jensen_shannon, relative_entropy
from faithattn.metrics.adversarial.attack import Attack, Found, best_of
from faithattn.results.adversarial import AdversarialResult

CERTIFIED_WITHIN = 1e-4


def assembled(
    attack: Attack, found: Found, constraints: Plausible | None, n_steps: int
) -> AdversarialResult:
    """The best adversaries, feasible and far first, under the lowest ceiling that is proven."""
    reading, rows = attack.reading, attack.reading.rows
    judged = best_of(found.judged, attack.count)
    defined = rows.valid.any(-1).any(-1)
    best = torch.where(judged.feasible, judged.jsd, 0).amax(-1)
    ceiling = ceiling_of(attack, found)
    # What was reached is no more than rounding above a ceiling that is proven.
    ceiling = torch.maximum(ceiling, best).masked_fill(~defined, torch.nan)
    best = best.masked_fill(~defined, torch.nan)
    certified = best >= ceiling - CERTIFIED_WITHIN
    outcome = torch.where(found.outcome == EXACT, EXACT, CLOSED)
    missed = torch.where(found.outcome == EXACT, UNCONFIRMED, found.outcome)
    return AdversarialResult(
        **reading.described(),
        attention=_overridden(attack, judged.rows),
        original=_stacked(rows.attention, 1),
        probabilities=judged.outputs,
        tvd=judged.tvd,
        jsd=judged.jsd.masked_fill(~defined[:, None], torch.nan),
        feasible=judged.feasible,
        max_jsd=best,
        upper_bound=ceiling,
        certified=certified,
        epsilon=attack.epsilon,
        method=found.method,
        n_steps=n_steps,
        seed=attack.seed,
        outcome=torch.where(certified, outcome, missed).masked_fill(~defined, UNDEFINED),
        n_nodes=found.nodes,
        constraints=str(constraints or Plausible()),
    )


def ceiling_of(attack: Attack, found: Found) -> Tensor:
    """The lowest ceiling that is proven, ``(B,)``, in the dtype of the rows."""
    if found.method == "exact" and bool(found.upper.isfinite().all()):
        return found.upper.to(attack.original.dtype)  # nothing is below the optimum
    other = torch.minimum(_farthest_corner(attack), _shape_ceiling(attack))
    return torch.minimum(found.upper.to(attack.original.dtype), other)


def affine_ceiling(attack: Attack) -> Tensor:
    """Ceiling from bounds on one affine number at a time, ``(B,)``; infinity where none holds."""
    original = attack.original
    none = torch.full(original.shape[:1], torch.inf, dtype=torch.float64, device=original.device)
    affine: Affine | None = attack.affine
    if affine is None or original.shape[1] != 1:
        return none
    weights, scores = original[:, 0].double(), affine.scores.double()
    constant = affine.constant.double()
    logits = torch.einsum("bl,blc->bc", weights, scores) + constant
    slabs = relaxed_slabs(scores, constant, logits, attack.epsilon, attack.reading.output)
    ceiling = slab_bound(weights, slabs, attack.limits.free[:, 0])
    return torch.where(attack.limits.free[:, 0].any(-1), ceiling, 0)


def _farthest_corner(attack: Attack) -> Tensor:
    """Largest divergence at any output, ``(B,)``: convex, so it is at a corner of the simplex.

    Divergence of all that may move to one position depends on the weight there
    alone and falls with it, so the corner is the position with the least.
    """
    free = attack.limits.free
    weights = attack.original.masked_fill(~free, 0)
    mass = weights.sum(-1)
    least = attack.original.masked_fill(~free, torch.inf).amin(-1).nan_to_num(posinf=0)
    original = torch.stack([mass - least, least], -1)
    corner = torch.stack([torch.zeros_like(mass), mass], -1)
    return attack.reading.rows.mean(jensen_shannon(corner, original))


def _overridden(attack: Attack, adversaries: Tensor) -> Tensor:
    """Rows ``(B, K, R, L)`` in the shape of the sites; a few at a time, for they may be many."""
    rows, count = attack.reading.rows, adversaries.shape[1]
    original = _stacked(rows.attention, 1)
    found = original.new_empty(len(original), count, *original.shape[1:])
    for first, last in attack.pieces(count, 64):
        sites = rows.override(adversaries[:, first:last].transpose(0, 1))
        found[:, first:last] = _stacked(sites, 2).transpose(0, 1)
    return found


def _shape_ceiling(attack: Attack) -> Tensor:
    """Ceiling from the limits on entropy, KL and change, ``(B,)``; ln 2 without them.

    A Jensen-Shannon divergence is the least of (KL(p || r) + KL(q || r)) / 2
    over all r. The original as r leaves half the KL that is limited; a uniform
    r, over T positions, leaves ln T less the mean of both entropies.
    """
    limits, rows = attack.limits, attack.reading.rows
    original = attack.original
    each = torch.full_like(original[..., 0], math.log(2))
    if limits.max_kl is not None:
        each = each.clamp_max(limits.max_kl / 2)
    if limits.entropy is not None:
        most = rows.valid.sum(-1).clamp_min(1).to(each.dtype).log()
        spare = most - (row_entropy(original) + limits.entropy) / 2
        each = torch.minimum(each, spare.clamp_min(0))
    if limits.max_change is not None:
        # Each term is convex in the weight, so that it is largest at an end of what is allowed.
        ends = (original - limits.max_change).clamp_min(0), (original + limits.max_change)
        terms = torch.maximum(*(_term(end.clamp_max(1), original) for end in ends))
        each = torch.minimum(each, terms.masked_fill(~limits.free, 0).sum(-1))
    return rows.mean(each)


def _term(weight: Tensor, original: Tensor) -> Tensor:
    """What a weight adds to the divergence, in a form that is never negative."""
    middle = (weight + original) / 2
    found = relative_entropy(weight, middle) + relative_entropy(original, middle)
    return (found / 2).clamp_min(0)


def _stacked(sites: Mapping[str, Tensor], dimension: int) -> Tensor:
    """The tensor of a single site as it is, of several side by side."""
    values = list(sites.values())
    return values[0] if len(values) == 1 else torch.stack(values, dimension)
