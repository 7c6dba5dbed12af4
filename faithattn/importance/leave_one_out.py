"""Leave-one-out importance: what the output does when a position goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import SupportsRemoval
from faithattn.adapters.reading import Reading, chosen_feature, read, resolve_target
from faithattn.adapters.validate import require_logits
from faithattn.adapters.view import AttentionView
from faithattn.errors import AdapterError
from faithattn.interventions.attention import without_position
from faithattn.measures.draws import spans
from faithattn.measures.outputs import class_probability, output_distance, probabilities

# Rows per forward pass over shortened inputs: past this a recurrent encoder
# gains nothing, and its working set leaves the cache (measured: 64 to 512).
_MOST_ROWS = 128


def leave_one_out_importance(
    model: object,
    inputs: Any,
    *,
    removal: str = "delete",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Importance of each position by the change of output without it.

    The change is the total variation distance between the two outputs, or,
    with a target, the absolute change of that class's probability.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        removal: How a position is taken away; they can disagree.
            ``"delete"`` (published): the input is really shortened by one and
            encoded again. ``"mask_attention"``: its attention weight becomes
            0, the other weights stay. ``"mask_attention_renormalize"``: the
            other weights are divided by their sum. ``"zero_embedding"``: its
            embedding becomes 0.
        view: Which attention is changed; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None compares outputs.

    Returns:
        Importance ``(B, L)``, 0..1 for classes, 0 outside the mask; nan where
        nothing would be left (a text of one position under ``"delete"``).

    Raises:
        AdapterError: If the model cannot remove a position this way.
        ValueError: If ``removal`` is unknown or ``target`` is no class.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.1.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> leave_one_out_importance(model, torch.tensor([[2, 5, 6, 7, 3]])).shape
        torch.Size([1, 5])
    """
    check_removal(removal)
    with torch.no_grad():
        return leave_one_out_of(read(model, inputs, view), removal, target)


def check_removal(removal: str) -> None:
    """Raises ValueError for an unknown removal."""
    if not isinstance(removal, str) or removal not in _REMOVALS:
        raise ValueError(
            f"removal must be one of {', '.join(_REMOVALS)}; got {removal!r}. "
            "The published tests delete."
        )


def leave_one_out_of(reading: Reading, removal: str, target: int | Tensor | None) -> Tensor:
    """Leave-one-out importance from a reading; see :func:`leave_one_out_importance`."""
    importance = _REMOVALS[removal](reading, _distance_from(reading, target))
    return importance.masked_fill(~reading.rows.mask, 0)


Distance = Callable[[Tensor, Tensor | None], Tensor]


def _distance_from(reading: Reading, target: int | Tensor | None) -> Distance:
    """Distance of outputs (..., n, C) from those of the given rows (all if None)."""
    classes = None if target is None else resolve_target(target, reading)

    def distance(outputs: Tensor, rows: Tensor | None) -> Tensor:
        original = reading.outputs if rows is None else reading.outputs[rows]
        if classes is None:
            return output_distance(outputs, original, reading.output)
        wanted = classes if rows is None else classes[rows]
        before = class_probability(original, wanted, reading.output)
        return (class_probability(outputs, wanted, reading.output) - before).abs()

    return distance


def _delete(reading: Reading, distance: Distance) -> Tensor:
    """Encodes every input again without each of its positions, shortest first."""
    model, mask = reading.model, reading.rows.mask
    if not isinstance(model, SupportsRemoval):
        raise AdapterError(
            "model must have a remove(inputs, positions) method for removal='delete'; got none. "
            "Write it, or name another removal such as 'mask_attention'."
        )

    def outputs(rows: Tensor, positions: Tensor) -> Tensor:
        shortened = model.remove(select(model, reading.inputs, rows), positions)
        run = model.run(shortened)
        require_logits(run.logits)
        return probabilities(run.logits, reading.output)

    return _over_positions(reading, distance, outputs, mask & (mask.sum(-1) > 1)[:, None])


def _zero_embedding(reading: Reading, distance: Distance) -> Tensor:
    """Runs every input again with each embedding set to zero."""
    name, feature = chosen_feature(reading)

    def outputs(rows: Tensor, positions: Tensor) -> Tensor:
        changed = feature.detach()[rows].clone()
        changed[torch.arange(len(rows), device=rows.device), positions] = 0
        inputs = select(reading.model, reading.inputs, rows)
        run = reading.model.run(inputs, features={name: changed})
        return probabilities(run.logits, reading.output)

    return _over_positions(reading, distance, outputs, reading.rows.mask)


def _over_positions(
    reading: Reading,
    distance: Distance,
    outputs: Callable[[Tensor, Tensor], Tensor],
    wanted: Tensor,
) -> Tensor:
    """Fills ``(B, L)`` from runs over (row, position) pairs, sorted by length."""
    mask = reading.rows.mask
    result = reading.outputs.new_full(mask.shape, torch.nan)
    rows, positions = wanted.nonzero(as_tuple=True)
    order = mask.sum(-1)[rows].argsort(stable=True)
    rows, positions = rows[order], positions[order]
    width = max((value.shape[-1] for value in reading.run.features.values()), default=64)
    step = min(_MOST_ROWS, chunk_size(mask.shape[1] * width * 8))
    for first, last in spans(len(rows), step):
        part, at = rows[first:last], positions[first:last]
        result[part, at] = distance(outputs(part, at), part)
    return result


def _mask_attention(reading: Reading, distance: Distance, *, renormalize: bool = False) -> Tensor:
    """Replays the model without the attention weight of each position."""
    rows = reading.rows
    result = reading.outputs.new_full(rows.mask.shape, torch.nan)
    step = chunk_size(rows.attention.numel() * 4)
    for first, last in spans(rows.mask.shape[1], step):
        changed = without_position(rows.conditional, first, last, renormalize=renormalize)
        undefined = changed.isnan().any(-1).any(-1)
        outputs = reading.replay(changed.nan_to_num(0))
        result[:, first:last] = distance(outputs, None).masked_fill(undefined, torch.nan).T
    return result


def _mask_attention_renormalize(reading: Reading, distance: Distance) -> Tensor:
    return _mask_attention(reading, distance, renormalize=True)


_REMOVALS: dict[str, Callable[[Reading, Distance], Tensor]] = {
    "delete": _delete,
    "mask_attention": _mask_attention,
    "mask_attention_renormalize": _mask_attention_renormalize,
    "zero_embedding": _zero_embedding,
}
