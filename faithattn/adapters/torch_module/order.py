"""Whether a model keeps its instances, and their positions, in the order of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.torch_module.forward import Seen
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Pass
from faithattn.adapters.torch_module.runs import shown
from faithattn.errors import AdapterError


def require_instances_in_order(runner: Runner, done: Pass, used: Sequence[Seen]) -> None:
    """Raises if the weights of an instance are found at another one; tried once for a site.

    Models that sort their batch by length compute the right logits of it, and
    attention in the order of lengths. The batch is run again the other way
    round: every row must come with its instance.
    """
    tried, names = runner.plan.in_order, {each.place.name for each in used}
    replaced = done.request.attention or done.request.features
    hidden = any(is_functorch_wrapped_tensor(each.raw) for each in used)
    if done.size < 2 or names <= tried or replaced or hidden or _is_hooked(runner):
        return
    turned = torch.arange(done.size).flip(0)
    try:
        with torch.no_grad():
            inputs = select_rows(done.request.inputs, turned)
            request = replace(done.request, inputs=inputs, only=frozenset(names), alternatives=0)
            again = {each.place.name: each for each in runner.forward(request, done.size).seen}
    except (AdapterError, TypeError, ValueError):
        again = {}  # the batch cannot be turned round
    for each in used:
        other = again.get(each.place.name)
        if other is not None and other.shown is not None:
            _require_same_order(each.place.name, shown(each).detach(), other.shown[turned])
    tried |= names  # only now: a model that is refused is refused again


def _is_hooked(runner: Runner) -> bool:
    """Whether somebody listens to the model, who would take a further run for another one."""
    parts = runner.tree.parts().by_path.values()
    return any(part._forward_hooks or part._forward_pre_hooks for part in parts)


def _require_same_order(site: str, weights: Tensor, again: Tensor) -> None:
    if weights.shape != again.shape or torch.allclose(weights, again, rtol=1e-3, atol=1e-4):
        return
    rows, others = weights.flatten(1).float(), again.flatten(1).float()
    found = torch.stack([(others - row).abs().amax(-1) < 1e-3 for row in rows])
    if bool(found.any(1).all()) and not bool(found.diagonal().all()):
        raise AdapterError(
            "model must keep its instances in the order of the inputs; got weights in another "
            f"order at {site!r}, as where a batch is sorted by length inside. Sort the inputs "
            "before, or undo the order of the weights in an adapter with run()."
        )


def require_positions_in_order(used: Sequence[Seen], real: Tensor) -> None:
    """Raises if weights lie on padding just as if instances or positions were in another order.

    Args:
        used: The sites.
        real: What is no padding at the first of them, ``(B, Lk)``.
    """
    weights, count = shown(used[0]).detach(), sum(used[0].extras)
    if used[0].place.kind == "module":
        return  # its zeros may be those of a sparse attention
    if any(map(is_functorch_wrapped_tensor, (weights, real))) or bool(real.all()):
        return
    peak = weights.flatten(1, -2).amax(1) if weights.ndim > 2 else weights
    positions = peak.shape[1] - count
    attended, real = peak[:, :positions] > 0, real[:, :positions].to(peak.device)
    if not bool((attended & ~real).any()):
        return
    if torch.equal(attended.sum(1).sort().values, real.sum(1).sort().values):
        raise AdapterError(
            "attention must lie on the positions that are no padding; got weights at "
            f"{used[0].place.name!r} on as many positions, but on others: those of another "
            "instance, or in another order. Pass mask= if padding is not where it seems, or write "
            "an adapter with run() that puts the weights into the order of the inputs."
        )
