"""Attention as different as possible at almost the same output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.measures.adversary.plausible import Plausible
from faithattn.measures.draws import fresh_seed, instance_ids
from faithattn.metrics.adversarial.assembly import assembled
from faithattn.metrics.adversarial.methods import Wanted, attack_on, run_method
from faithattn.results.adversarial import AdversarialResult


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
            fifth to a twentieth of them, by what a step costs.
        n_nodes: Nodes of the tree that ``"certified"`` may look at for each
            instance, at least 1; each solves a few linear programmes.
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
    wanted = Wanted.checked(
        epsilon=epsilon,
        n_adversaries=n_adversaries,
        method=method,
        n_steps=n_steps,
        n_nodes=n_nodes,
        constraints=constraints,
    )
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=wanted.alternatives)
        return adversary_of(reading, wanted, seed, instance_ids(instances, reading.outputs))


def adversary_of(reading: Reading, wanted: Wanted, seed: int, ids: Tensor) -> AdversarialResult:
    """The attack on a reading, whose rows have ids ``(B,)``; see :func:`adversarial_attention`."""
    base = attack_on(reading, seed, ids)
    attack = base.under(wanted.constraints).within(wanted.epsilon, wanted.n_adversaries)
    found = run_method(attack, wanted.method, wanted.n_steps, wanted.n_nodes)
    return assembled(attack, found, wanted.constraints, wanted.n_steps)
