"""Checks of what a run offers further: features, replay, selection."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.contract.subject import Subject, modules
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import Run, SupportsReplay
from faithattn.adapters.state import frozen

_NOT_DIFFERENTIABLE = (
    "replay of {!r} must be differentiable in {}; got {}. Keep the graph: no detach, no no_grad."
)


def features(subject: Subject) -> list[str]:
    """Features carry gradient and are taken back."""
    found = []
    weights = [weight for part in modules(subject.adapter) for weight in part.parameters(False)]
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
        elif not _used(subject, name, feature):
            found.append(
                f"run(features=...) must use features[{name!r}]; got the same logits for zeros."
            )
    if subject.logits().requires_grad:
        found.append("run() must obey torch.no_grad(); got logits that require gradients.")
    return found


def _used(subject: Subject, name: str, feature: Tensor) -> bool:
    """Whether zeros in place of the features change the logits or the attention."""
    with torch.no_grad():
        run = subject.adapter.run(subject.inputs, features={name: torch.zeros_like(feature)})
    pairs = [(run.logits, subject.base.logits)]
    pairs += [(run.attention[site], own) for site, own in subject.base.attention.items()]
    return any(subject.moved(value, own) is not None for value, own in pairs)


def _feature_gradient(name: str, feature: Tensor, run: Run) -> list[str]:
    if not feature.requires_grad or not run.logits.requires_grad:
        return [
            f"features[{name!r}] must carry gradients to the logits where gradients are enabled, "
            "frozen weights or not; got none. Call .requires_grad_() on it before using it."
        ]
    # Where all values are equal, only the attention depends on the features.
    outputs = [run.logits, *run.attention.values()]
    total = torch.stack([_weighted(value.flatten(1)) for value in outputs if value.requires_grad])
    (gradient,) = torch.autograd.grad(total.sum(), feature, retain_graph=True, allow_unused=True)
    if gradient is None or not gradient.any():
        return [
            f"logits must depend on features[{name!r}]; got "
            f"{'no path' if gradient is None else 'a gradient of zero'}. Compute them from it."
        ]
    if not torch.isfinite(gradient).all():
        return [
            f"features[{name!r}] must have finite gradients; got NaN or infinity. "
            "Fill masked scores with a large negative number instead of -inf."
        ]
    return []


def _weighted(logits: Tensor) -> Tensor:
    """A sum in which opposite logits do not cancel."""
    weights = 1 / torch.arange(1, logits.shape[-1] + 1, device=logits.device)
    return (logits * weights.to(logits.dtype)).sum()


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
        for count in sorted({1, size, size + 1}):
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
    """Replay carries the gradients that a whole run with the same attention does."""
    with torch.enable_grad():
        leaf = subject.alternatives(site, 1).requires_grad_()
        run = subject.adapter.run(subject.inputs)
        replayed = subject.adapter.replay(run.state, {site: leaf})  # type: ignore[attr-defined]
        whole = subject.adapter.run(subject.inputs, attention={site: leaf[0].detach()})
        pairs = {
            f"features[{name!r}]": (
                _gradient(replayed, run.features[name]),
                _gradient(whole.logits, feature),
            )
            for name, feature in whole.features.items()
            if name in run.features
        }
        in_attention = _gradient(replayed, leaf)
    noise = 1e-3 if leaf.dtype in (torch.float32, torch.float64) else 5e-2
    found = []
    if in_attention is None:
        found.append(_NOT_DIFFERENTIABLE.format(site, "attention", "no gradient"))
    for name, (given, expected) in pairs.items():
        if expected is None or not expected.any():
            continue  # the values do not depend on it: only the attention does
        if given is None:
            found.append(_NOT_DIFFERENTIABLE.format(site, name, "no gradient"))
        elif not (given - expected).abs().max() <= noise * expected.abs().max():
            found.append(_NOT_DIFFERENTIABLE.format(site, name, "another gradient than run"))
    return found


def _gradient(logits: Tensor, target: Tensor) -> Tensor | None:
    if not logits.requires_grad or not target.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(
        _weighted(logits), target, retain_graph=True, allow_unused=True
    )
    return gradient


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
