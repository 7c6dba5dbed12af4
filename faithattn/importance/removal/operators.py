"""Every way to take positions away that runs the model again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import select
from faithattn.adapters.protocol import SupportsRemoval, SupportsSetRemoval
from faithattn.adapters.reading import Reading, chosen_feature
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.errors import AdapterError
from faithattn.importance.removal.changes import logits_of
from faithattn.importance.removal.guard import fits, ids_that_changed, require_named_position
from faithattn.importance.removal.naming import HidesSets, InputRemoval, name_of
from faithattn.importance.removal.padding import cut, mixes
from faithattn.interventions.features import DRAWS, donors, mean_feature, replaced
from faithattn.interventions.tokens import mask_token


@dataclass(frozen=True)
class Operator:
    """A removal, ready for a reading.

    Attributes:
        logits: Maps rows ``(n,)`` and marks ``(n, L)`` of what goes to logits
            ``(n, C)`` of each draw; most have one.
        undefined: ``(B,)`` bool, rows of which nothing can be removed.
        all_may_go: Whether something can be said where every position goes.
        alike: Whether the sets that run together must be of one size.
        mixes: Finds out whether they need not be, after all; None if they must.
        shortens: Whether rows get shorter.
    """

    logits: Callable[[Tensor, Tensor], Iterator[Tensor]]
    undefined: Tensor
    all_may_go: bool = True
    alike: bool = False
    mixes: Callable[[], bool] | None = None
    shortens: bool = False


def prepared(reading: Reading, removal: str | InputRemoval) -> Operator:
    """The operator of a name other than those that replay, or of a function."""
    if isinstance(removal, str):
        return _PREPARED[removal](reading)
    return _of_inputs(reading, removal)


def _of_inputs(reading: Reading, removal: InputRemoval) -> Operator:
    """Runs the inputs again as a function changes them."""

    def logits(rows: Tensor, gone: Tensor) -> Iterator[Tensor]:
        before, width = cut(reading, rows)
        after = _changed(removal, before, gone[:, :width])
        run = reading.model.run(after)
        found = logits_of(reading, run, len(rows))
        edited = ids_that_changed(before, after, len(rows)).to(rows.device)
        require_named_position(reading, run, (rows, gone[:, :width]), edited, name_of(removal))
        yield found

    return Operator(logits, _none(reading), alike=not isinstance(removal, HidesSets))


def _changed(removal: InputRemoval, inputs: Any, gone: Tensor) -> Any:
    """The inputs as a function changes them: all at once if it can, else the last first."""
    if isinstance(removal, HidesSets):
        return removal.hide(inputs, gone)
    for positions in _columns(gone):
        inputs = removal(inputs, positions)
    return inputs


def _delete(reading: Reading) -> Operator:
    """Encodes every input again without some of its positions."""
    model = reading.model
    if not isinstance(model, SupportsRemoval):
        raise AdapterError(
            "model must have a remove(inputs, positions) method for removal='delete'; got none. "
            "Write it, or name another removal such as 'mask_attention'."
        )

    def logits(rows: Tensor, gone: Tensor) -> Iterator[Tensor]:
        inputs = select(model, reading.inputs, rows)
        if isinstance(model, SupportsSetRemoval):
            inputs = model.remove_sets(inputs, gone)
        else:
            for positions in _columns(gone):
                inputs = model.remove(inputs, positions)
        yield logits_of(reading, reading.model.run(inputs), len(rows))

    adapted = isinstance(model, TorchAdapter)
    return Operator(
        logits,
        _none(reading),
        all_may_go=False,
        alike=adapted or not isinstance(model, SupportsSetRemoval),
        mixes=partial(mixes, reading) if adapted else None,
        shortens=True,
    )


def _mask_token(reading: Reading) -> Operator:
    """Puts the mask token that the model knows at the positions."""
    token = getattr(reading.model, "mask_token_id", None)
    if token is None:
        raise AdapterError(
            "model must have a mask_token_id for removal='mask_token'; got none. "
            "Use adapt(model, mask=tokenizer), or removal=mask_token(103) with the id itself."
        )
    return _of_inputs(reading, mask_token(token))


def _zero_embedding(reading: Reading) -> Operator:
    """Runs every input again with features set to zero."""
    name, feature = explained_feature(reading)

    def logits(rows: Tensor, gone: Tensor) -> Iterator[Tensor]:
        yield run_with(reading, name, rows, replaced(feature, rows, gone, 0.0))

    return Operator(logits, _none(reading))


def _mean_embedding(reading: Reading) -> Operator:
    """Runs every input again with features set to the mean of their instance."""
    name, feature = explained_feature(reading)
    mask = reading.rows.mask
    mean = mean_feature(feature, mask[:, : feature.shape[1]])

    def logits(rows: Tensor, gone: Tensor) -> Iterator[Tensor]:
        yield run_with(reading, name, rows, replaced(feature, rows, gone, mean[rows]))

    # A single position is its own mean, which says nothing about it.
    return Operator(logits, mask.sum(-1) == 1)


def _resample(reading: Reading) -> Operator:
    """Runs every input again with features of other positions, in several draws."""
    name, feature = explained_feature(reading)
    from_rows, from_columns = donors(reading.rows.mask)

    def logits(rows: Tensor, gone: Tensor) -> Iterator[Tensor]:
        index, position = gone.nonzero(as_tuple=True)
        for draw in range(DRAWS):
            row, column = (each[draw, rows[index], position] for each in (from_rows, from_columns))
            changed = feature[rows]
            changed[index, position] = feature[row, column]
            yield run_with(reading, name, rows, changed)

    return Operator(logits, (reading.rows.mask & (from_rows[0] < 0)).any(-1))


def run_with(reading: Reading, name: str, rows: Tensor, changed: Tensor) -> Tensor:
    """Logits ``(n, C)`` of rows ``(n,)`` with a feature ``(n, L, E)`` in the place of their own."""
    inputs, width = cut(reading, rows)
    left = changed.shape[1] - reading.rows.mask.shape[1] + width
    run = reading.model.run(inputs, features={name: changed[:, :left]})
    return logits_of(reading, run, len(rows))


def explained_feature(reading: Reading) -> tuple[str, Tensor]:
    """The feature whose positions are those of the mask, without its gradient."""
    name, feature = chosen_feature(reading)
    mask = reading.rows.mask
    if not fits(feature, mask):
        raise AdapterError(
            f"features[{name!r}] must be as long as the mask, {tuple(mask.shape)}; "
            f"got {tuple(feature.shape)}. Name another feature in the view."
        )
    return name, feature.detach()


def _columns(gone: Tensor) -> Tensor:
    """The positions ``(k, n)`` of sets of one size, the last of each first.

    What is deleted then leaves the positions alone that are still to go.
    """
    return gone.nonzero()[:, 1].view(len(gone), -1).flip(1).T.contiguous()


def _none(reading: Reading) -> Tensor:
    return torch.zeros_like(reading.predicted, dtype=torch.bool)


_PREPARED: dict[str, Callable[[Reading], Operator]] = {
    "delete": _delete,
    "mask_token": _mask_token,
    "zero_embedding": _zero_embedding,
    "mean_embedding": _mean_embedding,
    "resample": _resample,
}
REPLAYED = {"mask_attention": False, "mask_attention_renormalize": True}
REMOVALS = (
    "delete",
    "mask_token",
    "mask_attention",
    "mask_attention_renormalize",
    "zero_embedding",
    "mean_embedding",
    "resample",
)
