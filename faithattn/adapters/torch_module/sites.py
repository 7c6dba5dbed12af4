"""Which of the weights that a pass came by are the model's attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from faithattn.adapters.inputs.deletion import delete_positions
from faithattn.adapters.inputs.masks import known_real
from faithattn.adapters.inputs.source import tensor_at
from faithattn.adapters.interception.site import Site
from faithattn.adapters.torch_module.choice import (
    ATTENTION,
    ELSEWHERE,
    choose_features,
    is_gate,
    no_site,
    role_of,
)
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.adapters.torch_module.passes import Pass, Runner, source_of
from faithattn.errors import AdapterError


def used_sites(runner: Runner, done: Pass) -> list[Seen]:
    """The sites that are asked for, or every one that is attention.

    Raises:
        AdapterError: If there is none, with the list of what was seen.
    """
    only = done.request.only
    if only is not None:
        named = [each for each in done.seen if each.place.name in only]
        if len({each.place.name for each in named}) == len(only):
            return named
        missing = sorted(only - {each.place.name for each in named})
        raise no_site(_everything(runner, done), missing[0])
    used = [each for each, role in _roles(runner, done) if role == ATTENTION]
    if not used:
        raise no_site(_everything(runner, done), None)
    return used


def described_sites(runner: Runner, done: Pass) -> list[Site]:
    """Every place that looks like attention, in call order, with what speaks against it."""
    roles = _roles(runner, done)
    found = [seen.site(role, used=role == ATTENTION) for seen, role in roles]
    return found if any(site.used for site in found) else found + _outputs(runner, done)


def _roles(runner: Runner, done: Pass) -> list[tuple[Seen, str]]:
    """What each of the weights is, after trying what can be tried."""
    features = choose_features(None, done.found) if done.found else []
    lengths = {each.value.shape[1] for each in features if each.ids is not None}
    follows = runner.plan.follows

    def role(seen: Seen) -> str:
        return role_of(seen, lengths, done.logits, follows.get(seen.place.name))

    fitting = [each for each in done.seen if _could_be(each, role(each))]
    doubtful = [
        each for each in fitting if each.place.kind == "softmax" and each.place.name not in follows
    ]
    if doubtful and features:
        follows.update(_confirmed(runner, done, doubtful, features))
    return [(each, role(each)) for each in done.seen]


def _could_be(seen: Seen, role: str) -> bool:
    return role == ATTENTION or (role != ELSEWHERE and is_gate(seen))


def _confirmed(
    runner: Runner, done: Pass, doubtful: list[Seen], features: list[Embedded]
) -> dict[str, bool]:
    """Whether keys follow the input: by its padding, or by a run on a shorter input."""
    sources = [source_of(each, done.request.inputs, set()) for each in features]
    source = sources[0]
    shape = (done.size, source.length)
    real = known_real(None, done.request.inputs, source, shape)
    told = {}
    for each in doubtful:
        if real is not None and not bool(real.all()) and _ends_in_padding(each, real):
            told[each.place.name] = True
    left = [each for each in doubtful if each.place.name not in told]
    if not left or source.path is None or source.length < 2:
        return told
    real = torch.ones(shape, dtype=torch.bool) if real is None else real
    if bool((real.sum(1) < 2).any()):
        return told
    value = tensor_at(done.request.inputs, source.path)
    others = [
        each
        for each in (tensor_at(done.request.inputs, more.path) for more in sources[1:] if more.path)
        if each is not None
    ]
    places = torch.arange(source.length, device=real.device)
    try:
        shorter = delete_positions(
            done.request.inputs, (real * places).amax(1), real, ids=value, others=others
        )
        names = frozenset(each.place.name for each in left)
        request = replace(
            done.request, inputs=shorter, only=names, attention={}, features={}, alternatives=0
        )
        with torch.no_grad():
            short = runner.forward(request, done.size)
    except (AdapterError, TypeError, ValueError):
        return told  # the input cannot be shortened
    now = tensor_at(shorter, source.path)
    if now is None:
        return told
    cut = source.length - now.shape[1]
    keys = {each.place.name: each.raw.shape[-1] for each in short.seen}
    for each in left:
        name = each.place.name
        if name in keys:
            told[name] = each.raw.shape[-1] - keys[name] == cut
    return told


def _ends_in_padding(seen: Seen, real: Tensor) -> bool:
    """Whether weights avoid the padding, which a choice among experts cannot."""
    if seen.shown is None or seen.shown.shape[-1] != real.shape[1]:
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
        return described_sites(runner, runner.settled(request))
