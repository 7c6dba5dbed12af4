"""Checks of run(): what it repeats, leaves alone, overrides and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters._subject import Subject, modules
from faithattn.adapters.state import condition, training_mode
from faithattn.adapters.view import site_mask


def repeatable(subject: Subject) -> list[str]:
    """Two identical runs agree."""
    gap = subject.moved(subject.logits())
    if gap is None:
        return []
    return [
        f"two identical runs must agree; got logits {gap:.2g} apart. "
        "Evaluate in eval mode inside run(), without dropout or sampling."
    ]


def leaves_no_trace(subject: Subject) -> list[str]:
    """Runs in train mode: the mode must not matter, and must be there afterwards."""
    parts = [part for module in modules(subject.adapter) for part in module.modules()]
    with training_mode(parts):
        before, random = condition(parts), torch.random.get_rng_state()
        gap = subject.moved(subject.logits())
        after = condition(parts)
        same_random = torch.equal(random, torch.random.get_rng_state())
    found = []
    if gap is not None:
        found.append(
            f"run() must evaluate in eval mode; got logits {gap:.2g} apart when the model was in "
            "train mode. Switch to eval inside run() and back afterwards."
        )
    found += [
        f"run() must leave the model's {what} as it was; got a change. Restore it."
        for what in before
        if before[what] != after[what]
    ]
    if not same_random:
        found.append("run() must leave the global random state alone; got a change.")
    return found


def identity(subject: Subject) -> list[str]:
    """The model's own attention, put in, leaves the logits."""
    gap = subject.moved(subject.logits(attention=dict(subject.base.attention)))
    if gap is None:
        return []
    return [
        f"an identity override must leave the logits; got them {gap:.2g} apart. "
        "Return in attention exactly the weights that the model multiplies by its values."
    ]


def override(subject: Subject) -> list[str]:
    """Other attention reaches the output, used as given."""
    found = []
    for site, weights in subject.base.attention.items():
        other = subject.alternatives(site, 1)[0]
        moved = subject.moved(subject.logits(attention={site: other}))
        scaled = subject.moved(subject.logits(attention={site: 2 * weights}))
        if moved is None and scaled is None:
            found.append(
                f"an override of {site!r} must reach the output; got the same logits. "
                "Use attention[site] in place of the model's own weights."
            )
        elif scaled is None:
            found.append(
                f"an override of {site!r} must be used as given; got the same logits for twice "
                "the weights. Do not normalise it again."
            )
        with torch.no_grad():
            reported = subject.adapter.run(subject.inputs, attention={site: other}).attention
        if site in reported and not torch.allclose(reported[site], other, atol=1e-6):
            found.append(
                f"run(attention=...) must report the override of {site!r}; got other weights."
            )
    return found


def mask_meaning(subject: Subject) -> list[str]:
    """The mask is True at real positions."""
    found = []
    for site, weights in subject.base.attention.items():
        mask = site_mask(subject.base, site)
        if mask.shape != (weights.shape[0], weights.shape[-1]):
            continue
        used = weights.detach().flatten(1, -2).amax(1) if weights.ndim > 2 else weights
        partial = mask.any(1) & (~mask).any(1)
        if partial.any() and not (used * mask)[partial].any():
            found.append(
                "mask must be True at real positions and False at padding; got attention only "
                f"where it is False ({site!r}). Invert it."
            )
        elif _ends_in_zeros(used, mask):
            found.append(
                "mask must be False at padding; got True at the end of rows whose attention is "
                f"exactly zero there ({site!r}). Exclude the padding."
            )
    return found


def _ends_in_zeros(used: Tensor, mask: Tensor) -> bool:
    """Whether real positions have zero weight only as a tail of some rows, as padding does."""
    zero = (used == 0) & mask
    rows = zero.any(1)
    if not rows.any() or rows.all():
        return False
    tail = zero.int().flip(1).cumprod(1).flip(1).bool()
    return bool((zero == tail).all())
