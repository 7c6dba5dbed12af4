"""Tests that change the attention, in an audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading
from faithattn.adapters.rows import Rows
from faithattn.audits.measuring.subject import Subject, Values
from faithattn.measures.divergence import jensen_shannon
from faithattn.measures.outputs import output_distance
from faithattn.metrics.adversarial.attention import adversary_of
from faithattn.metrics.adversarial.methods import Wanted
from faithattn.metrics.erasure.flip import flip_of
from faithattn.metrics.erasure.orders import Drawn, named_orders
from faithattn.metrics.erasure.single import single_erasure_of
from faithattn.metrics.permutation import permutation_of
from faithattn.results.adversarial import AdversarialResult

_PERMUTATION = (
    *("median_tvd", "pvalue", "median_low", "median_high", "exact"),
    *("pvalue_error", "effect", "effect_spread"),
)
_SINGLE = (
    *("flipped_top", "flipped_other", "change_top", "change_other"),
    *("delta_change", "delta_attention", "n_others", "exact"),
)


def permutation(subject: Subject, options: Mapping[str, Any]) -> Values:
    """Output change under shuffled attention, and under uniform attention."""
    with torch.inference_mode(False), torch.no_grad():
        reading = subject.reading
        found = permutation_of(reading, options["n_permutations"], subject.seed, subject.ids)
        values = {name: getattr(found, name) for name in _PERMUTATION}
        if subject.controls:
            undefined = found.median_tvd.isnan()
            values["uniform"] = _under_uniform(subject).masked_fill(undefined, torch.nan)
    return values


def adversary(subject: Subject, options: Mapping[str, Any]) -> Values:
    """The farthest adversary, and how far uniform attention is where it would be one."""
    with torch.inference_mode(False), torch.no_grad():
        reading, wanted = subject.reading, Wanted.checked(**options)
        found = adversary_of(reading, wanted, subject.seed, subject.ids)
        subject.positions["adversary"] = _explanation(reading.rows, _strongest(reading, found))
        values = {name: getattr(found, name) for name in ("max_jsd", "upper_bound", "certified")}
        values["farthest"] = _farthest(reading.rows).masked_fill(found.max_jsd.isnan(), torch.nan)
        if subject.controls:
            rows = reading.rows
            distance = rows.mean(jensen_shannon(uniform_rows(rows), rows.conditional))
            distance = distance.masked_fill(_under_uniform(subject) > wanted.epsilon, 0)
            values["uniform"] = distance.masked_fill(found.max_jsd.isnan(), torch.nan)
    return values


def single_erasure(subject: Subject, options: Mapping[str, Any]) -> Values:
    """Output without the top weight, and without another."""
    with torch.inference_mode(False), torch.no_grad():
        found = single_erasure_of(
            subject.reading,
            options["n_random"],
            options["renormalize"],
            subject.seed,
            subject.ids,
        )
    return {name: getattr(found, name) for name in _SINGLE}


def flip(subject: Subject, options: Mapping[str, Any]) -> Values:
    """Weights removed until the decision flips, by order."""
    drawn = Drawn(subject.seed, subject.ids, options["n_random"])
    with torch.inference_mode(False), torch.no_grad():
        named = named_orders(options["orders"])
        found = flip_of(subject.reading, named, drawn, renormalize=options["renormalize"])
    return {
        f"{name}_{order}": getattr(found, name)[:, index]
        for name in ("censored", "fraction", "removed_mass", "count", "flipped")
        for index, order in enumerate(found.orders)
    }


def uniform_rows(rows: Rows) -> Tensor:
    """Rows ``(B, R, L)`` that attend alike to all positions that they may use."""
    valid = rows.valid.to(rows.conditional.dtype)
    return valid / valid.sum(-1, keepdim=True).clamp_min(1)


def _farthest(rows: Rows) -> Tensor:
    """Divergence ``(B,)`` of the attention that is farthest from the model's, whatever it does.

    It is convex, so that all weight on the position that had least is farthest.
    """
    weights = rows.conditional.double()
    least = weights.masked_fill(~rows.valid, torch.inf).amin(-1).clamp(0, 1)
    middle = (1 + least) / 2
    entropy = torch.special.xlogy(least, least / middle) - middle.log()
    return rows.mean((entropy + (1 - least) * math.log(2)) / 2)


def _under_uniform(subject: Subject) -> Tensor:
    """Distance ``(B,)`` of the output under uniform attention; computed once for a view."""

    def compute() -> Tensor:
        reading: Reading = subject.reading
        outputs = reading.replay(uniform_rows(reading.rows)[None])[0]
        return output_distance(outputs, reading.outputs, reading.output)

    return subject.shared.own.once(("uniform", subject.name), compute)


def _strongest(reading: Reading, found: AdversarialResult) -> Tensor:
    """The rows ``(B, R, L)`` of the farthest feasible adversary; its own where there is none."""
    sites, strongest = list(reading.rows.attention), found.strongest
    each = strongest.unbind(1) if len(sites) > 1 else [strongest]
    return reading.rows.of(dict(zip(sites, each, strict=True)))


def _explanation(rows: Rows, weights: Tensor) -> Tensor:
    """What rows of weights say of each position, as the attention does, ``(B, L)``."""
    share = rows.counted.to(weights.dtype) / rows.counted.sum(-1, keepdim=True).clamp_min(1)
    return torch.einsum("brl,br->bl", weights.masked_fill(~rows.valid, 0), share)
