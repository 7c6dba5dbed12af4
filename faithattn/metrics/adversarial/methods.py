"""The ways of finding adversaries, and what they begin with."""

from __future__ import annotations

import math
from functools import cache, partial
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.affine import find_affine
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.measures.adversary.outcomes import SEARCHED
from faithattn.measures.adversary.plausible import Plausible, check_constraints, resolve_limits
from faithattn.measures.draws import fresh_seed, instance_ids
from faithattn.metrics.adversarial.assembly import affine_ceiling
from faithattn.metrics.adversarial.attack import Attack, Found
from faithattn.metrics.adversarial.certified import certified_attack, certified_reason
from faithattn.metrics.adversarial.exact import exact_attack, exact_reason
from faithattn.metrics.adversarial.published import published_search
from faithattn.metrics.adversarial.search import search

METHODS = ("auto", "exact", "certified", "search", "published")


class Wanted(NamedTuple):
    """What is asked of an attack, checked; see :func:`adversarial_attention`."""

    epsilon: float
    n_adversaries: int
    method: str
    n_steps: int
    n_nodes: int
    constraints: Plausible | None

    @classmethod
    def checked(
        cls,
        *,
        epsilon: object,
        n_adversaries: object,
        method: str,
        n_steps: object,
        n_nodes: object,
        constraints: Plausible | None,
    ) -> Wanted:
        """Raises for an option that is out of range."""
        allowed = check_epsilon("epsilon", epsilon)
        check_method(method)
        check_constraints(constraints)
        count = require_count("n_adversaries", n_adversaries)
        steps, nodes = require_count("n_steps", n_steps), require_count("n_nodes", n_nodes)
        return cls(allowed, count, method, steps, nodes, constraints)

    @property
    def alternatives(self) -> int:
        """How many outputs under other attention are asked for, at most."""
        return self.n_adversaries * self.n_steps


def begin(
    model: object,
    inputs: Any,
    view: AttentionView | None,
    *,
    alternatives: int,
    seed: int | None,
    instances: Tensor | None,
) -> Attack:
    """Runs the model once; nothing is limited yet, and one adversary asked for."""
    seed = fresh_seed(seed)
    reading = read(model, inputs, view, replay=alternatives)
    return attack_on(reading, seed, instance_ids(instances, reading.outputs))


def attack_on(reading: Reading, seed: int, ids: Tensor) -> Attack:
    """What :func:`begin` gives, of a reading whose rows have ids ``(B,)``."""
    limits = resolve_limits(None, reading.rows.conditional, reading.rows.valid)
    return Attack(reading, limits, math.inf, 1, seed, ids, cache(partial(find_affine, reading)))


def run_method(attack: Attack, method: str, n_steps: int, n_nodes: int) -> Found:
    """Attacks a batch by the method, or by what ``"auto"`` stands for there.

    Raises:
        ValueError: If the method does not apply.
    """
    if method == "published":
        return _published(attack, n_steps)
    if method in ("auto", "exact"):
        reason = exact_reason(attack)
        if not reason:
            return exact_attack(attack)
        if method == "exact":
            raise ValueError(_inapplicable(method, reason))
    if method == "certified":
        reason = certified_reason(attack)
        if reason:
            raise ValueError(_inapplicable(method, reason))
        return certified_attack(attack, n_steps, n_nodes)
    return search(attack, n_steps)


def check_method(method: str) -> None:
    """Raises for a method that there is not."""
    if method not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(METHODS)}; got {method!r}. Leave it out for auto."
        )


def check_epsilon(name: str, epsilon: object) -> float:
    """Returns an allowed output change that is one."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real):
        raise TypeError(f"{name} must be a number; got {epsilon!r}. The published value is .01.")
    value = float(epsilon)
    if not 0 < value < math.inf:
        raise ValueError(
            f"{name} must be above 0 and finite; got {epsilon!r}. The published value is .01."
        )
    return value


def _published(attack: Attack, n_steps: int) -> Found:
    limits = attack.limits
    if not limits.shape_free or not torch.equal(limits.free, attack.reading.rows.valid):
        reason = "constraints are unknown to the published search"
        raise ValueError(_inapplicable("published", reason))
    judged = published_search(attack, n_steps)
    nothing = torch.zeros(len(attack.ids), dtype=torch.long, device=judged.tvd.device)
    return Found(judged, affine_ceiling(attack), nothing + SEARCHED, nothing, "published")


def _inapplicable(method: str, reason: str) -> str:
    return (
        f"method must apply to the model; got {method!r}, but {reason}. "
        "Leave it out, and the result names what ran."
    )
