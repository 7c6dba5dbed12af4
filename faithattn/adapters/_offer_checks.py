"""Checks of what a run offers further: features, replay, selection, removal."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters._subject import Subject, modules
from faithattn.adapters.inputs import select
from faithattn.adapters.protocol import Run, SupportsRemoval, SupportsReplay
from faithattn.adapters.state import frozen


def features(subject: Subject) -> list[str]:
    """Features carry gradient and are taken back."""
    found = []
    weights = [p for module in modules(subject.adapter) for p in module.parameters()]
    with frozen(weights), torch.enable_grad():
        run = subject.adapter.run(subject.inputs)
        for name, feature in run.features.items():
            found += _feature_gradient(name, feature, run)
    for name, feature in subject.base.features.items():
        same = subject.moved(subject.logits(features={name: feature.detach()}))
        if same is not None:
            found.append(
                f"run(features=...) must give the same logits for the same features[{name!r}]; "
                f"got them {same:.2g} apart."
            )
        elif subject.moved(subject.logits(features={name: torch.zeros_like(feature)})) is None:
            found.append(
                f"run(features=...) must use features[{name!r}]; got the same logits for zeros."
            )
    if subject.logits().requires_grad:
        found.append("run() must obey torch.no_grad(); got logits that require gradients.")
    return found


def _feature_gradient(name: str, feature: Tensor, run: Run) -> list[str]:
    if not feature.requires_grad or not run.logits.requires_grad:
        return [
            f"features[{name!r}] must carry gradients to the logits where gradients are enabled, "
            "frozen weights or not; got none. Call .requires_grad_() on it before using it."
        ]
    (gradient,) = torch.autograd.grad(
        run.logits.sum(), feature, retain_graph=True, allow_unused=True
    )
    if gradient is None or not gradient.any():
        return [
            f"logits must depend on features[{name!r}]; got "
            f"{'no path' if gradient is None else 'a gradient of zero'}. Compute them from it."
        ]
    return []


def replay(subject: Subject) -> list[str]:
    """Replay agrees with run for any number of alternatives."""
    adapter, base = subject.adapter, subject.base
    if not isinstance(adapter, SupportsReplay):
        return []
    if base.state is None:
        return ["run() must return a state where replay() exists; got None. Pass state=..."]
    found = []
    size = base.logits.shape[0]
    for site in base.attention:
        for count in (1, size, size + 1):
            others = subject.alternatives(site, count)
            with torch.no_grad():
                replayed = adapter.replay(base.state, {site: others})
            expected = torch.stack([subject.logits(attention={site: each}) for each in others])
            gap = subject.moved(replayed, expected)
            if gap is not None:
                found.append(
                    f"replay of {site!r} must agree with run for K = {count}, B = {size}; got "
                    f"{tuple(replayed.shape)} for {tuple(expected.shape)}, {gap:.2g} apart."
                )
        found += _replay_gradient(subject, site)
    return found


def _replay_gradient(subject: Subject, site: str) -> list[str]:
    found = []
    with torch.enable_grad():
        run = subject.adapter.run(subject.inputs)
        leaf = subject.alternatives(site, 1).requires_grad_()
        logits = subject.adapter.replay(run.state, {site: leaf})  # type: ignore[attr-defined]
        targets = {"attention": leaf, **{f"features[{k!r}]": v for k, v in run.features.items()}}
        for name, target in targets.items():
            gradient = None
            if logits.requires_grad and target.requires_grad:
                (gradient,) = torch.autograd.grad(
                    logits.sum(), target, retain_graph=True, allow_unused=True
                )
            if gradient is None:
                found.append(
                    f"replay of {site!r} must be differentiable in {name}; got no gradient. "
                    "Keep the graph: no detach, no no_grad."
                )
    return found


def selection(subject: Subject) -> list[str]:
    """Rows run alone give what they give together."""
    size = subject.base.logits.shape[0]
    rows = torch.tensor([size - 1, 0, 0])
    with torch.no_grad():
        picked = subject.adapter.run(select(subject.adapter, subject.inputs, rows)).logits
    gap = subject.moved(picked, subject.base.logits[rows.to(subject.base.logits.device)])
    if gap is None:
        return []
    return [
        f"instances must not influence each other; got logits {gap:.2g} apart when rows "
        f"{rows.tolist()} were selected and run alone. Check select(), padding and normalisation."
    ]


def removal(subject: Subject) -> list[str]:
    """Removal shortens every row by one."""
    adapter, base = subject.adapter, subject.base
    if not isinstance(adapter, SupportsRemoval) or not isinstance(base.mask, Tensor):
        return []
    mask = base.mask
    rows = (mask.sum(1) > 1).nonzero()[:, 0]
    if len(rows) == 0:
        return []
    positions = mask[rows].byte().argmax(1)
    shortened = adapter.remove(select(adapter, subject.inputs, rows), positions)
    with torch.no_grad():
        after = adapter.run(shortened).mask
    expected = mask[rows].sum(1) - 1
    if isinstance(after, Tensor) and torch.equal(after.sum(1), expected):
        return []
    got = after.sum(1).tolist() if isinstance(after, Tensor) else type(after).__name__
    return [
        f"remove(inputs, positions) must shorten every row by one, to {expected.tolist()} real "
        f"positions; got {got}. Delete the position and what goes with it."
    ]
