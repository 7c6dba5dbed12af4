"""Which of the weights that a pass came by are the model's attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from faithattn.adapters.inputs.deletion import delete_positions
from faithattn.adapters.inputs.masks import known_real
from faithattn.adapters.inputs.source import Path, Source, paths, tensor_at
from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.interception.site import Site
from faithattn.adapters.torch_module.choice import (
    ATTENTION,
    ELSEWHERE,
    is_gate,
    no_site,
    role_of,
)
from faithattn.adapters.torch_module.extras import find_extras
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Pass, Request, source_of
from faithattn.errors import AdapterError


def settled(runner: Runner, request: Request) -> Pass:
    """A pass in which layouts are certain and keys that are no positions are left out."""
    done, plan = runner.settled(request), runner.plan
    known = plan.undecided.union(plan.extras)
    lengths = _lengths(done) if any(each.place.name not in known for each in done.seen) else ()
    candidates = [
        each
        for each in done.seen
        if each.place.name not in known and role_of(each, lengths, done.logits, None) == ELSEWHERE
    ]
    found = find_extras(runner, done, candidates) if candidates else {}
    plan.undecided |= {name for name, extras in found.items() if extras is None}
    learned = {name: extras for name, extras in found.items() if extras is not None}
    plan.extras |= learned
    return runner.settled(request) if learned else done


def used_sites(runner: Runner, done: Pass) -> list[Seen]:
    """The sites that are asked for, or every one that is attention.

    Raises:
        AdapterError: If there is none, with the list of what was seen.
    """
    only = done.request.only
    if only is not None:
        named = [each for each in done.seen if each.place.name in only]
        for each in named:
            _require_weights(each, done)
        if len({each.place.name for each in named}) == len(only):
            return named
        missing = sorted(only - {each.place.name for each in named})
        raise no_site(_everything(runner, done), missing[0])
    used = [each for each, role in _roles(runner, done) if role == ATTENTION]
    if not used:
        raise no_site(_everything(runner, done), None)
    if runner.plan.places != done.places:
        runner.plan.views.clear()
    runner.plan.places = done.places
    return used


def _require_weights(seen: Seen, done: Pass) -> None:
    """Raises for a submodule whose output is anything but attention."""
    given = seen.place.kind != "module" or seen.place.name in done.request.attention
    if given or seen.shown is None or is_functorch_wrapped_tensor(seen.shown):
        return
    if not _distributions(seen.shown, ()):
        raise AdapterError(
            f"site must name a submodule whose output is attention, rows that sum to 1; "
            f"got {seen.place.name!r}, whose output {tuple(seen.shown.shape)} is not. "
            "See adapt(model).sites(inputs)."
        )


def described_sites(runner: Runner, done: Pass) -> list[Site]:
    """Every place that looks like attention, in call order, with what speaks against it."""
    roles = _roles(runner, done)
    found = [seen.site(role, used=role == ATTENTION) for seen, role in roles]
    return found if any(site.used for site in found) else found + _outputs(runner, done)


def _roles(runner: Runner, done: Pass) -> list[tuple[Seen, str]]:
    """What each of the weights is, after trying what can be tried."""
    features, lengths = done.features(None), _lengths(done)
    follows = runner.plan.follows

    def role(seen: Seen) -> str:
        return role_of(seen, lengths, done.logits, follows.get(seen.place.name))

    roles = [(each, role(each)) for each in done.seen]
    tried = runner.plan.undecided.union(follows)
    doubtful = [
        each
        for each, found in roles
        if each.place.kind == "softmax" and each.place.name not in tried and _could_be(each, found)
    ]
    if not (doubtful and features):
        return roles
    follows.update(_confirmed(runner, done, doubtful, features))
    return [(each, role(each)) for each in done.seen]


def _lengths(done: Pass) -> set[int]:
    """How many positions the inputs have."""
    lengths = {each.value.shape[1] for each in done.features(None) if each.ids is not None}
    return lengths or _continuous_lengths(done)


def _could_be(seen: Seen, role: str) -> bool:
    return role == ATTENTION or (role != ELSEWHERE and is_gate(seen))


def _continuous_lengths(done: Pass) -> set[int]:
    """Lengths of continuous inputs (B, L, E) that are the keys of something."""
    keys = {each.raw.shape[-1] for each in done.seen}
    return {
        value.shape[1]
        for _, value in paths(done.request.inputs)
        if value.is_floating_point() and value.ndim == 3 and value.shape[0] == done.size
    } & keys


def _confirmed(
    runner: Runner, done: Pass, doubtful: list[Seen], features: list[Embedded]
) -> dict[str, bool]:
    """Whether keys follow an input: by its padding, or by a run on a shorter input."""
    inputs = done.request.inputs
    verdicts: dict[str, list[bool | None]] = {each.place.name: [] for each in doubtful}
    sources, taken = [], set[Any]()
    for feature in features:
        sources.append(source_of(feature, inputs, taken))
        taken.add(sources[-1].path)
    ways = [each.path for each in sources if each.path is not None]
    for source in sources:
        real = known_real(None, inputs, source, (done.size, source.length))
        left = [
            each
            for each in doubtful
            if each.raw.shape[-1] == source.length and True not in verdicts[each.place.name]
        ]
        padded = real is not None and not bool(real.all())
        sure = {each.place.name for each in left if padded and _ends_in_padding(each, real)}
        rest = [each for each in left if each.place.name not in sure]
        others = [way for way in ways if way != source.path]
        tried = _shortened(runner, done, rest, source, real, others) if rest else {}
        for name in (each.place.name for each in left):
            verdicts[name].append(True if name in sure else tried.get(name))
    return {
        name: True in found for name, found in verdicts.items() if found and None not in found
    } | {name: True for name, found in verdicts.items() if True in found}


def _shortened(
    runner: Runner,
    done: Pass,
    doubtful: list[Seen],
    source: Source,
    real: Tensor | None,
    others: list[Path],
) -> dict[str, bool]:
    """Whether keys get fewer with the positions of a source; {} where that cannot be tried."""
    real = torch.ones(done.size, source.length, dtype=torch.bool) if real is None else real
    rows = (real.sum(1) > 1).nonzero()[:, 0]
    if len(rows) == 0 or source.path is None:
        return {}
    try:
        inputs = select_rows(done.request.inputs, rows)
        real = real[rows]
        value = tensor_at(inputs, source.path)
        rest = [tensor_at(inputs, path) for path in others]
        places = torch.arange(source.length, device=real.device)
        shorter = delete_positions(
            inputs,
            (real * places).amax(1),
            real,
            ids=value,
            others=[each for each in rest if each is not None],
        )
        request = replace(
            done.request,
            inputs=shorter,
            only=frozenset(each.place.name for each in doubtful),
            attention={},
            features={},
            alternatives=0,
        )
        with torch.no_grad():
            short = runner.forward(request, len(rows))
    except (AdapterError, TypeError, ValueError):  # the input cannot be shortened
        runner.plan.undecided |= {each.place.name for each in doubtful}
        return {}
    now = tensor_at(shorter, source.path)
    if now is None:
        return {}
    keys = {each.place.name: each.raw.shape[-1] for each in short.seen}
    return {
        each.place.name: keys[each.place.name] == now.shape[1]
        for each in doubtful
        if each.place.name in keys
    }


def _ends_in_padding(seen: Seen, real: Tensor | None) -> bool:
    """Whether weights avoid the padding, which a choice among experts cannot."""
    if seen.shown is None or real is None or seen.shown.shape[-1] != real.shape[1]:
        return False
    weights = seen.shown.detach()
    peak = weights.flatten(1, -2).amax(1) if weights.ndim > 2 else weights
    return not bool((peak[~real.to(peak.device)] > 1e-6).any())


def _outputs(runner: Runner, done: Pass) -> list[Site]:
    """Submodules whose output looks like attention: rows over positions that sum to one."""
    names = tuple(name for name, _ in runner.module.named_modules() if name)
    request = replace(done.request, only=frozenset(names), outputs=names)
    with torch.no_grad():
        again = runner.forward(replace(request, attention={}, features={}), done.size)
    lengths = {each.value.shape[1] for each in again.found}
    return [
        each.site("attention", used=False)
        for each in again.seen
        if each.place.kind == "module" and _distributions(each.shown, lengths)
    ]


def _distributions(weights: Tensor | None, lengths: Iterable[int]) -> bool:
    if weights is None or not weights.is_floating_point() or weights.ndim not in (2, 3, 4):
        return False
    known = set(lengths)
    if known and weights.shape[-1] not in known:
        return False
    sums = weights.sum(-1)
    return bool((weights >= 0).all() and (((sums - 1).abs() < 1e-3) | (sums == 0)).all())


def _everything(runner: Runner, done: Pass) -> list[Site]:
    """All sites of a model, for a message."""
    with torch.no_grad():
        request = replace(
            done.request, only=None, attention={}, features={}, alternatives=0, outputs=()
        )
        return described_sites(runner, settled(runner, request))
