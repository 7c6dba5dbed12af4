"""Which of a model's inputs holds the token ids of the explained positions."""

from __future__ import annotations

from torch import Tensor

from faithattn.adapters.inputs.belonging import counts_up, is_flags
from faithattn.adapters.inputs.source import paths
from faithattn.adapters.inputs.structure import is_integer
from faithattn.adapters.reading import Reading
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter


def token_ids(reading: Reading) -> list[Tensor]:
    """Inputs ``(B, L)`` that may be the positions' ids: one where it is clear.

    They may be shorter than the mask, by keys behind them that are no positions.
    """
    mask = reading.rows.mask
    if isinstance(reading.model, TorchAdapter):
        site = next(iter(reading.rows.attention))
        ids = reading.model.token_ids(reading.inputs, reading.run.state, site)
        found = [] if ids is None else [ids]
    else:
        every = [
            (path, value)
            for path, value in paths(reading.inputs)
            if value.ndim == 2 and is_integer(value)
            if not (is_flags(value) or counts_up(value))
        ]
        usual = [value for path, value in every if path and path[-1] == "input_ids"]
        found = usual or [value for _, value in every]
    return [each for each in found if _fits(each, mask)]


def _fits(ids: Tensor, mask: Tensor) -> bool:
    """Whether ids are as long as the mask, but for keys behind them that are no positions."""
    length = ids.shape[1]
    return len(ids) == len(mask) and length <= mask.shape[1] and not bool(mask[:, length:].any())
