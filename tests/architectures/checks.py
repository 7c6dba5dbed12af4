"""What every architecture is held to: each check returns what the table shows, or fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.adapters.reading import Reading, read

from .zoo import Case, build
from .zoo.entry import Entry, Weights
from .zoo.oracle import Hand, by_hand

ALTERNATIVES = 3
MANY = 100_000  # alternatives announced: recording is worth it even for these small models


@cache
def adapter_of(case: Case) -> Any:
    """One adapter a case, as a user would keep it."""
    entry = build(case)
    return adapt(entry.model, **entry.options)


@cache
def weights_of(case: Case) -> Weights:
    """The attention that the adapter sees."""
    with torch.no_grad():
        return dict(adapter_of(case).run(build(case).inputs).attention)


def site_of(case: Case) -> str:
    """The site that is tested alone."""
    entry = build(case)
    return next(iter(weights_of(case))) if entry.view is None else str(entry.view.site)


def capture(case: Case) -> str:
    """Weights are those that the model computes by itself; nothing else is taken for attention."""
    entry, seen = build(case), dict(weights_of(case))
    own = {name: each.detach() for name, each in entry.own_weights().items()}
    assert set(seen) <= set(entry.sites), f"no attention: {set(seen) - set(entry.sites)}"
    for name in set(own) - set(seen):
        seen[name] = _named(case, name)
    for name, each in own.items():
        assert seen[name].shape == each.shape, f"{name} {seen[name].shape}, own {each.shape}"
    gaps = [
        ((seen[name] - own[name]) * entry.compared.get(name, torch.tensor(1))).abs().max()
        for name in own
    ]
    return _within(max(gaps), 2e-6)


def _named(case: Case, name: str) -> Tensor:
    """Weights that are no attention to the input, for instance among latents: seen if named."""
    entry = build(case)
    roles = {site.name: site.role for site in adapter_of(case).sites(entry.inputs)}
    assert roles.get(name) == "keys are no positions", f"{name} is {roles.get(name, 'unseen')}"
    with torch.no_grad():
        run = adapt(entry.model, **{**entry.options, "site": name}).run(entry.inputs)
    return run.attention[name]


def identity(case: Case) -> str:
    """Attention put back as it was, as tensors and by a function, moves nothing."""
    entry, adapter = build(case), adapter_of(case)
    with torch.no_grad():
        before = adapter.run(entry.inputs).logits
        for given in (weights_of(case), dict.fromkeys(weights_of(case), lambda weights: weights)):
            after = adapter.run(entry.inputs, attention=given).logits
            shown = _within((after - before).abs().max(), 1e-5)
    return shown


def gradient(case: Case) -> str:
    """Gradients for attention and feature are those of hooks on a patched model."""
    entry, adapter = build(case), adapter_of(case)
    with torch.enable_grad():
        run = adapter.run(entry.inputs)
        alone = read(adapter, entry.inputs, view_of(case)).run  # as the tests ask for it
        hand = by_hand(entry)
        ours = _gradients(run.logits, list(run.attention.values()))
        theirs = _gradients(hand.logits, [hand.attention[name] for name in run.attention])
        if entry.feature_name:
            ours += _gradients(alone.logits, [alone.features[entry.feature_name]])
            felt = _gradients(hand.logits, [_feature(hand)])[0] * entry.feature_scale
            theirs.append(_turned(felt, ours[-1]))
            assert ours[-1].abs().max() > 0, "no gradient for the feature"
    assert ours[list(run.attention).index(site_of(case))].abs().max() > 0, "none for the attention"
    scale = [max(1.0, float(each.abs().max())) for each in theirs]
    gaps = [
        (one - other).abs().max() / size
        for one, other, size in zip(ours, theirs, scale, strict=True)
    ]
    return _within(max(gaps), 1e-5)


def override(case: Case) -> str:
    """Other attention, at one site or at all, gives the logits of a computation by hand."""
    entry, adapter = build(case), adapter_of(case)
    everywhere = {name: _random(each) for name, each in weights_of(case).items()}
    shown = ""
    with torch.no_grad():
        before = entry.forward()
        for given in ({site_of(case): everywhere[site_of(case)]}, everywhere):
            after = adapter.run(entry.inputs, attention=given).logits
            assert (after - before).abs().max() > 1e-3, "the override changes nothing"
            shown = _within((after - by_hand(entry, given).logits).abs().max(), 1e-5)
    return shown


def replay(case: Case) -> str:
    """Alternatives at once are those one after the other; says how they were computed."""
    first = AttentionView(next(iter(weights_of(case))))  # all that is behind it is recorded, too
    ways, gaps = set(), []
    with torch.no_grad():
        for view in (view_of(case), first):
            for announced in (0, MANY):  # whole forwards, as a rule, and a recording
                reading = read(adapter_of(case), build(case).inputs, view, replay=announced)
                gaps.append(_gap(case, str(view.site), reading))
            ways.add(reading.replayed)
    shown = _within(max(gaps), 1e-5)
    assert ways == {build(case).replayed}, f"replayed by {' and '.join(sorted(ways))}"
    return f"{shown} {build(case).replayed}"


def _gap(case: Case, site: str, reading: Reading) -> float:
    """How far a replay of three alternatives is from three whole runs."""
    kept = torch.stack([_random(weights_of(case)[site], seed) for seed in range(ALTERNATIVES)])
    runs = [adapter_of(case).run(build(case).inputs, attention={site: each}) for each in kept]
    replayed = reading.replay_override({site: kept})
    return float((replayed - torch.stack([run.logits for run in runs])).abs().max())


def view_of(case: Case) -> AttentionView:
    """The entry's view, or the only row."""
    return build(case).view or AttentionView(site_of(case))


