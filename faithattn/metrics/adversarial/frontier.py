"""How far attention can go, as a function of epsilon and of what is asked of an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.view import AttentionView
from faithattn.measures.adversary.plausible import Plausible, check_constraints
from faithattn.metrics.adversarial.assembly import CERTIFIED_WITHIN, ceiling_of
from faithattn.metrics.adversarial.attack import Attack, Judged, best_of, joined
from faithattn.metrics.adversarial.methods import begin, check_epsilon, check_method, run_method
from faithattn.results.adversarial import AdversarialFrontier


def adversarial_frontier(
    model: object,
    inputs: Any,
    *,
    epsilons: Sequence[float] = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2),
    constraints: Sequence[Plausible | None] = (None,),
    method: str = "auto",
    n_steps: int = 500,
    n_nodes: int = 200,
    seed: int | None = None,
    instances: Tensor | None = None,
    view: AttentionView | None = None,
) -> AdversarialFrontier:
    """Largest divergence of attention for each allowed output change and each constraint.

    The frontier of total variation distance against Jensen-Shannon divergence:
    the encoder runs once for all of it. An adversary that one epsilon allows
    is allowed by every larger one, and one that a constraint allows is allowed
    without it, so that what a search finds for one point serves others.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        epsilons: Allowed total variation distances, above 0, ascending.
        constraints: What is asked of the adversaries, one curve for each;
            None for nothing but the output.
        method: As in :func:`adversarial_attention`.
        n_steps: Likewise.
        n_nodes: Likewise.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.
        view: Which attention is changed; not needed for one row.

    Returns:
        Divergences (nats, 0..ln 2) and ceilings ``(B, Q, E)``, of Q
        constraints and E epsilons.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.2;
        Wiegreffe & Pinter (2019), "Attention is not not Explanation", who ask
        for adversaries that a model could have.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
        >>> curves = adversarial_frontier(
        ...     TextClassifier(9), ids, epsilons=(0.01, 0.1),
        ...     constraints=(None, Plausible(max_change=0.1)), seed=0,
        ... )
        >>> curves.max_jsd.shape, bool((curves.max_jsd[:, 1] <= curves.max_jsd[:, 0]).all())
        (torch.Size([1, 2, 2]), True)
    """
    allowed, asked = _ascending(epsilons), _several(constraints)
    check_method(method)
    steps, nodes = require_count("n_steps", n_steps), require_count("n_nodes", n_nodes)
    with torch.inference_mode(False), torch.no_grad():
        runs = steps * len(allowed) * len(asked)
        base = begin(model, inputs, view, alternatives=runs, seed=seed, instances=instances)
        attacks = [base.under(each) for each in asked]
        found: list[Judged] = []
        ceilings, ways = [], set()
        for attack in attacks:
            for epsilon in allowed:
                one = run_method(attack.within(epsilon), method, steps, nodes)
                found.append(best_of(one.judged, 1))
                ceilings.append(ceiling_of(attack.within(epsilon), one))
                ways.add(one.method)
        return _result(attacks, joined(found), ceilings, allowed, asked, ways)


def _result(
    attacks: list[Attack],
    pool: Judged,
    ceilings: list[Tensor],
    epsilons: tuple[float, ...],
    constraints: tuple[Plausible | None, ...],
    ways: set[str],
) -> AdversarialFrontier:
    """The best of the pool for every point, whichever point it was found for."""
    reading, rows = attacks[0].reading, attacks[0].reading.rows
    best, distance = [], []
    for attack in attacks:
        # Those found for other curves may have moved what this one leaves alone.
        held = attack.limits.hold(pool.rows) & attack.limits.unmoved(pool.rows)
        for epsilon in epsilons:
            allowed = held & (pool.tvd <= epsilon)
            top = torch.where(allowed, pool.jsd, 0).max(-1)
            best.append(top.values)
            moved = pool.tvd.gather(-1, top.indices[:, None])[:, 0]
            distance.append(torch.where(allowed.any(-1), moved, 0))
    shape = (len(rows.mass), len(attacks), len(epsilons))
    value = torch.stack(best, 1).view(shape)
    # A larger epsilon allows no less, so that its ceiling holds for the smaller ones.
    ceiling = torch.stack(ceilings, 1).view(shape).flip(-1).cummin(-1).values.flip(-1)
    ceiling = torch.maximum(ceiling, value)
    undefined = ~rows.valid.any(-1).any(-1)[:, None, None]
    return AdversarialFrontier(
        **reading.described(),
        max_jsd=value.masked_fill(undefined, torch.nan),
        tvd=torch.stack(distance, 1).view(shape).masked_fill(undefined, torch.nan),
        upper_bound=ceiling.masked_fill(undefined, torch.nan),
        certified=(value >= ceiling - CERTIFIED_WITHIN) & ~undefined,
        epsilons=epsilons,
        constraints=tuple(str(each or Plausible()) for each in constraints),
        method=ways.pop() if len(ways) == 1 else "mixed",
        seed=attacks[0].seed,
    )


def _ascending(epsilons: Sequence[float]) -> tuple[float, ...]:
    if isinstance(epsilons, str) or not isinstance(epsilons, Sequence) or not epsilons:
        raise ValueError(f"epsilons must hold numbers above 0; got {epsilons!r}. Pass a tuple.")
    values = tuple(check_epsilon("epsilons", each) for each in epsilons)
    if list(values) != sorted(set(values)):
        raise ValueError(
            f"epsilons must ascend, each once; got {values}. Sort them and drop repetitions."
        )
    return values


def _several(constraints: Sequence[Plausible | None]) -> tuple[Plausible | None, ...]:
    if isinstance(constraints, Plausible) or not isinstance(constraints, Sequence):
        got = type(constraints).__name__
        raise TypeError(f"constraints must be several, one a curve; got {got}. Pass a tuple.")
    if not constraints:
        raise ValueError("constraints must hold at least one; got none. Leave it out for (None,).")
    for each in constraints:
        check_constraints(each)
    return tuple(constraints)
