"""Baselines by name: what stands for a position that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from faithattn._checks import require_floating
from faithattn.adapters.contract.subject import modules
from faithattn.errors import AdapterError
from faithattn.importance.attribution.explained import Explained
from faithattn.interventions.features import mean_feature

Baseline: TypeAlias = "str | Tensor"
BASELINES = ("zero", "mean", "pad", "mask")


def baselines_of(explained: Explained, given: Baseline | Sequence[Baseline]) -> Tensor:
    """Baselines ``(K, B, N, E)`` at the explained positions; K is 1 unless several are given."""
    several = [given] if isinstance(given, str | Tensor) else list(given)
    if not several:
        raise ValueError("baseline must name at least one; got none. Use 'zero'.")
    return torch.stack([explained.compact(_full(explained, each)) for each in several])


def check_baseline(given: object, method: str, *, several: bool) -> None:
    """Raises for what is no baseline, and for a sequence of them where one is needed."""
    if isinstance(given, str | Tensor):
        return
    if not isinstance(given, Sequence):
        raise TypeError(
            f"baseline must be a name, a tensor or a sequence of them; got {given!r}. "
            f"Names are {', '.join(BASELINES)}."
        )
    if not several:
        raise ValueError(
            f"baseline must be one for {method}; got a sequence. "
            "Use 'gradient_shap' or 'deep_lift_shap' for a distribution."
        )


def name_of_baseline(given: Baseline | Sequence[Baseline]) -> str:
    """What baselines are called in results."""
    if isinstance(given, str | Tensor):
        return given if isinstance(given, str) else "given"
    return ", ".join(name_of_baseline(each) for each in given)


def embedding_of(explained: Explained) -> nn.Module | None:
    """The module whose output is the feature, if the feature is named after one."""
    for part in modules(explained.reading.model):
        found: nn.Module | None = dict(part.named_modules()).get(explained.name)
        if found is not None:
            return found
    return None


def _full(explained: Explained, given: Baseline) -> Tensor:
    """A baseline ``(B, L, E)``."""
    feature = explained.feature
    if isinstance(given, Tensor):
        return _given(given, feature)
    if given == "zero":
        return torch.zeros_like(feature)
    if given == "mean":
        inside = explained.reading.rows.mask[:, : feature.shape[1]]
        return mean_feature(feature, inside)[:, None].expand_as(feature)
    if given in ("pad", "mask"):
        return _embedded(explained, given).to(feature).expand_as(feature)
    raise ValueError(
        f"baseline must be one of {', '.join(BASELINES)}, a tensor, or a sequence of them; "
        f"got {given!r}. 'zero' is the usual one."
    )


def _given(given: Tensor, feature: Tensor) -> Tensor:
    value = require_floating("baseline", given).detach()
    shapes = [tuple(feature.shape[first:]) for first in (2, 1, 0)]
    if tuple(value.shape) not in shapes:
        raise ValueError(
            f"baseline must have shape {shapes[0]}, {shapes[1]} or {shapes[2]}; "
            f"got {tuple(value.shape)}. Give one vector, or one for every position."
        )
    return value.to(feature).expand_as(feature)


def _embedded(explained: Explained, name: str) -> Tensor:
    """The embedding ``(E,)`` of the padding or of the mask token."""
    part = embedding_of(explained)
    token = None
    if isinstance(part, nn.Embedding):
        known = getattr(explained.reading.model, "mask_token_id", None)
        token = part.padding_idx if name == "pad" else known
    if token is None or not isinstance(part, nn.Embedding):
        kind = "padding id" if name == "pad" else "mask token"
        raise AdapterError(
            f"model must embed a known {kind} for baseline={name!r}; got features"
            f"[{explained.name!r}] without. Pass its embedding as a tensor, such as "
            "baseline=model.embedding.weight[0]."
        )
    return part.weight.detach()[token]
