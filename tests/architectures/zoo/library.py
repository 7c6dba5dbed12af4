"""Entries from models of the transformers library, with random weights of small configurations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA, Entry, Weights, architecture, built, evaluated, texts

NEEDS = "transformers"
LENGTHS = (7, 5, 8)
SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


@dataclass(frozen=True)
class Recipe:
    """How to build an entry from a library model.

    Attributes:
        model: Name of the class in transformers.
        config: Name of its configuration class.
        settings: Keywords of the configuration.
        sites: Names of the attention in the order of the calls.
        feature: Path of the module whose output is the feature.
        inputs: Keywords of the model.
        attentions: Takes the weights, in the order of the sites, from what an
            eager model returns with ``output_attentions=True``; or by name.
        keep: Where the model returns no weights: takes them, in the canonical
            layout, from a module of a site, what it was given and returned.
        more: Further fields of the entry.
    """

    model: str
    config: str
    settings: Mapping[str, Any]
    sites: tuple[str, ...]
    feature: str
    inputs: Mapping[str, Any]
    attentions: Callable[[Any], Any] = lambda returned: returned.attentions
    keep: Callable[[nn.Module, Any, Any], Tensor] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def layers(pattern: str, count: int = 2) -> tuple[str, ...]:
    """A path for every layer."""
    return tuple(pattern.format(index) for index in range(count))


def padded(**more: Any) -> dict[str, Any]:
    """Ids and their mask, padded at the end."""
    ids = texts(LENGTHS)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), **more}


def padded_left() -> dict[str, Any]:
    """The same, padded at the beginning."""
    return {
        key: torch.stack([row.roll(8 - n) for row, n in zip(each, LENGTHS, strict=True)])
        for key, each in padded().items()
    }


def make(recipe: Recipe, variant: str) -> nn.Module:
    """The model of a recipe; the same parameters whatever its attention is computed with."""
    import transformers

    settings = dict(recipe.settings)
    config = getattr(transformers, recipe.config)(**settings)
    if variant:
        config._attn_implementation = variant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own remarks on its configurations
        model = built(lambda: getattr(transformers, recipe.model)(config))
    settle(model, recipe.inputs)
    return model  # type: ignore[no-any-return]


def settle(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Lets batch normalisation, if any, learn its statistics; signals fade away otherwise."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None
    if norms:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model(**inputs)


def entry(recipe: Recipe, variant: str) -> Entry:
    """The entry of a recipe."""
    model = make(recipe, variant)

    def own() -> Weights:
        twin = make(recipe, "eager")
        call = recipe.more.get("options", {}).get("call", lambda model, given: model(**given))
        inputs = {**recipe.inputs, "output_attentions": True}
        with evaluated(twin):
            if recipe.keep is not None:
                return watched(twin, recipe.sites, recipe.keep, lambda: call(twin, recipe.inputs))
            weights = recipe.attentions(call(twin, inputs))
        if isinstance(weights, dict):
            return weights
        return dict(zip(recipe.sites, weights, strict=True))

    more = {"view": AttentionView(recipe.sites[-1], query=0), **recipe.more}
    more.setdefault("feature_name", recipe.feature)
    return Entry(model, dict(recipe.inputs), recipe.sites, own, recipe.feature, **more)


def watched(
    model: nn.Module,
    sites: tuple[str, ...],
    keep: Callable[[nn.Module, Any, Any], Tensor],
    forward: Callable[[], Any],
) -> Weights:
    """The weights by forward hooks on the modules of the sites."""
    seen: Weights = {}
    parts = dict(model.named_modules())

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, returned: seen.__setitem__(name, keep(module, args, returned))

    handles = [parts[name].register_forward_hook(hook(name)) for name in sites]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def registered(
    name: str, recipe: Callable[[], Recipe], variants: tuple[str, ...] = EAGER_AND_SDPA
) -> None:
    """Puts a recipe into the zoo."""
    architecture(name, variants=variants, needs=NEEDS)(lambda variant: entry(recipe(), variant))


def flattened(*groups: Any) -> list[Any]:
    """Groups interleaved: one of each in turn."""
    return [each for turn in zip(*groups, strict=True) for each in turn]
