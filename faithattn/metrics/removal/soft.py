"""Soft removal: every position loses a share of its embedding, by its importance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, explained_class, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.removal.operators import explained_feature, run_with
from faithattn.importance.removal.outputs import removed_probabilities, rows_at_once
from faithattn.measures.draws import element_shares, fresh_seed, instance_ids, spans
from faithattn.measures.outputs import class_probability, probabilities
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.removal.order import undefined_rows
from faithattn.results.removal import SoftRemoval


def soft_removal(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    n_samples: int = 10,
    scale: bool = True,
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    seed: int | None = None,
    instances: Tensor | None = None,
) -> SoftRemoval:
    """Soft comprehensiveness and sufficiency, normalised by what an empty input does.

    Nothing goes as a whole: each element of a position's embedding is set to
    zero at random. For sufficiency it is kept with probability a, the
    position's importance, for comprehensiveness with 1 - a. With p of the
    explained class and x' what is kept, S = 1 - max(0, p(x) - p(x')) and
    C = max(0, p(x) - p(x')), averaged over the draws. With S0 the S of an input
    all of whose positions are zero, the values are (S - S0) / (1 - S0), and
    C / (1 - S0), both cut to 0..1. Larger is more faithful, of either.

    Positions outside the mask (special tokens, padding) keep their embedding.
    The two random masks of a draw are complements of each other.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name that ``explain`` knows, or scores ``(B, L)`` of
            one's own, larger ones more important.
        n_samples: Number of draws; the published code takes one.
        scale: Whether scores are brought to 0..1 by the least and the largest
            of each row, as in the published code; a row of equal scores is
            then undefined. False takes them as they are, which must lie in 0..1.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        view: Which attention is explained, and which feature is masked.
        seed: Any whole number; None draws a fresh one. A draw is a function
            of (seed, instance, draw, position, element).
        instances: Ids ``(B,)`` of the rows; default ``arange(B)``.

    Returns:
        Values of each instance in 0..1, with what they were computed from. nan
        where an input of zeros is as good as the whole (S0 = 1).

    Raises:
        AdapterError: If the model has no feature of the mask's positions.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Zhao & Aletras (2023), "Incorporating attribution importance for
        improving faithfulness metrics". Means over several draws, and special
        tokens that stay, are ours.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = soft_removal(model, torch.tensor([[2, 5, 6, 7, 3]]), seed=0)
        >>> result.sufficiency.shape, result.n_samples
        (torch.Size([1]), 10)
    """
    n_samples = require_count("n_samples", n_samples)
    seed = fresh_seed(seed)
    with torch.no_grad():
        reading = read(model, inputs, view)
    ids = instance_ids(instances, reading.rows.mask)
    scores = scores_of(reading, explanation, target=target, seed=seed, instances=instances)
    classes = explained_class(reading, target)
    mask = reading.rows.mask
    keep = _keeping(scores, mask, scale)
    with torch.no_grad():
        every = torch.arange(len(mask), device=mask.device)
        whole = class_probability(reading.outputs, classes, reading.output)
        zero = removed_probabilities(reading, "zero_embedding", every, mask, classes)
        mild = _mean_drops(reading, keep, classes, (seed, ids, n_samples))
        return _result(reading, whole, zero, mild, (n_samples, scale, seed, explanation))


def _keeping(scores: Tensor, mask: Tensor, scale: bool) -> Tensor:
    """Probability ``(B, L)`` with which elements are kept; nan where undefined."""
    if scale:
        low = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
        high = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
        scores = (scores - low) / (high - low)
    elif ((scores < 0) | (scores > 1))[mask].any():
        seen = scores[mask]
        raise ValueError(
            "explanation must lie in 0..1 for scale=False; got "
            f"{float(seen.min()):.3g} to {float(seen.max()):.3g}. Scale it, or leave scale=True."
        )
    scores = scores.masked_fill(undefined_rows(scores, mask)[:, None], torch.nan)
    return scores.masked_fill(~mask, 1)


def _mean_drops(
    reading: Reading, keep: Tensor, classes: Tensor, draws: tuple[int, Tensor, int]
) -> Tensor:
    """Means ``(B, 2)`` over draws of max(0, p(x) - p(x')), of what is kept and of the rest."""
    seed, ids, count = draws
    name, feature = explained_feature(reading)
    mask = reading.rows.mask
    length, width = feature.shape[1:]
    whole = class_probability(reading.outputs, classes, reading.output)
    rows = (~keep.isnan().any(-1)).nonzero()[:, 0]
    rows = rows[mask.sum(-1)[rows].argsort(stable=True)].repeat_interleave(count)
    numbers = torch.arange(len(rows), device=rows.device) % count
    total = whole.new_full((len(mask), 2), torch.nan)
    total[rows] = 0
    # Random numbers take as much as a pass, and every row runs twice.
    for first, last in spans(len(rows), max(1, rows_at_once(reading, times=2) // 2)):
        part, draw = rows[first:last], numbers[first:last]
        shares = element_shares(seed, ids[part], draw, mask[part][:, :length], width)
        kept = shares < keep[part][:, :length, None]
        inside = mask[part][:, :length, None]
        both = torch.cat([kept | ~inside, ~(kept & inside)])
        twice = part.repeat(2)
        logits = run_with(reading, name, twice, feature[twice] * both)
        shown = class_probability(
            probabilities(logits, reading.output), classes[twice], reading.output
        )
        drop = (whole[twice] - shown).clamp_min(0).view(2, -1).T
        total.index_add_(0, part, drop)
    return total / count


def _result(
    reading: Reading,
    whole: Tensor,
    zero: Tensor,
    drops: Tensor,
    how: tuple[int, bool, int, Explanation],
) -> SoftRemoval:
    """Scales the drops by that of an input of zeros, 1 - S0."""
    n_samples, scale, seed, explanation = how
    most = (whole - zero).clamp_min(0)
    most_or_nan = most.masked_fill(most <= output_noise(reading.run.logits.dtype), torch.nan)
    return SoftRemoval(
        **reading.described(),
        # (1 - drop) - (1 - most), over most
        sufficiency=((most - drops[:, 0]) / most_or_nan).clamp(0, 1),
        comprehensiveness=(drops[:, 1] / most_or_nan).clamp(0, 1),
        raw_sufficiency=1 - drops[:, 0],
        raw_comprehensiveness=drops[:, 1],
        baseline=1 - most,
        n_samples=n_samples,
        scaled=scale,
        seed=seed,
        explanation=name_of_explanation(explanation),
    )
