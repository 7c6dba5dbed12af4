"""Which positions can be explained, and which are real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.belonging import number_lists
from faithattn.adapters.inputs.source import SPECIAL, Source
from faithattn.adapters.inputs.structure import holds_counts, is_integer, tensors_of
from faithattn.errors import AdapterError


def is_tokenizer(rule: Any) -> bool:
    """Whether a rule for masks is a tokenizer, which knows its special tokens."""
    return hasattr(rule, "all_special_ids") and hasattr(rule, "pad_token_id")


def find_mask(
    rule: Any,
    inputs: Any,
    source: Source,
    weights: Tensor,
    site: str = "",
    support: Callable[[], Tensor] | None = None,
) -> Tensor:
    """The mask ``(B, Lk)`` of what can be explained at a site.

    Where nothing else tells the padding, it is what no row of the site may
    use. Keys beyond the positions of the source, such as a learned bias key
    or a sink, are False.
    """
    expected = (weights.shape[0], min(source.length, weights.shape[-1]))
    if callable(rule) and not is_tokenizer(rule):
        mask = _named(rule(inputs), site, source)
    elif isinstance(rule, Tensor):
        mask = rule
    else:
        real = known_real(rule, inputs, source, expected)
        if real is None:
            real = _usable(weights, support)[:, : expected[1]]
        special = special_tokens(rule, inputs, source)
        mask = real if special is None else real & ~special.to(real.device)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != expected:
        raise _unfit(mask, expected, isinstance(rule, Tensor))
    extra = weights.shape[-1] - mask.shape[1]
    return torch.nn.functional.pad(mask, (0, extra)).to(weights.device)


def told_masks(
    rule: Any, inputs: Any, source: Source, shape: tuple[int, int]
) -> tuple[Tensor, Tensor] | None:
    """What can be explained and what is real, where names, ids or a tokenizer tell both.

    As :func:`find_mask` and :func:`real_positions` would find it, at once.
    """
    if isinstance(rule, Tensor) or (callable(rule) and not is_tokenizer(rule)):
        return None
    real = known_real(rule, inputs, source, shape)
    if real is None:
        return None
    special = special_tokens(rule, inputs, source)
    return real if special is None else real & ~special.to(real.device), real


def real_positions(
    rule: Any, inputs: Any, source: Source, mask: Tensor | None, shape: tuple[int, int]
) -> Tensor:
    """Where there is no padding, ``(B, L)``: special tokens are real, explained or not.

    Everywhere, where nothing says what padding is.
    """
    known = rule if is_tokenizer(rule) or isinstance(rule, int) else None
    real = known_real(known, inputs, source, shape)
    if mask is None or mask.shape != shape:
        return torch.ones(shape, dtype=torch.bool) if real is None else real
    if real is None:
        real = _by_lengths(inputs, mask)
    return mask | real.to(mask.device)


def known_real(rule: Any, inputs: Any, source: Source, expected: tuple[int, ...]) -> Tensor | None:
    """Positions that are no padding by rule, by name or by padding id; None if nothing says."""
    if isinstance(rule, int) and not isinstance(rule, bool):
        return _ids(inputs, source, expected).ne(rule)
    named = _companion(inputs, source, "attention_mask")
    if named is not None and named.shape == expected:
        return named.bool()
    padding = rule.pad_token_id if is_tokenizer(rule) else source.padding
    if padding is None or source.ids is None or source.ids.shape != expected:
        return None
    return source.ids.ne(padding)


def special_tokens(rule: Any, inputs: Any, source: Source) -> Tensor | None:
    """Positions of a tokenizer's special tokens, where it or the inputs tell them."""
    if is_tokenizer(rule):
        words = {rule.unk_token_id, getattr(rule, "mask_token_id", None)}
        ids = [each for each in rule.all_special_ids if each not in words]
        found = source.ids
        return None if found is None else torch.isin(found, torch.tensor(ids, device=found.device))
    told = _companion(inputs, source, SPECIAL)
    return told.bool() if told is not None and told.shape[1:] == (source.length,) else None


