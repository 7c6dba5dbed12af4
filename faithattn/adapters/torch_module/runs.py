"""A run put together from a pass: sites, features, masks and supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.masks import find_mask, real_positions, told_masks
from faithattn.adapters.inputs.source import Source
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.adapters.torch_module.plan import Plan
from faithattn.adapters.torch_module.request import Pass, source_of
from faithattn.errors import AdapterError


class Supports(Mapping[str, Tensor]):
    """The keys that each row may use, by site; computed when asked for."""

    def __init__(self, rules: Mapping[str, Callable[[], Tensor]]) -> None:
        self._rules = rules

    def __getitem__(self, site: str) -> Tensor:
        return self._rules[site]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


@dataclass(frozen=True)
class Positions:
    """What is known of the positions of every site.

    Attributes:
        mask: By site (and by feature, where a site may have several): what can
            be explained.
        real: By site: what is no padding.
    """

    mask: dict[str, Tensor]
    real: dict[str, Tensor]

    def shared(self) -> Tensor | dict[str, Tensor]:
        """One mask where all are the same, else all of them."""
        masks = list(self.mask.values())
        first = masks[0]
        same = all(
            each is first or (each.shape == first.shape and torch.equal(each, first))
            for each in masks
        )
        return first if same else self.mask


def positions_of(
    done: Pass, used: list[Seen], features: list[Embedded], rule: Any, plan: Plan
) -> Positions:
    """Masks of the sites, each from the feature whose positions are its keys."""
    inputs, taken = done.request.inputs, set[Any]()
    sources: dict[str, Source] = {}
    for each in features:
        source = source_of(each, inputs, taken)
        sources[each.name] = source
        taken.add(source.path)
    plan.sources = {name: replace(each, ids=None) for name, each in sources.items()}
    mask: dict[str, Tensor] = {}
    real: dict[str, Tensor] = {}
    known: dict[Any, tuple[Tensor, Tensor]] = {}  # sites of one source mostly have one mask
    sites = {seen.place.name: seen for seen in used}
    alike: dict[Any, str] = {}  # and most sites are like another one
    for seen in used:
        name, weights = seen.place.name, shown(seen)
        shape = *weights.shape[-2:], seen.extras
        other = alike.get(shape)
        if other is not None:
            mask[name], real[name] = mask[other], real[other]
            plan.feature_of[name] = plan.feature_of[other]
            continue
        fitting = [each for each in sources.values() if _fits(each, seen)]
        options = [_masks(rule, inputs, each, seen, known) for each in fitting]
        kept = _agreeing(options, weights)
        if not fitting:
            mask[name], real[name] = _masks(rule, inputs, _own_source(seen), seen, known)
        elif len(kept) == 1 or _all_equal([options[index][0] for index in kept]):
            mask[name], real[name] = options[kept[0]]
            if len(kept) == 1:
                plan.feature_of[name] = fitting[kept[0]].name
            if len(fitting) == 1 and (fitting[0].name, weights.shape[-1]) in known:
                alike[shape] = name
        else:  # the caller names the feature in the view
            for index in kept:
                mask[fitting[index].name] = options[index][0]
    return Positions(mask, {name: _of_queries(real[name], sites[name]) for name in real})


def _of_queries(real: Tensor, seen: Seen) -> Tensor:
    """What is real among the queries, where those are the keys: in their own order."""
    lead, tail = seen.extras
    weights = shown(seen)
    if weights.ndim < 3 or weights.shape[-2] != weights.shape[-1] or not (lead or tail):
        return real
    positions = real[:, : real.shape[1] - lead - tail]
    return torch.nn.functional.pad(positions, (lead, tail), value=True)


def shown(seen: Seen) -> Tensor:
    """The weights of a site whose layout is known."""
    if seen.shown is None:
        raise AdapterError(
            f"attention[{seen.place.name!r}] must hold the instances on one of its axes; "
            f"got {tuple(seen.raw.shape)} (keys last), where none was found. "
            "Write an adapter with run() for this model."
        )
    return seen.shown


def supports_of(used: list[Seen]) -> Supports | None:
    """The supports of the sites that tell them."""
    rules = {each.place.name: each.support for each in used if each.support is not None}
    return Supports(rules) if rules else None


def _fits(source: Source, seen: Seen) -> bool:
    """Whether a site's keys are these positions, perhaps with extra keys at the end."""
    return shown(seen).shape[-1] - sum(seen.extras) == source.length


def _own_source(seen: Seen) -> Source:
    return Source("", shown(seen).shape[-1])


def _masks(
    rule: Any, inputs: Any, source: Source, seen: Seen, known: dict[Any, tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What can be explained and what is real at a site, if its keys are this source's."""
    weights = shown(seen)
    key = (source.name, weights.shape[-1])
    if source.name and key in known:
        return known[key]
    told = told_masks(rule, inputs, source, (len(weights), min(source.length, weights.shape[-1])))
    if told is not None:
        known[key] = both = _as_wide(told[0], weights), _as_wide(told[1], weights)
        return both
    mask = find_mask(rule, inputs, source, weights, seen.place.name, seen.support)
    shape = (mask.shape[0], min(source.length, mask.shape[1]))
    real = real_positions(rule, inputs, source, mask[:, : shape[1]], shape)
    return mask, _as_wide(real, weights)


def _as_wide(mask: Tensor, weights: Tensor) -> Tensor:
    """A mask with nothing to explain in the keys beyond its positions."""
    extra = weights.shape[-1] - mask.shape[1]
    wide = torch.nn.functional.pad(mask, (0, extra)) if extra else mask
    return wide.to(weights.device)


def _agreeing(options: list[tuple[Tensor, Tensor]], weights: Tensor) -> list[int]:
    """Which masks leave no attention outside what they call real; all if none does.

    One that calls real just what is attended to goes before others.
    """
    if len(options) < 2 or _all_equal([mask for mask, _ in options]):
        return list(range(len(options)))
    peak = weights.detach().flatten(1, -2).amax(1) if weights.ndim > 2 else weights.detach()
    kept = [
        index
        for index, (_, real) in enumerate(options)
        if not bool((peak[:, : real.shape[1]][~real] > 1e-6).any())
    ]
    exact = [index for index in kept if _are_attended(options[index][1], peak)]
    return exact or kept or list(range(len(options)))


def _are_attended(real: Tensor, peak: Tensor) -> bool:
    """Whether positions are real just where some row attends to them."""
    return torch.equal(real, peak[:, : real.shape[1]] > 1e-6)


def _all_equal(masks: list[Tensor]) -> bool:
    return all(each.shape == masks[0].shape and torch.equal(each, masks[0]) for each in masks)
