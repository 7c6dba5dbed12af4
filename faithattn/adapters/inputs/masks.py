"""Which positions can be explained, and which are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import holds_counts, is_integer, tensors_of
from faithattn.errors import AdapterError


def find_mask(rule: Any, inputs: Any, padding: int | None, attention: Tensor) -> Tensor:
    """The mask ``(B, L)`` of what can be explained, by rule, by name or by padding id."""
    expected = (attention.shape[0], attention.shape[-1])
    if callable(rule):
        mask = rule(inputs)
    elif isinstance(rule, Tensor):
        mask = rule
    elif isinstance(rule, int) and not isinstance(rule, bool):
        mask = _ids(inputs, expected, "mask") != rule
    elif isinstance(inputs, Mapping) and isinstance(inputs.get("attention_mask"), Tensor):
        mask = inputs["attention_mask"].bool()
    elif padding is not None:
        mask = _ids(inputs, expected, "padding_idx") != padding
    else:
        mask = torch.ones(expected, dtype=torch.bool)
        _no_hidden_padding(attention)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != expected:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        remedy = (
            "A mask tensor belongs to one batch; pass a function or the padding id."
            if isinstance(rule, Tensor)
            else "Return one flag a position, True at real ones."
        )
        raise AdapterError(
            f"mask must be boolean of shape {expected}, as the attention; got {shape} "
            f"{getattr(mask, 'dtype', '')}. {remedy}"
        )
    return mask.to(attention.device)


def real_positions(rule: Any, inputs: Any, padding: int | None, mask: Tensor) -> Tensor:
    """Where there is no padding, ``(B, L)``: special tokens are real, explained or not.

    Everywhere, where nothing says what padding is.
    """
    everywhere = torch.ones_like(mask)
    if isinstance(inputs, Mapping) and isinstance(inputs.get("attention_mask"), Tensor):
        real = inputs["attention_mask"].bool()
    else:
        known = rule if isinstance(rule, int) else padding
        found = _id_tensors(inputs, tuple(mask.shape))
        if known is not None and len(found) == 1:
            real = found[0].ne(known)
        else:
            real = _by_lengths(inputs, mask)
    return mask | real.to(mask.device) if real.shape == mask.shape else everywhere


def _by_lengths(inputs: Any, mask: Tensor) -> Tensor:
    """The mask where lengths in the inputs say the same; else everywhere."""
    counts = mask.sum(1)
    prefix = torch.arange(mask.shape[1], device=mask.device) < counts[:, None]
    told = any(is_integer(each) and holds_counts(each, counts) for each in tensors_of(inputs))
    return mask if told and torch.equal(mask, prefix) else torch.ones_like(mask)


def _no_hidden_padding(attention: Tensor) -> None:
    """Refuses to call every position real where attention is cut off at an end of rows."""
    rows = attention.detach().flatten(1, -2).amax(1) if attention.ndim > 2 else attention.detach()
    first, last = rows[:, 0] == 0, rows[:, -1] == 0
    if (first != last).any():
        raise AdapterError(
            "mask must be given where the model pads: some rows begin or end in zero attention and "
            "nothing says which ids are padding. Use adapt(model, mask=padding_id) or a function."
        )


def _ids(inputs: Any, expected: tuple[int, int], source: str) -> Tensor:
    """The one integer tensor of the inputs that is as long as the attention."""
    found = _id_tensors(inputs, expected)
    if len(found) != 1:
        raise AdapterError(
            f"mask must be given as a function here: {source} needs one tensor of ids of shape "
            f"{expected} in the inputs, and there are {len(found)}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    return found[0]


def _id_tensors(inputs: Any, expected: tuple[int, ...]) -> list[Tensor]:
    """What may be ids: ``input_ids``, or every integer tensor of the expected shape."""
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input_ids"), Tensor):
        return [inputs["input_ids"]]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    values = values if isinstance(inputs, Mapping | tuple | list) else (inputs,)
    return [
        value
        for value in values
        if isinstance(value, Tensor) and value.shape == expected and is_integer(value)
    ]