def _companion(inputs: Any, source: Source, name: str) -> Tensor | None:
    """What a mapping holds under a name for this source: ``decoder_attention_mask``, ...

    A plain name speaks of the text that has one, not of another in the same
    mapping.
    """
    path = source.path or ()
    holder = inputs
    for key in path[:-1]:
        holder = holder[key]
    if not isinstance(holder, Mapping):
        return None
    own = path[-1] if path else None
    around = names.affixes(own)
    if around == {names.PLAIN}:  # by far the most
        found = holder.get(name)
        return found if isinstance(found, Tensor) else None
    plain = [text for text in names.TEXTS if isinstance(holder.get(text), Tensor)]
    if plain and names.parsed(own) is None and own is not None:
        around = around - {names.PLAIN}
    for before, after in sorted(around, key=len):
        found = holder.get(f"{before}{name}{after}")
        if isinstance(found, Tensor):
            return found
    return None


def _named(mask: Any, site: str, source: Source) -> Any:
    """The mask itself, or the one for the site or feature among several."""
    if not isinstance(mask, Mapping):
        return mask
    for name in (site, source.name):
        if name in mask:
            return mask[name]
    raise AdapterError(
        f"mask must cover the site {site!r} or its feature {source.name!r}; "
        f"got masks for {', '.join(map(repr, mask))}. Return one under either name."
    )


def _unfit(mask: Any, expected: tuple[int, int], given: bool) -> AdapterError:
    shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
    remedy = (
        "A mask tensor belongs to one batch; pass a function or the padding id."
        if given
        else "Return one flag a position, True at real ones."
    )
    return AdapterError(
        f"mask must be boolean of shape {expected}, as the attention; got {shape} "
        f"{getattr(mask, 'dtype', '')}. {remedy}"
    )


def _by_lengths(inputs: Any, mask: Tensor) -> Tensor:
    """The mask where lengths in the inputs say the same; else everywhere."""
    counts = mask.sum(1)
    prefix = torch.arange(mask.shape[1], device=mask.device) < counts[:, None]
    known = [*tensors_of(inputs), *(each for _, each in number_lists(inputs, len(mask)))]
    told = any(holds_counts(each, counts) for each in known)
    return mask if told and torch.equal(mask, prefix) else torch.ones_like(mask)


def _usable(weights: Tensor, support: Callable[[], Tensor] | None) -> Tensor:
    """Keys that some row of an instance may use, as far as the site tells."""
    if support is None:
        if weights.ndim > 2 and weights.shape[-2] == weights.shape[-1]:
            weights = weights[..., -1:, :]  # the last row of a causal model may use every key
        usable = torch.ones(weights.shape[0], weights.shape[-1], dtype=torch.bool)
    else:
        allowed = support()
        usable = allowed.flatten(1, -2).any(1) if allowed.ndim > 2 else allowed
    _no_hidden_padding(weights.detach(), usable.to(weights.device))
    return usable


def _no_hidden_padding(weights: Tensor, usable: Tensor) -> None:
    """Refuses to call every position real where attention is cut off at an end of rows."""
    if torch._C._functorch.is_functorch_wrapped_tensor(weights):
        return  # torch.func hides the content
    peak = weights.flatten(1, -2).amax(1) if weights.ndim > 2 else weights
    unused = usable & (peak == 0)
    if (unused[:, 0] != unused[:, -1]).any():
        raise AdapterError(
            "mask must be given where the model pads: some rows begin or end in zero attention and "
            "nothing says which ids are padding. Use adapt(model, mask=padding_id) or a function."
        )


def _ids(inputs: Any, source: Source, expected: tuple[int, ...]) -> Tensor:
    """The ids of the source, or the one integer tensor of the inputs that is as long."""
    if source.ids is not None and source.ids.shape == expected:
        return source.ids
    found = _id_tensors(inputs, expected)
    if len(found) != 1:
        raise AdapterError(
            f"mask must be given as a function here: a padding id needs one tensor of ids of shape "
            f"{expected} in the inputs, and there are {len(found)}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    return found[0]


def _id_tensors(inputs: Any, expected: tuple[int, ...]) -> list[Tensor]:
    """What may be ids: ``input_ids``, or every integer tensor of the expected shape."""
    if isinstance(inputs, Mapping) and isinstance(inputs.get("input_ids"), Tensor):
        return [inputs["input_ids"]]
    return [each for each in tensors_of(inputs) if each.shape == expected and is_integer(each)]
