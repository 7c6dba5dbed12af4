"""Every way to take a position away: a reading and its changes to importance (B, L)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import Run, SupportsRemoval
from faithattn.adapters.reading import Reading, chosen_feature
from faithattn.errors import AdapterError
from faithattn.importance.removal.guard import fits, ids_that_changed, require_named_position
from faithattn.importance.removal.naming import InputRemoval, name_of
from faithattn.importance.removal.pairs import Change, over_pairs
from faithattn.interventions.attention import without_position
from faithattn.interventions.features import DRAWS, donors, mean_feature, replaced
from faithattn.interventions.tokens import mask_token
from faithattn.measures.draws import spans


def of_inputs(reading: Reading, change: Change, removal: InputRemoval) -> Tensor:
    """Runs the inputs again as a function changes them at each position."""

    def changed(rows: Tensor, positions: Tensor) -> Tensor:
        before = select(reading.model, reading.inputs, rows)
        after = removal(before, positions)
        run = reading.model.run(after)
        difference = change.of_run(run, rows)
        edited = ids_that_changed(before, after, len(rows)).to(rows.device)
        require_named_position(reading, run, (rows, positions), edited, name_of(removal))
        return difference

    return over_pairs(reading, changed, reading.rows.mask)


def _delete(reading: Reading, change: Change) -> Tensor:
    """Encodes every input again without each of its positions."""
    model, mask = reading.model, reading.rows.mask
    if not isinstance(model, SupportsRemoval):
        raise AdapterError(
            "model must have a remove(inputs, positions) method for removal='delete'; got none. "
            "Write it, or name another removal such as 'mask_attention'."
        )

    def changed(rows: Tensor, positions: Tensor) -> Tensor:
        shortened = model.remove(select(model, reading.inputs, rows), positions)
        return change.of_run(model.run(shortened), rows)

    return over_pairs(reading, changed, mask & (mask.sum(-1) > 1)[:, None])


def _mask_token(reading: Reading, change: Change) -> Tensor:
    """Puts the mask token that the model knows at each position."""
    token = getattr(reading.model, "mask_token_id", None)
    if token is None:
        raise AdapterError(
            "model must have a mask_token_id for removal='mask_token'; got none. "
            "Use adapt(model, mask=tokenizer), or removal=mask_token(103) with the id itself."
        )
    return of_inputs(reading, change, mask_token(token))


def _zero_embedding(reading: Reading, change: Change) -> Tensor:
    """Runs every input again with each feature set to zero."""
    name, feature = _feature(reading)

    def changed(rows: Tensor, positions: Tensor) -> Tensor:
        run = _run(reading, name, rows, replaced(feature[rows], positions, 0.0))
        return change.of_run(run, rows)

    return over_pairs(reading, changed, reading.rows.mask)


def _mean_embedding(reading: Reading, change: Change) -> Tensor:
    """Runs every input again with each feature set to the mean of its instance."""
    name, feature = _feature(reading)
    mask = reading.rows.mask
    mean = mean_feature(feature, mask[:, : feature.shape[1]])

    def changed(rows: Tensor, positions: Tensor) -> Tensor:
        run = _run(reading, name, rows, replaced(feature[rows], positions, mean[rows]))
        return change.of_run(run, rows)

    # A single position is its own mean, which says nothing about it.
    return over_pairs(reading, changed, mask & (mask.sum(-1) > 1)[:, None])


def _resample(reading: Reading, change: Change) -> Tensor:
    """Runs every input again with features of other positions, and averages over them."""
    name, feature = _feature(reading)
    from_rows, from_columns = donors(reading.rows.mask)

    def changed(rows: Tensor, positions: Tensor) -> Tensor:
        total = torch.zeros(len(rows), dtype=reading.outputs.dtype, device=rows.device)
        for draw in range(DRAWS):
            row, column = (each[draw, rows, positions] for each in (from_rows, from_columns))
            run = _run(
                reading, name, rows, replaced(feature[rows], positions, feature[row, column])
            )
            total += change.of_run(run, rows)
        return total / DRAWS

    return over_pairs(reading, changed, from_rows[0] >= 0)


def _mask_attention(reading: Reading, change: Change, *, renormalize: bool = False) -> Tensor:
    """Replays the model without the attention weight of each position."""
    rows, run = reading.rows, reading.run
    result = reading.outputs.new_full(rows.mask.shape, torch.nan)
    step = reading.alternatives_at_once(bytes_per_element=4 * run.logits.element_size())
    for first, last in spans(rows.mask.shape[1], step):
        without = without_position(rows.conditional, first, last, renormalize=renormalize)
        undefined = without.isnan().any(-1).any(-1)
        distances = change.of(reading.replay(without.nan_to_num(0)))
        result[:, first:last] = distances.masked_fill(undefined, torch.nan).T
    return result


def _mask_attention_renormalize(reading: Reading, change: Change) -> Tensor:
    return _mask_attention(reading, change, renormalize=True)


def _run(reading: Reading, name: str, rows: Tensor, changed: Tensor) -> Run:
    inputs = select(reading.model, reading.inputs, rows)
    return reading.model.run(inputs, features={name: changed})


def _feature(reading: Reading) -> tuple[str, Tensor]:
    """The feature whose positions are those of the mask, without its gradient."""
    name, feature = chosen_feature(reading)
    mask = reading.rows.mask
    if not fits(feature, mask):
        raise AdapterError(
            f"features[{name!r}] must be as long as the mask, {tuple(mask.shape)}; "
            f"got {tuple(feature.shape)}. Name another feature in the view."
        )
    return name, feature.detach()


REMOVALS: dict[str, Callable[[Reading, Change], Tensor]] = {
    "delete": _delete,
    "mask_token": _mask_token,
    "mask_attention": _mask_attention,
    "mask_attention_renormalize": _mask_attention_renormalize,
    "zero_embedding": _zero_embedding,
    "mean_embedding": _mean_embedding,
    "resample": _resample,
}
