"""Scores of single rows: the weights, their gradients, and both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faithattn.adapters.protocol import AttentionModel, Run
from faithattn.adapters.state import differentiating
from faithattn.errors import AdapterError
from faithattn.explanations.asked import (
    Asked,
    differentiable,
    require_gradient,
    target_logit,
    target_probability,
    weights_of,
)


def attention(asked: Asked) -> Tensor:
    """The mean of the chosen rows."""
    return asked.reading.rows.explanation


def attention_gradient(asked: Asked) -> Tensor:
    """Gradient of the target's probability by the chosen weights, summed over rows; signed."""
    rows = asked.reading.rows
    slopes = _row_slopes(asked)
    kept = torch.where(rows.counted[..., None] & rows.valid, slopes, 0)
    return kept.sum(1).masked_fill(~rows.mask, 0)


def gradient_attention(asked: Asked) -> Tensor:
    """The same gradient times the weights, summed over rows; signed."""
    rows = asked.reading.rows
    products = _row_slopes(asked) * weights_of(rows)
    kept = torch.where(rows.counted[..., None], products, 0)
    return kept.sum(1).masked_fill(~rows.mask, 0)


def _row_slopes(asked: Asked) -> Tensor:
    """Gradient ``(B, R, L)`` of the target's probability by the chosen rows."""
    reading = differentiable(asked.reading)
    rows, names = asked.reading.rows, list(asked.reading.rows.attention)
    slopes = slopes_of(asked, reading.model, reading.run, names)
    return rows.of(dict(zip(names, slopes, strict=True))).to(rows.conditional.dtype)


def slopes_of(
    asked: Asked,
    model: AttentionModel,
    run: Run,
    names: Sequence[str],
    *,
    logit: bool = False,
) -> list[Tensor]:
    """Gradient of the target's probability, or logit, by all weights of some sites.

    Later attention is recomputed from what the weights change. Where an
    adapter's logits do not come from the very weights that it returns, the
    model is run again with each site's weights given to it.

    Raises:
        AdapterError: If the logits do not depend on the attention.
    """
    explained = target_logit if logit else target_probability
    weights = [run.attention[name] for name in names]
    with differentiating():
        leaves = [each for each in weights if each.requires_grad]
        total = explained(asked, run.logits).sum()
        found = torch.autograd.grad(total, leaves, allow_unused=True) if leaves else ()
        known = iter(found)
        slopes = [next(known) if each.requires_grad else None for each in weights]
        for index, name in enumerate(names):
            if slopes[index] is None:
                slopes[index] = _by_override(asked, model, run, name, logit)
    return [each.detach() for each in slopes if each is not None]


def _by_override(asked: Asked, model: AttentionModel, run: Run, name: str, logit: bool) -> Tensor:
    leaf = run.attention[name].detach().clone().requires_grad_()
    logits = model.run(asked.reading.inputs, attention={name: leaf}).logits
    require_gradient(asked.reading, logits)
    explained = target_logit if logit else target_probability
    (slope,) = torch.autograd.grad(explained(asked, logits).sum(), leaf, allow_unused=True)
    if slope is None:
        raise AdapterError(
            f"logits must depend on attention[{name!r}]; got no path between them. "
            "Compute them from the weights that run() is given."
        )
    return slope