def tests(case: Case) -> str:
    """The four published tests run, and what they leave undefined is nan and counted."""
    entry, adapter = build(case), adapter_of(case)
    given: dict[str, Any] = {"view": entry.view}
    taus = [loo_correlation(adapter, entry.inputs, removal=entry.removal, **given)]
    if entry.feature_name:
        taus.append(gradient_correlation(adapter, entry.inputs, **given))
    else:
        _refused(lambda: gradient_correlation(adapter, entry.inputs, **given))
    shuffled = permutation_test(adapter, entry.inputs, n_permutations=5, seed=0, **given)
    given |= {"n_adversaries": 2, "n_steps": 5, "seed": 0}
    found = adversarial_attention(adapter, entry.inputs, **given)
    size = weights_of(case)[site_of(case)].shape[0]
    values = [*(tau.statistic for tau in taus), shuffled.tvd, found.jsd]
    shapes = [*((size,) for _ in taus), (size, 5), (size, 2)]
    assert [tuple(each.shape) for each in values] == shapes
    assert not any(each.isinf().any() for each in values)
    assert (shuffled.tvd > 0).any(), "no shuffle changes anything"
    undefined = sum(int(each.isnan().sum()) for each in values)
    results: list[Any] = [*taus, shuffled, found]
    counted = sum(each.summary().overall.undefined for each in results)
    assert (undefined == 0) == (counted == 0)
    remark = "" if entry.feature_name else " but for gradients: no feature"
    return f"✓{remark}{f', {undefined} undefined' if undefined else ''}"


def _refused(test: Callable[[], Any]) -> None:
    """A test that needs a feature says so where a model has none."""
    try:
        test()
    except AdapterError as error:
        assert "features" in str(error)
    else:
        raise AssertionError("there is a feature after all")


def plain(case: Case) -> str:
    """Watching a model does not change what it says."""
    entry = build(case)
    with torch.no_grad():
        gap = (adapter_of(case).run(entry.inputs).logits - entry.forward()).abs().max()
    return _within(gap, 1e-5)


def unchanged(case: Case) -> str:
    """Modes, hooks, parameters, buffers, gradients and random numbers stay as they were."""
    entry, adapter = build(case), adapter_of(case)
    entry.forward()  # transformers puts hooks of its own on a model when it is first called
    before, values = _traces(entry), {k: v.clone() for k, v in entry.model.state_dict().items()}
    given = {site_of(case): _random(weights_of(case)[site_of(case)])}
    adapter.sites(entry.inputs)
    adapter.run(entry.inputs, attention=given)
    read(adapter, entry.inputs, view_of(case), replay=MANY)
    assert _traces(entry) == before
    assert all(torch.equal(values[key], each) for key, each in entry.model.state_dict().items())
    return "✓"


CHECKS: Mapping[str, Callable[[Case], str]] = {
    "capture": capture,
    "identity": identity,
    "gradient": gradient,
    "override": override,
    "replay": replay,
    "four tests": tests,
    "plain logits": plain,
    "unchanged": unchanged,
}


def _within(gap: Tensor | float, limit: float) -> str:
    """The deviation, if it is small enough."""
    value = float(gap)
    assert value <= limit, f"deviates by {value:.1e}, more than {limit:.0e}"
    return "0" if value == 0 else f"{value:.0e}"


def _random(weights: Tensor, seed: int = 0) -> Tensor:
    """Other rows that sum to one where these do, on the same keys."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(weights.shape, generator=generator).pow(2) * (weights > 0)
    return drawn / drawn.sum(-1, keepdim=True).clamp_min(1e-9)


def _gradients(logits: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Of a fixed mixture of the logits; zero where nothing depends on an input."""
    mixture = torch.linspace(-1, 2, logits.numel()).view(logits.shape)
    total = (logits * mixture).sum()
    options: dict[str, Any] = {
        "allow_unused": True,
        "materialize_grads": True,
        "retain_graph": True,
    }
    return list(torch.autograd.grad(total, inputs, **options))


def _feature(hand: Hand) -> Tensor:
    assert hand.feature is not None
    return hand.feature


def _turned(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient in the library's layout, instances first."""
    if gradient.shape == like.shape:
        return gradient
    if gradient.transpose(0, 1).shape == like.shape:
        return gradient.transpose(0, 1)
    return gradient.reshape(like.shape)


def _traces(entry: Entry) -> tuple[Any, ...]:
    """Everything about a model that a run could leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parts = [
        (name, part.training, sorted(vars(part)), [len(getattr(part, each)) for each in hooks])
        for name, part in entry.model.named_modules()
    ]
    parameters = [
        (name, each.requires_grad, each.grad is None, each._version)
        for name, each in nn.Module.named_parameters(entry.model)
    ]
    return parts, parameters, torch.get_rng_state().tolist(), torch.is_grad_enabled()
