"""Attention as different as possible at almost the same output."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import read
from faithattn.adapters.view import AttentionView
from faithattn.measures.adversary.outcomes import SEARCHED
from faithattn.measures.adversary.plausible import Plausible, check_constraints, resolve_limits
from faithattn.measures.draws import fresh_seed, instance_ids
from faithattn.metrics.adversarial.assembly import affine_ceiling, assembled
from faithattn.metrics.adversarial.attack import Attack, Found
from faithattn.metrics.adversarial.exact import exact_attack, exact_reason
from faithattn.metrics.adversarial.published import published_search
from faithattn.metrics.adversarial.search import search
from faithattn.results import AdversarialResult

_METHODS = ("auto", "exact", "certified", "search", "published")


def adversarial_attention(
    model: object,
    inputs: Any,
    *,
    epsilon: float = 0.01,
    n_adversaries: int = 5,
    method: str = "auto",
    n_steps: int = 500,
    n_nodes: int = 200,
    constraints: Plausible | None = None,
    seed: int | None = None,
    instances: Tensor | None = None,
    view: AttentionView | None = None,
) -> AdversarialResult:
    """Attention as different as possible at almost the same output.

    Where one number that is affine in one attention row decides the output
    (one logit, or the difference of two under a softmax), the optimum has a
    closed form. Elsewhere it is searched for, under a proven ceiling, which
    ``"certified"`` brings down until optimum and ceiling meet. The encoder
    runs once, and every adversary is checked on the model itself.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        epsilon: Allowed total variation distance of the output, above 0;
            published: .01 for classification, .05 for question answering.
        n_adversaries: Number K of adversaries of each instance, at least 1.
            Exact ones share no position: the second is the optimum over the
            positions that the first leaves, and so on, as long as there are any.
        method: ``"auto"`` is ``"exact"`` where that is possible, else
            ``"search"``. ``"certified"`` bounds and branches where the logits
            are affine. ``"published"`` is the search of Jain & Wallace. The
            result names which ran.
        n_steps: Steps of the published search, at least 1; ours takes a
            twentieth of them.
        n_nodes: Linear programmes that ``"certified"`` may solve for each
            instance, at least 1.
        constraints: Limits on the adversaries besides the output.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.
        view: Which attention is changed; not needed for one row.

    Returns:
        The adversaries, their outputs as the model gives them, distances and
        divergences (nats, 0..ln 2), and the largest feasible divergence with a
        proven ceiling and how the attack ended.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range, or the method does not
            apply to the model.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.2;
        docs/adversaries.md derives the optimum and the ceiling.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> result = adversarial_attention(model, ids, seed=0)
        >>> result.attention.shape, result.method, result.certified
        (torch.Size([1, 5, 5]), 'exact', tensor([True]))
    """
    _check_arguments(epsilon, method)
    check_constraints(constraints)
    count = require_count("n_adversaries", n_adversaries)
    steps = require_count("n_steps", n_steps)
    nodes = require_count("n_nodes", n_nodes)
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=count * steps)
        ids = instance_ids(instances, reading.outputs)
        limits = resolve_limits(constraints, reading.rows.conditional, reading.rows.valid)
        attack = Attack(reading, limits, float(epsilon), count, seed, ids)
        found = run_method(attack, method, steps, nodes)
        return assembled(attack, found, constraints, steps)


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
        raise ValueError(_inapplicable(method, f"nothing, {n_nodes}"))
    return search(attack, n_steps)


def _published(attack: Attack, n_steps: int) -> Found:
    if not attack.limits.shape_free or not torch.equal(
        attack.limits.free, attack.reading.rows.valid
    ):
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


def _check_arguments(epsilon: float, method: str) -> None:
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real):
        raise TypeError(f"epsilon must be a number; got {epsilon!r}. The published value is .01.")
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(
            f"epsilon must be above 0 and finite; got {epsilon!r}. The published value is .01."
        )
    if method not in _METHODS:
        raise ValueError(
            f"method must be one of {', '.join(_METHODS)}; got {method!r}. Leave it out for auto."
        )
