"""Scores through all layers of self-attention: rollout, flow, relevance."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.adapters.protocol import AttentionModel, Run
from faithattn.adapters.roles import is_cross, listing
from faithattn.adapters.rows import Rows
from faithattn.adapters.state import differentiating
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.validate import validate_run
from faithattn.errors import AdapterError
from faithattn.explanations.asked import Asked, mean_of_queries, require_gradient, split
from faithattn.explanations.weights import slopes_of
from faithattn.measures.attention.flow import attention_flow
from faithattn.measures.attention.relevance import attention_relevance
from faithattn.measures.attention.rollout import attention_rollout

_DECODER = re.compile(r"(^|[._])decoder([._]|$)")


@dataclass(frozen=True)
class _Everywhere:
    """A run in which every site was looked at."""

    model: AttentionModel
    run: Run


def rollout(asked: Asked) -> Tensor:
    """Row of the query in the product of attention with its residual over layers."""

    def one(layers: list[Tensor], rows: Tensor) -> Tensor:
        return attention_rollout(layers, rows=rows) if layers else rows

    return _through(asked, one)


def flow(asked: Asked) -> Tensor:
    """Maximum flow from the query to each position, through attention with its residual."""
    mask = asked.reading.rows.mask

    def one(layers: list[Tensor], rows: Tensor) -> Tensor:
        return attention_flow(layers, rows=rows, mask=mask) if layers else rows

    return _through(asked, one)


def _through(asked: Asked, one: Callable[[list[Tensor], Tensor], Tensor]) -> Tensor:
    """Applies a rule to the layers below each chosen site, from its queries or rows."""
    rows = asked.reading.rows
    with torch.no_grad():
        every = _everywhere(asked)
    weights = {name: _wide(each.detach()) for name, each in every.run.attention.items()}
    means = split(rows, rows.of({name: weights[name] for name in rows.attention})).mean(2)
    found = []
    for index, name in enumerate(rows.attention):
        below = _below(every.run, name, rows)
        start = means[:, index] if name not in below else _one_hot(rows, index, means)
        found.append(one([weights[each] for each in below], start))
    return mean_of_queries(rows, torch.stack(found, 1))


def relevance(asked: Asked) -> Tensor:
    """Row of the query in the relevance through all layers, its own start left out."""
    rows = asked.reading.rows
    with differentiating():
        every = _everywhere(asked)
    require_gradient(asked.reading, every.run.logits)
    stacks = [_below(every.run, name, rows) for name in rows.attention]
    names = list(dict.fromkeys([*(name for stack in stacks for name in stack), *rows.attention]))
    slopes = slopes_of(asked, every.model, every.run, names, logit=True)
    gradient = {name: _wide(slope) for name, slope in zip(names, slopes, strict=True)}
    weights = {name: _wide(every.run.attention[name].detach()) for name in names}
    product = {name: (gradient[name] * weights[name]).clamp_min(0) for name in rows.attention}
    means = split(rows, rows.of(product)).mean(2)
    found = []
    for index, (name, below) in enumerate(zip(rows.attention, stacks, strict=True)):
        own = name in below
        start = _one_hot(rows, index, means) if own else means[:, index]
        stack = [weights[each] for each in below], [gradient[each] for each in below]
        reached = attention_relevance(*stack, rows=start) if below else start
        found.append(reached - start if own else reached)
    return mean_of_queries(rows, torch.stack(found, 1))


def _everywhere(asked: Asked) -> _Everywhere:
    """Runs the model once more, with all its sites in view."""
    model = asked.reading.model
    model = model.unfocused() if isinstance(model, TorchAdapter) else model
    run = model.run(asked.reading.inputs)
    validate_run(run, support=False)
    return _Everywhere(model, run)


def _below(run: Run, site: str, rows: Rows) -> list[str]:
    """Self-attention over the positions of a site up to it, in call order; itself included.

    Raises:
        AdapterError: If a layer has other positions than the site.
    """
    attention = run.attention
    own = not is_cross(site, attention)
    names = list(attention)
    names = names[: names.index(site) + own]
    found = [
        name
        for name in names
        if not is_cross(name, attention) and _same_positions(run, site, name, own)
    ]
    length = rows.mask.shape[1]
    other = [name for name in found if attention[name].shape[-2:] != (length, length)]
    if other:
        raise AdapterError(
            f"attention must have the same positions in every layer up to {site!r}, as queries "
            f"and as keys, here {length}; got {listing({name: attention[name] for name in other})}."
            " Use an explanation of single rows, such as 'attention' or 'gradient_attention'."
        )
    return found


def _same_positions(run: Run, site: str, name: str, own: bool) -> bool:
    """Whether a layer belongs to the positions of a site, not to an encoder's or decoder's."""
    told = getattr(run.state, "feature_of", None)
    told = told if isinstance(told, Mapping) else {}
    if site in told and name in told:
        return bool(told[site] == told[name])
    decodes = _DECODER.search(name) is not None
    if own:
        return decodes == (_DECODER.search(site) is not None)
    others = [each for each in run.attention if not is_cross(each, run.attention)]
    return not decodes or all(_DECODER.search(each) for each in others)


def _one_hot(rows: Rows, index: int, like: Tensor) -> Tensor:
    """Rows ``(B, queries, L)`` with 1 at each query's own position."""
    own = rows.queries[:, index, :, None].to(like.device)
    start = torch.zeros(like.shape[0], own.shape[1], like.shape[-1], device=like.device)
    return start.to(like.dtype).scatter_(-1, own, 1)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
