"""The published search on a model: penalised ascent from random starts."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.errors import AdapterError
from faithattn.measures.adversary.published import OutputChange, search_adversaries
from faithattn.measures.draws import spans
from faithattn.measures.outputs import output_distance, probabilities
from faithattn.metrics.adversarial.attack import Attack, Judged


def published_search(attack: Attack, n_steps: int) -> Judged:
    """K rows moved away from the original and from each other; limits are left alone."""
    found = search_adversaries(
        attack.original,
        attack.reading.rows.valid,
        attack.noise(attack.count),
        output_change(attack),
        epsilon=attack.epsilon,
        n_steps=n_steps,
    )
    return attack.judge(found)


def output_change(attack: Attack) -> OutputChange:
    """TVD and its gradient: a matrix product where the logits are affine, else autograd."""
    reading, affine = attack.reading, attack.affine
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
