"""Captum run on what is explained: in groups of rows, seeded, reduced to one score a position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import FeatureAblation, FeaturePermutation, KernelShap, ShapleyValueSampling
from torch import Tensor

from faithattn.importance.attribution.budget import rows_to_differentiate, rows_to_run
from faithattn.importance.attribution.care import drawing, explained_failures, quiet
from faithattn.importance.attribution.exchange import exchanger
from faithattn.importance.attribution.explained import Explained, Forward, Hooked
from faithattn.importance.attribution.layer import layer_gradients
from faithattn.importance.attribution.methods import LAYER, Method, find_method
from faithattn.importance.attribution.reasons import incomplete, require_guidable
from faithattn.measures.draws import spans

_ROUNDING = 16

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda parts: parts.sum(-1),
    "abs_sum": lambda parts: parts.sum(-1).abs(),
    "l1": lambda parts: parts.abs().sum(-1),
    "l2": lambda parts: parts.square().sum(-1).sqrt(),
}


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of Captum.

    Attributes:
        explained: The function and its features.
        method: Which method.
        baselines: ``(K, B, N, E)``.
        reduction: Name of the rule from dimensions to a score.
        options: What the method's ``attribute`` is given.
        seed: What draws are a function of, with the ids.
        ids: Ids of the instances, ``(B,)``.
        max_gap: Largest share of DeepLift's attributions that may be missing.
    """

    explained: Explained
    method: Method
    baselines: Tensor
    reduction: str
    options: Mapping[str, Any]
    seed: int
    ids: Tensor
    max_gap: float


