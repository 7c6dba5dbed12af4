"""Does the output change when attention is shuffled?"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.measures.draws import (
    fresh_seed,
    instance_ids,
    shuffle_rows,
    sort_keys,
    sort_last,
    spans,
)
from faithattn.measures.outputs import class_probability, output_distance, probabilities
from faithattn.metrics.enumeration import DRAWN, cheap_affine, effect, every_order
from faithattn.results.permutation import PermutationResult
from faithattn.statistics import median_ranks

# Float noise: a shuffle this little below the original's probability counts as equal.
_TIE_SLACK = 1e-6


def permutation_test(
    model: object,
    inputs: Any,
    *,
    n_permutations: int = 100,
    seed: int | None = None,
    instances: Tensor | None = None,
    view: AttentionView | None = None,
) -> PermutationResult:
    """Output change when attention is shuffled over the real positions.

    The encoder runs once; the states stay fixed. A model whose output hardly
    changes does not use where its attention points.

    Where an instance has few orders, its median and p-value are those of all
    T! of them: up to 7 positions where the logits are affine in the attention,
    and where T! is at most P. Elsewhere they are estimates, given with their
    errors. Where the logits are affine, the mean and spread over all orders
    are known in closed form, whatever T is.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        n_permutations: Number P of shuffles of each instance, at least 1.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``. The
            same (seed, id) gets the same shuffles in any batch.
        view: Which attention is shuffled; not needed for one row.

    Returns:
        Distances ``(B, P)`` in 0..1, their median with a 95 % interval, a
        one-sided p-value with its standard error, the divergence of the
        shuffled rows, and how unusual the own order is among all
        (:attr:`~faithattn.PermutationResult.effect`); nan with fewer than two
        positions.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.1;
        Phipson & Smyth (2010), "Permutation p-values should never be zero";
        Hoeffding (1951), "A combinatorial central limit theorem".

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = permutation_test(model, torch.tensor([[2, 5, 6, 7, 3]]), seed=0)
        >>> result.tvd.shape, bool(result.exact)  # all 6 orders of the 3 words
        (torch.Size([1, 100]), True)
    """
    count = require_count("n_permutations", n_permutations)
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=count)
        return permutation_of(reading, count, seed, instance_ids(instances, reading.outputs))


def permutation_of(reading: Reading, count: int, seed: int, ids: Tensor) -> PermutationResult:
    """The test of a reading, whose rows have ids ``(B,)``; see :func:`permutation_test`."""
    drawn = _shuffle(reading, count, seed, ids)
    affine = cheap_affine(reading, drawn.kept)
    estimate = _settle(_estimate(reading, drawn), reading, affine, count)
    unusual, spread = effect(reading, affine)
    rows = reading.rows
    undefined = ~(rows.valid.sum(-1) > 1).any(-1)
    return PermutationResult(
        **reading.described(),
        tvd=drawn.tvd.masked_fill(undefined[:, None], torch.nan),
        median_tvd=estimate.median.masked_fill(undefined, torch.nan),
        jsd=drawn.jsd.masked_fill(undefined[:, None], torch.nan),
        pvalue=estimate.pvalue.masked_fill(undefined, torch.nan),
        seed=seed,
        exact=estimate.exact & ~undefined,
        median_low=estimate.low.masked_fill(undefined, torch.nan),
        median_high=estimate.high.masked_fill(undefined, torch.nan),
        pvalue_error=estimate.error.masked_fill(undefined, torch.nan),
        effect=unusual.masked_fill(undefined, torch.nan),
        effect_spread=spread.masked_fill(undefined, torch.nan),
    )


class _Estimate(NamedTuple):
    """Median with its interval, p-value with its error, whether they are exact; (B,) each."""

    median: Tensor
    low: Tensor
    high: Tensor
    pvalue: Tensor
    error: Tensor
    exact: Tensor


class _Drawn(NamedTuple):
    """Distance, divergence and predicted-class probability of every shuffle, (B, P).

    The first shuffled rows (K, B, R, L) and their logits are kept.
    """

    tvd: Tensor
    jsd: Tensor
    confidence: Tensor | None
    kept: tuple[Tensor, Tensor]


def _shuffle(reading: Reading, count: int, seed: int, ids: Tensor) -> _Drawn:
    rows = reading.rows
    window = _window(rows.valid)
    valid, conditional = rows.valid[..., window], rows.conditional[..., window]
    entropy = _negative_entropy(conditional)
    classified = bool((reading.predicted >= 0).all())
    tvd, jsd, confidence = [], [], []
    # Bytes held per weight: sort keys, order, shuffled rows, overrides and their logarithms.
    step = reading.alternatives_at_once(bytes_per_element=48)
    for first, last in spans(count, step):
        keys = sort_keys(seed, ids, first, last, rows.mask[:, window])
        shuffled = shuffle_rows(conditional, valid, keys).transpose(0, 1)
        wide = _widen(shuffled, window, rows.conditional.shape[-1])
        logits = reading.replay_override(rows.override(wide))
        outputs = probabilities(logits, reading.output)
        if first == 0:
            kept = (wide[:DRAWN].clone(), logits[:DRAWN].clone())
        tvd.append(output_distance(outputs, reading.outputs, reading.output).T)
        # A shuffle keeps its row's entropy: JSD is what mixing adds to it.
        mixture = _negative_entropy(shuffled.add(conditional).mul_(0.5))
        jsd.append(rows.mean((entropy - mixture).clamp_min_(0)).T)
        if classified:
            confidence.append(class_probability(outputs, reading.predicted, reading.output).T)
    return _Drawn(
        torch.cat(tvd, 1), torch.cat(jsd, 1), torch.cat(confidence, 1) if classified else None, kept
    )


def _estimate(reading: Reading, drawn: _Drawn) -> _Estimate:
    """What P random shuffles say of all."""
    tvd, confidence = drawn.tvd, drawn.confidence
    count = tvd.shape[1]
    ranked = sort_last(tvd.clone())
    low, high = median_ranks(count)
    pvalue = torch.full_like(tvd[:, 0], torch.nan)
    if confidence is not None:
        original = class_probability(reading.outputs, reading.predicted, reading.output)
        # The original is one of the shuffles.
        pvalue = (1 + _not_lower(confidence, original)) / (1 + count)
    error = (pvalue * (1 - pvalue) / (1 + count)).sqrt()
    exact = torch.zeros_like(pvalue, dtype=torch.bool)
    return _Estimate(_middle(ranked), ranked[:, low], ranked[:, high], pvalue, error, exact)


def _settle(estimate: _Estimate, reading: Reading, affine: Affine | None, count: int) -> _Estimate:
    """Puts in what all orders say, where they are few."""
    for orders in every_order(reading, affine, count):
        place = orders.instances
        median = _middle(sort_last(orders.tvd)).to(estimate.median.dtype)
        for values in (estimate.median, estimate.low, estimate.high):
            values[place] = median
        if orders.confidence is not None and orders.original is not None:
            share = _not_lower(orders.confidence, orders.original) / orders.tvd.shape[1]
            estimate.pvalue[place] = share.to(estimate.pvalue.dtype)
            estimate.error[place] = 0
        estimate.exact[place] = True
    return estimate


def _not_lower(confidence: Tensor, original: Tensor) -> Tensor:
    """How many shuffles are at least as confident as the original, (B,) floating point."""
    return (confidence >= original[:, None] - _TIE_SLACK).sum(1).to(confidence.dtype)


def _middle(ranked: Tensor) -> Tensor:
    """The usual median (the mean of the middle two) of ranked values (B, P)."""
    count = ranked.shape[-1]
    return (ranked[:, (count - 1) // 2] + ranked[:, count // 2]) / 2


def _negative_entropy(rows: Tensor) -> Tensor:
    tiny = torch.finfo(rows.dtype).tiny
    return (rows * rows.clamp_min(tiny).log_()).sum(-1)


def _window(valid: Tensor) -> slice:
    """The columns from the first to the last that any row may use."""
    used = valid.flatten(0, 1).any(0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)


def _widen(rows: Tensor, window: slice, length: int) -> Tensor:
    """Pads rows of the window with zeros to all columns."""
    return torch.nn.functional.pad(rows, (window.start, length - window.stop))
