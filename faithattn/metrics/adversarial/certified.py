"""Optimum and proven ceiling of affine logits, instance by instance, until the two meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faithattn.adapters.affine import Affine, unknown_reason
from faithattn.measures.adversary.outcomes import CLOSED, NODES, RELAXATION
from faithattn.measures.adversary.plausible import Limits
from faithattn.measures.certificate.problem import Array, Constraint, Problem
from faithattn.measures.certificate.tree import certify
from faithattn.metrics.adversarial.assembly import affine_ceiling
from faithattn.metrics.adversarial.attack import Attack, Found, best_of
from faithattn.metrics.adversarial.search import search

_ENDED = {"closed": CLOSED, "nodes": NODES, "relaxation": RELAXATION}


def certified_reason(attack: Attack) -> str:
    """Why there is no certificate; empty where there is one."""
    return "" if attack.affine is not None else unknown_reason(attack.reading)


def certified_attack(attack: Attack, n_steps: int, n_nodes: int) -> Found:
    """The best of a search and of branch and bound, and what branch and bound proves."""
    begun = search(attack, n_steps)
    leading = best_of(begun.judged, 1)
    rows, upper = leading.rows.clone(), affine_ceiling(attack)
    outcome, nodes = begun.outcome.clone(), begun.nodes.clone()
    for index in range(len(rows)):
        instance = _instance(attack, index)
        if instance is None:
            upper[index], outcome[index] = 0, CLOSED
            continue
        certificate = certify(
            instance.problem,
            known=instance.pack(rows[index, 0]),
            n_nodes=n_nodes,
            confirm=instance.confirm(attack),
        )
        rows[index, 0] = instance.unpack(certificate.rows)
        bound = instance.share * certificate.upper
        upper[index] = upper[index].clamp_max(bound)
        outcome[index], nodes[index] = _ENDED[certificate.outcome], certificate.nodes
    judged = begun.judged.beside(attack.judge(rows))
    return Found(judged, upper, outcome, nodes, "certified")


@dataclass(frozen=True)
class _Instance:
    """One instance as a problem: rows that count and have weight, positions that any of them has.

    Attributes:
        index: Its number in the batch.
        problem: What may be chosen.
        lanes: Numbers of the rows.
        places: Numbers of the positions.
        original: Its rows ``(R, L)``.
        share: Rows of the problem in those that count.
    """

    index: int
    problem: Problem
    lanes: Tensor
    places: Tensor
    original: Tensor
    share: float

    def pack(self, rows: Tensor) -> Array:
        """The problem's part of rows ``(R, L)``."""
        return _array(rows[self.lanes][:, self.places])

    def unpack(self, found: Array) -> Tensor:
        """Rows ``(R, L)`` with the problem's part put in."""
        rows = self.original.clone()
        values = torch.as_tensor(found, dtype=rows.dtype, device=rows.device)
        rows[self.lanes[:, None], self.places] = values
        return rows

    def confirm(self, attack: Attack) -> Callable[[Array], Array]:
        """The model's distances of rows ``(K, R, T)``; infinite where a limit is broken."""

        def distances(found: Array) -> Array:
            own = torch.stack([self.unpack(each) for each in found])
            rows = attack.original[:, None].expand(-1, len(own), -1, -1).clone()
            rows[self.index] = own
            judged = attack.judge(rows)
            held = attack.limits.hold(judged.rows)[self.index]
            return _array(judged.tvd[self.index].masked_fill(~held, torch.inf))

        return distances


