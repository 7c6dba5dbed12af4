"""Can attention be very different while the output stays?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.affine import Affine, find_affine
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.rows import Rows
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.view import AttentionView
from faithattn.errors import AdapterError
from faithattn.measures.divergence import jensen_shannon
from faithattn.measures.draws import fresh_seed, instance_ids, normal_noise, spans
from faithattn.measures.outputs import output_distance, probabilities
from faithattn.measures.adversary.published import OutputChange, search_adversaries
from faithattn.results import AdversarialResult

_CERTIFIED_WITHIN = 1e-4
_METHODS = ("auto", "search")


def adversarial_attention(
    model: object,
    inputs: Any,
    *,
    epsilon: float = 0.01,
    n_adversaries: int = 5,
    method: str = "auto",
    n_steps: int = 500,
    seed: int | None = None,
    instances: Tensor | None = None,
    view: AttentionView | None = None,
) -> AdversarialResult:
    """Attention as different as possible at almost the same output.

    The published search: K rows are moved away from the original and from
    each other by gradient ascent, with a penalty for changing the output by
    more than epsilon. What it finds is a lower bound of the largest divergence
    there is. The encoder runs once.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        epsilon: Allowed total variation distance of the output, above 0;
            published: .01 for classification, .05 for question answering.
        n_adversaries: Number K of adversaries of each instance, at least 1.
        method: ``"search"``; ``"auto"`` chooses it. The result names which ran.
        n_steps: Steps of the search, at least 1.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.
        view: Which attention is changed; not needed for one row.

    Returns:
        The adversaries, their outputs as the model gives them, distances and
        divergences (nats, 0..ln 2), and the largest feasible divergence with a
        proven ceiling. Every epsilon is checked on the model itself.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.2.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> result = adversarial_attention(model, ids, n_steps=50, seed=0)
        >>> result.attention.shape, result.method
        (torch.Size([1, 5, 5]), 'search')
    """
    _check_arguments(epsilon, method)
    epsilon = float(epsilon)
    count = require_count("n_adversaries", n_adversaries)
    steps = require_count("n_steps", n_steps)
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=count * steps)
        ids = instance_ids(instances, reading.outputs)
        rows = reading.rows
        found = search_adversaries(
            rows.conditional,
            rows.valid,
            _starts(rows, count, seed, ids),
            _output_change(reading),
            epsilon=epsilon,
            n_steps=steps,
        )
        return _result(reading, found, epsilon, steps, seed)


def _output_change(reading: Reading) -> OutputChange:
    """TVD and its gradient: a matrix product where the logits are affine, else autograd."""
    affine = find_affine(reading)
    counted = reading.rows.counted
    share = (counted.sum(-1) / counted.shape[1])[:, None, None, None]
    every = bool(counted.all())

    def change(rows: Tensor) -> tuple[Tensor, Tensor]:
        if affine is None:
            distance, slope = _change_by_replay(reading, rows)
        else:
            distance, slope = _change_by_scores(reading, affine, rows)
        # The search averages divergence over all rows, though rows of padding have none: what it
        # is weighed against shrinks alike, and the way downhill stays the same.
        return distance, slope if every else slope * share

    return change


def _change_by_scores(reading: Reading, affine: Affine, rows: Tensor) -> tuple[Tensor, Tensor]:
    outputs = probabilities(affine.logits(rows), reading.output)
    difference = outputs - reading.outputs[:, None].to(outputs.dtype)
    size = 2 if reading.output == "softmax" else outputs.shape[-1]
    change = difference.abs().sum(-1) / size
    slope = difference.sign_().div_(size)
    if reading.output == "sigmoid":
        slope.mul_(outputs).mul_(1 - outputs)
    elif reading.output == "softmax":
        slope = outputs * (slope - (slope * outputs).sum(-1, keepdim=True))
    return change, torch.bmm(slope, affine.scores.transpose(1, 2)).view_as(rows)


def _change_by_replay(reading: Reading, rows: Tensor) -> tuple[Tensor, Tensor]:
    """In chunks of adversaries: they do not influence each other."""
    step = reading.alternatives_at_once(bytes_per_element=64)
    pieces = [
        _change_of_chunk(reading, rows[:, first:last]) for first, last in spans(rows.shape[1], step)
    ]
    return torch.cat([each[0] for each in pieces], 1), torch.cat([each[1] for each in pieces], 1)


def _change_of_chunk(reading: Reading, rows: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = rows.transpose(0, 1).detach().requires_grad_()
        outputs = reading.replay(leaf)
        change = output_distance(outputs, reading.outputs, reading.output)
        slope = None
        if change.requires_grad:
            (slope,) = torch.autograd.grad(change.sum(), leaf, allow_unused=True)
    if slope is None:
        raise AdapterError(
            "replay must be differentiable in the attention; got outputs that change with it but "
            f"carry no gradient. {_remedy(reading)}"
        )
    return change.detach().T, slope.detach().transpose(0, 1)


def _remedy(reading: Reading) -> str:
    """What to do about a missing gradient: a module's author wrote no replay()."""
    if not isinstance(reading.model, TorchAdapter):
        return "Keep the graph: no detach, no no_grad."
    return (
        f"The forward of {type(reading.model.model).__name__} turns gradients off "
        "(torch.no_grad, detach): take that out, or use permutation_test, which needs none."
    )