def attributions(task: Task, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``(B, N)`` for the output of the classes, and convergence deltas ``(B,)``."""
    explained, method = task.explained, task.method
    forward = (Hooked if method.hooks else Forward)(explained, classes)
    values = explained.values
    scores = torch.zeros_like(explained.places, dtype=explained.reading.outputs.dtype)
    delta = scores.new_full((len(scores),), torch.nan)
    limit = _limit(method, forward, values)
    if method.rescales:
        _settle(explained, 2 * max(2, len(task.baselines)) if method.from_many else 2)
    for rows in _groups(explained, method, limit):
        count = int(explained.counts[rows].max())
        alone = len(rows) == 1 and not method.across
        draws = drawing(task.seed, task.ids[rows]) if alone else nullcontext()
        with draws, quiet(), explained_failures(method.name):
            parts, gap = _run(task, forward, values[rows, :count], rows, limit)
        scores[rows, :count] = _reduced(task, parts.detach()).to(scores.dtype)
        delta[rows] = gap.detach().to(delta.dtype)
    if method.across:
        scores = scores.masked_fill(explained.live.sum(0) < 2, torch.nan)
    return scores, delta


def _settle(explained: Explained, size: int) -> None:
    """Runs as many rows as DeepLIFT will: what an adapter has to look at twice, it looks at now."""
    before = explained.evaluations.clone()
    with torch.no_grad():
        explained.logits(None, explained.counts.new_zeros(size))
    explained.evaluations.copy_(before)


def _limit(method: Method, forward: Forward, values: Tensor) -> int:
    """How many rows one call may have."""
    if "internal_batch_size" in method.accepts:
        return rows_to_differentiate(forward, values)
    return len(values) if method.differentiates else rows_to_run(forward.explained)


def _groups(explained: Explained, method: Method, limit: int) -> Iterator[Tensor]:
    """Rows that go into one call; those without positions go into none."""
    rows = explained.counts.nonzero()[:, 0]
    if method.across:
        if len(rows) > 1:
            yield torch.arange(len(explained.counts), device=rows.device)
        return
    step = 1
    if method.together and method.by_position:  # each row is run once for every position
        rows = rows[explained.counts[rows].argsort(stable=True)]
        step = max(1, limit // int(explained.counts.max().clamp_min(1)))
    elif method.together or method.name == LAYER:
        step = limit
    for first, last in spans(len(rows), step):
        yield rows[first:last]


def _run(
    task: Task, forward: Forward, values: Tensor, rows: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """Attributions ``(n, M, E)`` of one group, and their deltas ``(n,)``."""
    method, options, size = task.method, dict(task.options), values.shape[:2]
    baselines = task.baselines[:, rows, : size[1]]
    if method.name == LAYER:
        options = {"internal_batch_size": max(limit, len(rows)), **options}
        base = task.baselines[0]
        return layer_gradients(task.explained, forward.classes, base, rows, options)
    if method.kind is KernelShap and size[1] == 1:
        method, options = find_method("feature_ablation"), {}  # one player gets everything
    given = _arguments(method, options, values, baselines, limit)
    values = values.detach().clone().requires_grad_(method.differentiates)
    if method.guides:
        require_guidable(forward, values, rows)  # type: ignore[arg-type]
    attribution = method.build(forward)
    if method.across and attribution.perm_func is _OWN_EXCHANGE:
        attribution.perm_func = exchanger(task.explained, task.seed, task.ids)
    found = attribution.attribute(values, additional_forward_args=(rows,), **given)
    parts, delta = found if isinstance(found, tuple) else (found, None)
    if parts.shape != values.shape:
        raise ValueError(f"attributions have shape {tuple(parts.shape)}")
    gaps = values.new_full((len(rows),), torch.nan)
    if delta is not None:
        gaps = delta.reshape(len(rows), -1).mean(1)  # of several samples, their mean
    if method.rescales and delta is not None:
        _require_complete(task, forward, values, rows, parts, gaps)
    return parts, gaps


_OWN_EXCHANGE = inspect.signature(FeaturePermutation).parameters["perm_func"].default


def _arguments(
    method: Method, options: Mapping[str, Any], values: Tensor, baselines: Tensor, limit: int
) -> dict[str, Any]:
    """What the method's ``attribute`` is called with, but for the values."""
    size, count, dimensions = values.shape
    positions = torch.arange(count, device=values.device)
    per_call = max(1, limit // size)
    if issubclass(method.kind, FeatureAblation | ShapleyValueSampling):
        per_call = min(per_call, count)
    window = min(int(options.get("window", 1)), count)
    known: dict[str, Any] = {
        "baselines": _distribution(baselines) if method.from_many else baselines[0],
        "feature_mask": positions[None, :, None].repeat(1, 1, dimensions),
        "sliding_window_shapes": (window, dimensions),
        "perturbations_per_eval": per_call,
        "internal_batch_size": max(limit, size),
        "return_convergence_delta": True,
    }
    given = {name: value for name, value in known.items() if name in method.accepts}
    return {**given, **{name: value for name, value in options.items() if name != "window"}}


def _distribution(baselines: Tensor) -> Tensor:
    """Baselines ``(K, M, E)`` of one row; a single one twice, as Captum wants several."""
    several = baselines[:, 0]
    return several if len(several) > 1 else several.repeat(2, 1, 1)


def _require_complete(
    task: Task, forward: Forward, values: Tensor, rows: Tensor, parts: Tensor, gaps: Tensor
) -> None:
    """DeepLift's rules account for the whole change of the output, or are wrong here."""
    total = parts.detach().abs().sum((1, 2))
    rounding = _ROUNDING * torch.finfo(values.dtype).eps  # of outputs about 1
    missing = (gaps.abs() - rounding).clamp_min(0) / total.clamp_min(rounding)
    if bool((~(missing <= task.max_gap)).any()) and isinstance(forward, Hooked):
        raise incomplete(forward, values, rows, float(missing.nan_to_num(torch.inf).max()))


def _reduced(task: Task, parts: Tensor) -> Tensor:
    """One score a position, ``(n, M)``."""
    if task.method.by_position:  # all dimensions hold the same number
        parts = parts[..., :1]
    return REDUCTIONS[task.reduction](parts)
