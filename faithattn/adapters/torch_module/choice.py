"""Which of the sites and embeddings that were seen are the model's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from faithattn.adapters.inputs.structure import is_integer, tensors_of
from faithattn.adapters.interception.site import Site
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.errors import AdapterError

ATTENTION, GATE, OUTPUT = "attention", "gate", "output"
ELSEWHERE, UNKNOWN = "keys are no positions", "layout unknown"
_GATE = re.compile(r"(^|[._])(routers?|gates?|gating|moe|experts?|switch)([._#\d]|$)")
_EXTRA_KEYS = 2  # add_bias_kv and add_zero_attn append one each
_MOST_LISTED = 12


def choose_features(name: str | None, found: Sequence[Embedded], inputs: Any) -> list[Embedded]:
    """The embedding that was asked for, or the word embeddings among all.

    Ids that are no input, such as texts that images are compared with, are no
    features. Of several with the same length, positions, segments and the like are told
    from words by their smaller tables.
    """
    if name is not None:
        named = [each for each in found if each.name == name]
        if not named:
            ran = ", ".join(repr(each.name) for each in found) or "none"
            raise AdapterError(
                f"embedding must be the path of a module that runs and gives (B, L, E); "
                f"got {name!r}, and these ran: {ran}."
            )
        return named
    given = tensors_of(inputs)
    if given and not any(is_integer(each) for each in given):
        found = [each for each in found if each.ids is None]  # constants of the call
    largest: dict[int, int] = {}
    for each in found:
        length = each.value.shape[1]
        largest[length] = max(largest.get(length, 0), each.entries)
    return [each for each in found if each.entries == largest[each.value.shape[1]]]


def role_of(seen: Seen, lengths: Iterable[int], logits: Tensor | None, follows: bool | None) -> str:
    """What weights are: attention, or what speaks against it.

    ``follows`` says whether the keys were found to follow the length of the
    input, None where that was not tried.
    """
    if seen.shown is None:
        return UNKNOWN
    if logits is not None and seen.shown.ndim == 2 and _same_memory(seen.shown, logits):
        return OUTPUT
    if follows is not None:
        return ATTENTION if follows else GATE
    keys, lengths = seen.shown.shape[-1], set(lengths)
    extra = _EXTRA_KEYS if seen.place.kind == "multi_head" else 0
    if lengths and not any(length <= keys <= length + extra for length in lengths):
        return ELSEWHERE
    return GATE if is_gate(seen) else ATTENTION


def is_gate(seen: Seen) -> bool:
    """Whether the name of a softmax says that it chooses experts, not positions."""
    return seen.place.kind == "softmax" and _GATE.search(seen.place.name) is not None


def no_site(sites: Sequence[Site], name: str | None) -> AdapterError:
    """The error where nothing can be taken as attention."""
    asked = "" if name is None else f" named {name!r}"
    return AdapterError(
        f"model must compute attention{asked} that can be seen: a softmax over positions, "
        "scaled_dot_product_attention, nn.MultiheadAttention or flex attention, or a submodule "
        f"whose output it is; got these candidates: {listing(sites)}. "
        "Name one with adapt(model, site=...); a Transformers model must use "
        "attn_implementation='sdpa' or 'eager'."
    )


def listing(sites: Sequence[Site]) -> str:
    """Sites for a message, the first dozen of them."""
    shown = "; ".join(str(site) for site in sites[:_MOST_LISTED])
    more = len(sites) - _MOST_LISTED
    return (shown + (f"; and {more} more" if more > 0 else "")) or "none"


def _same_memory(first: Tensor, second: Tensor) -> bool:
    try:
        return first.data_ptr() == second.data_ptr() and first.numel() == second.numel()
    except RuntimeError:  # a tensor of torch.func has no memory of its own
        return False
