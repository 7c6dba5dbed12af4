"""Which of the sites and embeddings that were seen are the model's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.source import Path, paths, same_content
from faithattn.adapters.inputs.structure import is_integer
from faithattn.adapters.interception.site import Site
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.errors import AdapterError

ATTENTION, GATE, OUTPUT = "attention", "gate", "output"
ELSEWHERE, UNKNOWN = "keys are no positions", "layout unknown"
_GATE = re.compile(r"(^|[._])(routers?|gates?|gating|moe|experts?|switch)([._#\d]|$)")
_MOST_LISTED = 12
_FEW_MARKS = 4  # a table of so few entries holds segments, not words, where other ids are given


def choose_features(name: str | None, found: Sequence[Embedded], inputs: Any) -> list[Embedded]:
    """The embedding that was asked for, or the word embeddings among all.

    Words are what the model is given; positions and segments are counted, or
    named so. Ids that are no input, such as texts that images are compared
    with, are no features. Of several embeddings of one input, that with the largest table.
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
    given = list(paths(inputs))
    if given and not any(is_integer(value) for _, value in given):
        found = [each for each in found if each.ids is None]  # constants of the call
    origins = [_origin(each, given) for each in found]
    kept = []
    for each, origin in zip(found, origins, strict=True):
        rivals = [
            (other, theirs)
            for other, theirs in zip(found, origins, strict=True)
            if other.value.shape[1] == each.value.shape[1]
        ]
        best = min(theirs.rank for _, theirs in rivals)
        if origin.rank != best or best == _COUNTED or (best == _NO_INPUT and each.counted):
            continue
        same = [other for other, theirs in rivals if theirs == origin]
        if best == _NO_INPUT:
            same = [other for other in same if not other.counted]
        if each.entries == max(other.entries for other in same):
            kept.append(each)
    return kept


_INPUT, _LIKE_INPUT, _NO_INPUT, _COUNTED = range(4)


@dataclass(frozen=True)
class _Origin:
    """Where ids come from: an input (at a path), something else, or what is named as counting."""

    rank: int
    path: Path | None = None


def _origin(embedded: Embedded, given: list[tuple[Path, Tensor]]) -> _Origin:
    ids = embedded.ids
    if ids is None:
        return _Origin(_INPUT)
    exact = [path for path, value in given if value is ids]
    same = exact or [path for path, value in given if same_content(value, ids)]
    if not same:
        return _Origin(_NO_INPUT)
    path = same[0]
    known = names.parsed(path[-1]) if path else None
    marks = embedded.entries <= _FEW_MARKS and len(given) > 1
    if marks or (known is not None and known[1] not in names.TEXTS):
        return _Origin(_COUNTED)
    return _Origin(_INPUT if exact or not embedded.counted else _LIKE_INPUT, path)


def role_of(seen: Seen, lengths: Iterable[int], logits: Tensor | None, follows: bool | None) -> str:
    """What weights are: attention, or what speaks against it.

    ``follows`` says whether the keys were found to follow the length of the
    input, None where that was not tried.
    """
    if seen.shown is None:
        return UNKNOWN
    if logits is not None and _is_output(seen.shown, logits):
        return OUTPUT
    if follows is not None:
        return ATTENTION if follows else GATE
    keys, lengths = seen.shown.shape[-1], set(lengths)
    if lengths and keys - sum(seen.extras) not in lengths:
        return ELSEWHERE
    return GATE if is_gate(seen) else ATTENTION


def is_gate(seen: Seen) -> bool:
    """Whether the name of a softmax says that it chooses experts, not positions."""
    return seen.place.kind == "softmax" and _GATE.search(seen.place.name) is not None


def no_site(sites: Sequence[Site], name: str | None) -> AdapterError:
    """The error where nothing can be taken as attention."""
    usable = [site for site in sites if site.role == ATTENTION]
    if name is not None and usable:
        return AdapterError(
            f"model must compute attention named {name!r} on these inputs; got {listing(usable)}. "
            "Choose one of them with view=AttentionView(site) or adapt(model, site=site)."
        )
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


def _is_output(weights: Tensor, logits: Tensor) -> bool:
    """Whether the logits are these probabilities, or their logarithms."""
    if weights.shape != logits.shape or weights.ndim != 2:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(weights):
        return False
    own, given = weights.detach().float(), logits.detach().float()
    return any(torch.allclose(own, each, atol=1e-6) for each in (given, given.exp()))
