"""What the public functions give one by one: what a part must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithattn import (
    AttentionView,
    adversarial_attention,
    erasure_to_flip,
    explain,
    gradient_correlation,
    jensen_shannon_divergence,
    loo_correlation,
    permutation_test,
    rank_correlation,
    single_weight_erasure,
)
from faithattn.adapters.reading import read
from faithattn.measures.outputs import output_distance
from faithattn.metrics.correlation import output_noise

SEED = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "gradient_correlation": {},
    "loo_correlation": {},
    "permutation_test": {"n_permutations": 30},
    "adversarial_attention": {"n_steps": 20, "n_adversaries": 2},
    "single_weight_erasure": {},
    "erasure_to_flip": {},
}
FUNCTIONS = {
    "gradient_correlation": gradient_correlation,
    "loo_correlation": loo_correlation,
    "permutation_test": permutation_test,
    "adversarial_attention": adversarial_attention,
    "single_weight_erasure": single_weight_erasure,
    "erasure_to_flip": erasure_to_flip,
}
TAUS = ("gradient_correlation", "loo_correlation")
Found = dict[str, Tensor]


def alone(
    model: Any,
    inputs: Any,
    ids: Tensor,
    view: AttentionView | None = None,
    target: Any = None,
    names: tuple[str, ...] | None = None,
) -> Found:
    """Columns and scores of positions by key, each by a call of its own."""
    found: Found = {}
    results: dict[str, Any] = {}
    for name in names or FUNCTIONS:
        given = {"target": target} if name in TAUS else {"seed": SEED, "instances": ids}
        results[name] = FUNCTIONS[name](model, inputs, view=view, **given, **OPTIONS[name])
    for name, result in results.items():
        for field, value in vars(result).items():
            if isinstance(value, Tensor) and value.ndim == 1:
                found[f"{name}.{field}"] = value
    if "erasure_to_flip" in results:
        flips = results["erasure_to_flip"]
        for index, order in enumerate(flips.orders):
            for field in ("censored", "fraction", "removed_mass", "count", "flipped"):
                found[f"erasure_to_flip.{field}_{order}"] = getattr(flips, field)[:, index]
    random = explain(model, inputs, kind="random", seed=SEED, instances=ids, view=view)
    taus = [name for name in TAUS if name in results]
    for name in taus:
        noise = _noise(model, inputs, view) if name == "loo_correlation" else "auto"
        result = results[name]
        found[f"{name}.random"] = _tau(random, result.importance, result.mask, noise)
        key = "gradient" if name == "gradient_correlation" else "leave_one_out"
        found[key] = result.importance
        found |= {"attention": result.explanation, "mask": result.mask}
    if len(taus) == 2:
        gradient, loo = (results[name].importance for name in taus)
        mask, noise = results[taus[0]].mask, output_noise(loo.dtype)
        found["gradient_loo.statistic"] = _tau(gradient, loo, mask, noise)
    if "permutation_test" in results:
        found |= _uniform(model, inputs, view, results)
    return found


def _uniform(model: Any, inputs: Any, view: AttentionView | None, results: Any) -> Found:
    """By a whole forward, the attention replaced by hand."""
    with torch.no_grad():
        reading = read(model, inputs, view)
        valid = reading.rows.valid.to(reading.rows.conditional.dtype)
        rows = valid / valid.sum(-1, keepdim=True).clamp_min(1)
        override = {name: each[0] for name, each in reading.rows.override(rows[None]).items()}
        outputs = reading.run_again(attention=override)
        outputs = {"sigmoid": torch.sigmoid, "softmax": lambda x: x.softmax(-1)}.get(
            reading.output, lambda x: x
        )(outputs)
        tvd = output_distance(outputs, reading.outputs, reading.output)
        tvd = tvd.masked_fill(~(reading.rows.valid.sum(-1) > 1).any(-1), torch.nan)
        far = reading.rows.mean(_jsd(rows, reading.rows.conditional))
        far = torch.where(tvd > 0.01, 0, far)
        far = far.masked_fill(~reading.rows.valid.any(-1).any(-1), torch.nan)
    return {
        "permutation_test.uniform": tvd,
        "adversarial_attention.uniform": far,
        "adversarial_attention.farthest": _farthest(reading.rows),
    }


def _farthest(rows: Any) -> Tensor:
    """Of all corners of the simplex, one position at a time, averaged over the rows."""
    size, count, length = rows.valid.shape
    own = rows.conditional.double()
    found = torch.full((size,), torch.nan, dtype=torch.float64)
    for instance in range(size):
        each = []
        for row in range(count):
            places = rows.valid[instance, row].nonzero()[:, 0].tolist()
            corners = [torch.eye(length, dtype=torch.float64)[place] for place in places]
            far = [jensen_shannon_divergence(one, own[instance, row]) for one in corners]
            each += [max(far)] if far else []
        if each:
            found[instance] = torch.stack(each).mean()
    return found


def _jsd(p: Tensor, q: Tensor) -> Tensor:
    found = torch.zeros(p.shape[:-1], dtype=p.dtype)
    for place in np.ndindex(*found.shape):
        if p[place].sum() > 0 and q[place].sum() > 0:
            found[place] = jensen_shannon_divergence(p[place], q[place])
    return found


def _noise(model: Any, inputs: Any, view: AttentionView | None) -> float:
    with torch.no_grad():
        return output_noise(read(model, inputs, view).run.logits.dtype)


def _tau(scores: Tensor, importance: Tensor, mask: Tensor, noise: Any) -> Tensor:
    importance = importance.to(scores.dtype)
    return rank_correlation(scores, importance, mask=mask, tie_tolerance=("auto", noise)).statistic