def _instance(attack: Attack, index: int) -> _Instance | None:
    """An instance as a problem; None where no weight may move."""
    affine, limits, reading = _affine(attack), attack.limits, attack.reading
    valid, free = reading.rows.valid[index], limits.free[index]
    counted = reading.rows.counted[index]
    lanes = (counted & valid.any(-1)).nonzero()[:, 0]
    places = valid[lanes].any(0).nonzero()[:, 0]
    if not bool(free[lanes].any()):
        return None
    original = attack.original[index]
    cut = (lanes[:, None], places)
    scores = affine.scores[index].view(*original.shape, -1)[cut]
    weights = _array(original[cut])
    # As the problem has them: the original itself must obey limits that are made from it.
    weights /= weights.sum(-1, keepdims=True)
    lower, upper = _box(weights, _array(free[cut]) > 0, limits.max_change)
    problem = Problem(
        attention=weights,
        scores=_array(scores),
        constant=_constant(attack, index, lanes),
        output=reading.output,
        epsilon=attack.epsilon,
        lower=lower,
        upper=upper,
        concave=_concave(limits, index, lanes, weights),
    )
    share = len(lanes) / max(1, int(counted.sum()))
    return _Instance(index, problem, lanes, places, original, share)


def _affine(attack: Attack) -> Affine:
    if attack.affine is None:
        raise ValueError("attack must be affine; got none. Ask certified_reason first.")
    return attack.affine


def _constant(attack: Attack, index: int, lanes: Tensor) -> Array:
    """The rest of the logits, with the rows that are left out as they are."""
    affine = _affine(attack)
    original = attack.original[index].double()
    scores = affine.scores[index].double().view(*original.shape, -1)
    out = torch.ones(len(original), dtype=torch.bool, device=original.device)
    out[lanes] = False
    rest = (original[out][..., None] * scores[out]).sum((0, 1))
    return _array(affine.constant[index].double() + rest)


def _box(weights: Array, free: NDArray[np.bool_], change: float | None) -> tuple[Array, Array]:
    """Least and greatest weights."""
    lower = np.zeros_like(weights) if change is None else np.maximum(weights - change, 0)
    upper = np.ones_like(weights) if change is None else np.minimum(weights + change, 1)
    return np.where(free, lower, weights), np.where(free, upper, weights)


def _concave(limits: Limits, index: int, lanes: Tensor, weights: Array) -> tuple[Constraint, ...]:
    """The limits on the shape of each row, as values that must not be negative."""
    found: list[Constraint] = []
    for row, lane in enumerate(lanes.tolist()):
        if limits.entropy is not None:
            found.append(
                _entropy_floor(row, min(float(limits.entropy[index, lane]), _entropy(weights[row])))
            )
        if limits.max_kl is not None:
            found.append(_divergence_limit(row, weights[row], limits.max_kl))
        if limits.support is not None:
            count, least = float(limits.support[index, lane]), limits.min_weight
            floor = min(count * least, float(np.minimum(weights[row], least).sum()))
            found.append(_support(row, floor, least))
    return tuple(found)


def _entropy(weights: Array) -> float:
    return float(-(weights * np.log(np.where(weights > 0, weights, 1))).sum())


def _entropy_floor(row: int, floor: float) -> Constraint:
    def spare(rows: Array) -> tuple[float, Array]:
        slope = np.zeros_like(rows)
        with np.errstate(divide="ignore"):
            slope[row] = -np.log(rows[row]) - 1
        return _entropy(rows[row]) - floor, slope

    return spare


def _divergence_limit(row: int, weights: Array, limit: float) -> Constraint:
    def spare(rows: Array) -> tuple[float, Array]:
        slope = np.zeros_like(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(rows[row] / weights)
        present = rows[row] > 0
        slope[row] = -np.where(present | (weights > 0), ratio, 0) - 1
        return limit - float((rows[row] * np.where(present, ratio, 0)).sum()), slope

    return spare


def _support(row: int, floor: float, least: float) -> Constraint:
    """Weights up to the least that counts, summed: at least that of so many positions.

    Wider than the limit itself, for two halves count as one; the bound stands.
    """

    def spare(rows: Array) -> tuple[float, Array]:
        slope = np.zeros_like(rows)
        slope[row] = rows[row] < least
        return float(np.minimum(rows[row], least).sum()) - floor, slope

    return spare


def _array(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy()
