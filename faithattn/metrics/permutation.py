"""Does the output change when attention is shuffled?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
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
from faithattn.measures.outputs import class_probability, output_distance
from faithattn.results import PermutationResult

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

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        n_permutations: Number P of shuffles of each instance, at least 1.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``. The
            same (seed, id) gets the same shuffles in any batch.
        view: Which attention is shuffled; not needed for one row.

    Returns:
        Distances ``(B, P)`` in 0..1, their median, a one-sided p-value and the
        divergence of the shuffled rows; nan with fewer than two positions.

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.2.1.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = permutation_test(model, torch.tensor([[2, 5, 6, 7, 3]]), seed=0)
        >>> result.tvd.shape
        torch.Size([1, 100])
    """
    count = require_count("n_permutations", n_permutations)
    seed = fresh_seed(seed)
    with torch.no_grad():
        reading = read(model, inputs, view, replay=count)
        ids = instance_ids(instances, reading.outputs)
        tvd, jsd, confidence = _shuffle(reading, count, seed, ids)
    rows = reading.rows
    defined = (rows.valid.sum(-1) > 1).any(-1)
    tvd = tvd.masked_fill(~defined[:, None], torch.nan)
    return PermutationResult(
        predicted=reading.predicted,
        max_attention=rows.max_attention,
        mass=rows.mean_mass,
        view=str(rows.view),
        output=reading.output,
        replay=reading.replayed,
        tvd=tvd,
        median_tvd=_median(tvd),
        jsd=jsd.masked_fill(~defined[:, None], torch.nan),
        pvalue=_pvalue(reading, confidence).masked_fill(~defined, torch.nan),
        seed=seed,
    )


def _shuffle(
    reading: Reading, count: int, seed: int, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Distance, divergence and predicted-class probability of every shuffle, (B, P)."""
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
        outputs = reading.replay(_widen(shuffled, window, rows.conditional.shape[-1]))
        tvd.append(output_distance(outputs, reading.outputs, reading.output).T)
        # A shuffle keeps its row's entropy: JSD is what mixing adds to it.
        mixture = _negative_entropy(shuffled.add(conditional).mul_(0.5))
        jsd.append(rows.mean((entropy - mixture).clamp_min_(0)).T)
        if classified:
            confidence.append(class_probability(outputs, reading.predicted, reading.output).T)
    return torch.cat(tvd, 1), torch.cat(jsd, 1), torch.cat(confidence, 1) if classified else None


def _pvalue(reading: Reading, confidence: Tensor | None) -> Tensor:
    """Share of shuffles, the original counted in, that are at least as confident."""
    if confidence is None:
        return torch.full_like(reading.outputs[:, 0], torch.nan)
    original = class_probability(reading.outputs, reading.predicted, reading.output)
    higher = (confidence >= original[:, None] - _TIE_SLACK).sum(1)
    return (1 + higher).to(original.dtype) / (1 + confidence.shape[1])


def _median(values: Tensor) -> Tensor:
    """The usual median (the mean of the middle two), in values of (B, P)."""
    ranked = sort_last(values.clone())
    count = values.shape[-1]
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