def _result(
    reading: Reading, found: Tensor, epsilon: float, n_steps: int, seed: int
) -> AdversarialResult:
    """Confirms every adversary on the model and sorts them, feasible and far first."""
    rows = reading.rows
    outputs, tvd = _confirm(reading, found)
    jsd = rows.mean(jensen_shannon(found, rows.conditional[:, None]).transpose(0, 1)).T
    feasible = tvd <= epsilon
    order = torch.where(feasible, jsd, jsd - 1).argsort(dim=-1, descending=True, stable=True)
    batch = torch.arange(len(order), device=order.device)[:, None]
    defined = rows.valid.any(-1).any(-1)
    best = torch.where(feasible, jsd, 0).amax(-1).masked_fill(~defined, torch.nan)
    ceiling = rows.mean(_ceilings(rows.conditional, rows.valid)).masked_fill(~defined, torch.nan)
    overrides = rows.override(found[batch, order].transpose(0, 1))
    return AdversarialResult(
        predicted=reading.predicted,
        max_attention=rows.max_attention,
        mass=rows.mean_mass,
        view=str(rows.view),
        output=reading.output,
        replay=reading.replayed,
        attention=_stacked(overrides, 2).transpose(0, 1),
        original=_stacked(rows.attention, 1),
        probabilities=outputs[batch, order],
        tvd=tvd[batch, order],
        jsd=jsd[batch, order].masked_fill(~defined[:, None], torch.nan),
        feasible=feasible[batch, order],
        max_jsd=best,
        upper_bound=ceiling,
        certified=best >= ceiling - _CERTIFIED_WITHIN,
        epsilon=epsilon,
        method="search",
        n_steps=n_steps,
        seed=seed,
    )


def _confirm(reading: Reading, found: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (B, K, C) of the model itself and their distance (B, K)."""
    outputs, tvd = [], []
    for first, last in spans(found.shape[1], reading.alternatives_at_once(bytes_per_element=64)):
        outputs.append(reading.replay(found[:, first:last].transpose(0, 1)))
        tvd.append(output_distance(outputs[-1], reading.outputs, reading.output))
    return torch.cat(outputs).transpose(0, 1), torch.cat(tvd).T


def _ceilings(conditional: Tensor, valid: Tensor) -> Tensor:
    """Largest divergence of each row on the simplex, (B, R): convex, so it is at a corner.

    JSD(one-hot at t, a) depends on a_t alone and falls with it, so the corner
    is the position with the least weight.
    """
    least = conditional.masked_fill(~valid, torch.inf).amin(-1).nan_to_num(posinf=1)
    corner = torch.stack([1 - least, least], -1)
    onehot = torch.zeros_like(corner)
    onehot[..., 1] = 1
    return jensen_shannon(onehot, corner)


def _starts(rows: Rows, count: int, seed: int, ids: Tensor) -> Tensor:
    """Noise (B, K, R, L): by the numbers of the rows, which padding does not change."""
    draws = (int(rows.numbers.max()) + 1) * count
    noise = normal_noise(seed, ids, draws, rows.mask).to(rows.conditional.dtype)
    by_number = noise.view(-1, count, *noise.shape[1:]).permute(2, 0, 1, 3)
    batch = torch.arange(len(ids), device=ids.device)[:, None]
    return by_number[batch, rows.numbers].transpose(1, 2)


def _stacked(sites: Mapping[str, Tensor], dimension: int) -> Tensor:
    """The tensor of a single site as it is, of several side by side."""
    values = list(sites.values())
    return values[0] if len(values) == 1 else torch.stack(values, dimension)


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
