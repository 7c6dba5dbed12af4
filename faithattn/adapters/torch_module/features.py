"""The differentiable input that goes with the sites, and where its positions come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from faithattn.adapters.inputs.source import Source, paths, tensor_at
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.plan import Plan
from faithattn.adapters.torch_module.request import Pass
from faithattn.adapters.torch_module.runs import shown
from faithattn.adapters.torch_module.sites import used_sites
from faithattn.errors import AdapterError


def with_feature(
    runner: Runner, done: Pass, used: list[Seen]
) -> tuple[Pass, list[Seen], list[Embedded]]:
    """The pass, its sites and their features.

    Another pass, with a feature for the sites, where no embedding is as long as they are.
    """
    keys = shown(used[0]).shape[-1]
    chosen = done.features(runner.embedding)
    lengths = {each.value.shape[1] for each in chosen}
    if keys - sum(used[0].extras) in lengths or runner.embedding is not None:
        return done, used, chosen
    plan, only = runner.plan, done.request.only
    found = [
        path
        for path, value in paths(done.request.inputs)
        if value.is_floating_point() and value.ndim == 3 and value.shape[:2] == (done.size, keys)
    ]
    if found:
        plan.continuous[only] = found[0]
        request = replace(done.request, continuous=found[0])
    else:
        with torch.no_grad():
            request = replace(done.request, search=True, alternatives=0, attention={})
            tried = runner.forward(request, done.size)
        site = next(each for each in tried.seen if each.place.name == used[0].place.name)
        # What comes after the attention is not all that depends on a position.
        places = [i for i, shape in enumerate(tried.shapes[: site.before]) if _rows(shape) == keys]
        if not places:
            return done, used, chosen
        plan.tokens[only] = places[0]
        request = replace(done.request, tokens=places[0])
    done = runner.settled(request)
    return done, used_sites(runner, done), done.features(runner.embedding)


def _rows(shape: tuple[int, ...]) -> int:
    """Positions of a result (B, L, E), or of a map (B, C, H, W) with channels."""
    if len(shape) == 3:
        return shape[1]
    return shape[2] * shape[3] if shape[1] > 1 else 0


def removable(plan: Plan, only: Iterable[str], inputs: Any) -> Source:
    """Where the positions come from that a deletion at these sites is about."""
    names = {plan.feature_of[site] for site in only if site in plan.feature_of}
    names = names or set(plan.sources)
    for name in sorted(names):
        source = plan.sources[name]
        value = None if source.path is None else tensor_at(inputs, source.path)
        if len(names) == 1 and value is not None and value.ndim > 1:
            ids = None if value.is_floating_point() else value
            return replace(source, ids=ids, length=value.shape[1])
    got = f"features {sorted(plan.sources) or 'none'} that come from elsewhere"
    if len(names) > 1:
        got = f"several, {sorted(names)}, of which any may be meant"
    raise AdapterError(
        f"model must take the positions as ids or a continuous input, for a deletion; got {got}. "
        "Name another removal such as 'zero_embedding', or write an adapter with remove()."
    )
