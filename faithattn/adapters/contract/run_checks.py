"""Checks of run(): what it repeats, leaves alone, overrides and masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faithattn.adapters.contract.subject import Subject, modules
from faithattn.adapters.rows import site_mask
from faithattn.adapters.state import condition, modes_of


def repeatable(subject: Subject) -> list[str]:
    """Two identical runs agree, wherever the random state stands."""
    with torch.random.fork_rng():
        torch.rand(1)
        gap = subject.moved(subject.logits())
    if gap is None:
        return []
    return [
        f"two identical runs must agree; got logits {gap:.2g} apart. "
        "Evaluate in eval mode inside run(), without dropout or sampling."
    ]


def leaves_no_trace(subject: Subject) -> list[str]:
    """Runs in every mode: it must not matter, and must be there afterwards."""
    parts = modules(subject.adapter)
    after = condition(parts)
    changed = {what for what in after if after[what] != subject.before[what]}
    gaps = []
    # A mode that is set for the whole model shows only where some part had the other one.
    alternating = [index % 2 == 0 for index in range(len(parts))]
    for wanted in ([True] * len(parts), [False] * len(parts), alternating):
        gap, traces = _run_in(subject, parts, wanted)
        gaps += [] if gap is None else [gap]
        changed |= traces
    found = []
    if gaps:
        found.append(
            f"run() must evaluate in eval mode; got logits {max(gaps):.2g} apart with the model in "
            "train and in eval mode. Switch to eval inside run() and back afterwards."
        )
    found += [
        f"run() must leave {what} as it was; got a change. Restore it." for what in sorted(changed)
    ]
    return found


def _run_in(
    subject: Subject, parts: list[nn.Module], wanted: list[bool]
) -> tuple[float | None, set[str]]:
    """How far a run in these modes moves the logits, and what it changes."""
    with modes_of(parts, wanted):
        before = condition(parts)
        gap = subject.moved(subject.logits())
        after = condition(parts)
    return gap, {what for what in before if before[what] != after[what]}


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
    idle = []  # a site that a model computes and does not use is no fault, if another is
    for site, weights in subject.base.attention.items():
        other = subject.alternatives(site, 1)[0]
        with torch.no_grad():
            run = subject.adapter.run(subject.inputs, attention={site: other})
        # A layer norm behind the attention undoes a factor, but not one below its epsilon.
        scaled = any(
            subject.moved(subject.logits(attention={site: factor * weights})) is not None
            for factor in (2, 1e-6)
        )
        if not scaled and subject.moved(run.logits) is None:
            idle.append(
                f"an override of {site!r} must reach the output; got the same logits. "
                "Use attention[site] in place of the model's own weights."
            )
        elif not scaled:
            found.append(
                f"an override of {site!r} must be used as given; got the same logits for twice "
                "the weights. Do not normalise it again."
            )
        if not _same(run.attention.get(site), other):
            found.append(
                f"run(attention=...) must report the override of {site!r}; got other weights."
            )
    return found + (idle if len(idle) == len(subject.base.attention) else [])


def _same(reported: Tensor | None, given: Tensor) -> bool:
    if reported is None or reported.shape != given.shape:
        return False
    return bool(((reported - given).abs() <= 1e-6).all())


def mask_meaning(subject: Subject) -> list[str]:
    """The mask is True at real positions."""
    found = []
    for site, weights in subject.base.attention.items():
        mask = site_mask(subject.base, site)
        if mask.shape != (weights.shape[0], weights.shape[-1]):
            continue
        used = weights.detach().flatten(1, -2).amax(1) if weights.ndim > 2 else weights
        telling = ~mask.all(1) & used.any(1)
        if telling.any() and not (used * mask)[telling].any():
            found.append(
                "mask must be True at real positions and False at padding; got attention only "
                f"where it is False ({site!r}). Invert it."
            )
        elif _zeros_at_an_end(used, mask) and _stays_zero(subject, site, used):
            found.append(
                "mask must be False at padding; got True at an end of rows whose attention is "
                f"exactly zero there ({site!r}). Exclude the padding."
            )
    return found


def _zeros_at_an_end(used: Tensor, mask: Tensor) -> bool:
    """Whether real positions have zero weight only at one end of some rows, as padding does."""
    zero = (used == 0) & mask
    rows = zero.any(1)
    if not rows.any() or rows.all():
        return False
    head = zero.int().cumprod(1).bool()
    tail = zero.int().flip(1).cumprod(1).flip(1).bool()
    return torch.equal(zero, head) or torch.equal(zero, tail)


def _stays_zero(subject: Subject, site: str, used: Tensor) -> bool:
    """Whether the zeros stay in place when the features are turned around.

    Padding does; positions that sparse attention leaves out move with them.
    """
    turned = {
        name: value.flip(1)
        for name, value in subject.base.features.items()
        if value.shape[1] == used.shape[-1]
    }
    if not turned:
        return True
    with torch.no_grad():
        weights = subject.adapter.run(subject.inputs, features=turned).attention[site]
    again = weights.flatten(1, -2).amax(1) if weights.ndim > 2 else weights
    return torch.equal(again == 0, used == 0)
