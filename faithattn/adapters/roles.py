"""Which sites of a run a view means: by name, by number, or by what they do."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from faithattn.adapters.view import AttentionView, Choice, check_view
from faithattn.errors import AdapterError

# What libraries call attention of a decoder to its encoder, and to itself, in a part of a path.
_CROSS = re.compile(
    r"cross_?(att|mha)|att(n|ention)?_?cross|^cross$|(^|_)x_?attn|enc(oder)?_?dec"
    r"|encoder_attn|src_att|source_att|context_attn",
    re.IGNORECASE,
)
_SELF = re.compile(r"self_?(att|mha)", re.IGNORECASE)
_LONG_LIST = 12


def resolve_view(
    attention: Mapping[str, Tensor], view: AttentionView | None
) -> tuple[tuple[str, ...], AttentionView]:
    """Names of the chosen sites, and the view with its choice spelled out.

    Raises:
        AdapterError: If the model has no such sites, or too many.
        ValueError: If a number is out of range, or a site chosen twice.
    """
    check_view(view)
    view = AttentionView.only() if view is None else view
    if view.site is None:
        names = tuple(attention)
    elif not isinstance(view.site, Choice):
        names = _named(attention, view)
    elif view.site.role == "only":
        names = _only(attention)
    elif view.site.role == "self":
        names = (_self(attention, view.site),)
    else:
        return _cross(attention, view, view.site)
    _same_shape(attention, names)
    return names, replace(view, site=names if len(names) > 1 else names[0])


def is_cross(name: str, attention: Mapping[str, Tensor]) -> bool:
    """Whether a site attends to something else than its own queries."""
    shape = attention[name].shape
    if len(shape) == 2:
        return True
    parts = name.split("#")[0].split(".")
    for part in reversed(parts):
        if _SELF.search(part) or _CROSS.search(part):
            return not _SELF.search(part)
    # nn.TransformerDecoderLayer calls its two multihead_attn and self_attn.
    sibling = ".".join([*parts[:-1], "self_attn"])
    if parts[-1] == "multihead_attn" and any(key.split("#")[0] == sibling for key in attention):
        return True
    return shape[-2] != shape[-1]


def listing(attention: Mapping[str, Tensor]) -> str:
    """Names and shapes of sites for a message; of many, the first and the last."""
    texts = [f"{name!r} {tuple(value.shape)}" for name, value in attention.items()]
    if len(texts) > _LONG_LIST:
        half = _LONG_LIST // 2
        texts = [*texts[:half], f"... {len(texts) - 2 * half} more ...", *texts[-half:]]
    return ", ".join(texts)


def _named(attention: Mapping[str, Tensor], view: AttentionView) -> tuple[str, ...]:
    """Sites by name or number."""
    places = view.site if isinstance(view.site, tuple) else (view.site,)
    every, names = list(attention), []
    for place in places:
        if not isinstance(place, str):
            number = operator.index(place)
            _in_range("site", number, len(every), "the model", attention)
            names.append(every[number])
        elif place in attention:
            names.append(place)
        else:
            raise AdapterError(
                f"view must name a site of the model; got {place!r}, "
                f"and the sites are {listing(attention)}."
            )
    if len(set(names)) < len(names):
        raise ValueError(
            f"view.site must name each site once; got {names}. Leave out the repetition."
        )
    return tuple(names)


def _only(attention: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The one site with one row."""
    if len(attention) == 1 and _single(next(iter(attention.values()))):
        return tuple(attention)
    first, weights = next(iter(attention.items()))
    calls = [f"AttentionView({first!r}{'' if _single(weights) else ', heads=None, query=0'})"]
    if any(not is_cross(name, attention) for name in attention):
        calls += ["AttentionView.cls()", "AttentionView.last_query()"]
    if any(is_cross(name, attention) and value.ndim > 2 for name, value in attention.items()):
        calls.append("AttentionView.cross()")
    if len({value.shape for value in attention.values()}) == 1:
        calls.append("AttentionView.mean()")
    ready = f", or a ready-made one: {', '.join(calls[1:])}" if calls[1:] else ""
    raise AdapterError(
        "view must say which attention rows are the explanation; the model has "
        f"{listing(attention)}. Choose with view={calls[0]}{ready}."
    )


def _self(attention: Mapping[str, Tensor], choice: Choice) -> str:
    """A layer of self attention; where none is told apart, of all sites."""
    found = [name for name in attention if not is_cross(name, attention)] or list(attention)
    _in_range("layer", choice.layer, len(found), "self attention", attention)
    name = found[choice.layer]
    base = name.split("#")[0]
    calls = {
        each: attention[each]
        for each in found
        if each.split("#")[0] == base and attention[each].ndim > 2
    }
    if name in calls and _in_blocks(calls):
        raise AdapterError(
            "view must choose a layer of self attention that has all its queries in one site; got "
            f"{listing(calls)}, whose numbers of queries are different from each other or from "
            f"the number of keys. Name a site: view=AttentionView({next(iter(calls))!r}, query=0)."
        )
    return name


def _in_blocks(calls: Mapping[str, Tensor]) -> bool:
    """Whether calls of one module share out the queries among them, as block-sparse ones do."""
    sizes = {weights.shape[-2] for weights in calls.values()}
    if len(calls) < 2 or sizes == {1}:  # one query at a time: a decoder that runs step by step
        return False
    # A learned key makes a few more keys than queries; of blocks there are two or more.
    return len(sizes) > 1 or all(2 * each.shape[-2] <= each.shape[-1] for each in calls.values())


def _cross(
    attention: Mapping[str, Tensor], view: AttentionView, choice: Choice
) -> tuple[tuple[str, ...], AttentionView]:
    """A layer of cross attention and its row for one step."""
    layers: dict[str, list[str]] = {}
    for name in attention:
        if is_cross(name, attention):
            # A decoder that runs step by step calls the same module with one query at a time.
            base = name.split("#")[0] if _single_query(attention[name]) else name
            layers.setdefault(base, []).append(name)
    if not layers:
        raise AdapterError(
            "model must have cross attention, named so or with other numbers of queries and "
            f"keys; got {listing(attention)}. Choose with view=AttentionView(site, query=...)."
        )
    bases = list(layers)
    _in_range("layer", choice.layer, len(bases), "cross attention", attention)
    base = bases[choice.layer]
    calls = layers[base]
    shown = replace(view, site=base, query=choice.step)
    if len(calls) == 1:
        return (calls[0],), replace(shown, site=calls[0])
    _in_range("step", choice.step, len(calls), f"the calls of {base!r}", attention)
    return (calls[choice.step],), shown


def _same_shape(attention: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    chosen = {name: attention[name] for name in names}
    shape = chosen[names[0]].shape
    if all(value.shape == shape for value in chosen.values()):
        return
    alike = [name for name in names if chosen[name].shape == shape]
    call = f"AttentionView({alike if len(alike) > 1 else alike[0]!r})"
    if len(alike) > _LONG_LIST:
        call = f"AttentionView([{alike[0]!r}, ..., {alike[-1]!r}])"
    raise AdapterError(
        f"view must choose sites of one shape; got {listing(chosen)}. Choose with view={call}."
    )


def _in_range(
    what: str, number: int, size: int, where: str, attention: Mapping[str, Tensor]
) -> None:
    if not -size <= number < size:
        raise ValueError(
            f"view.{what} must lie in 0..{size - 1} of {where}; got {number}. Negative numbers "
            f"count from the end; the sites are {listing(attention)}."
        )


def _single(weights: Tensor) -> bool:
    return all(size == 1 for size in weights.shape[1:-1])


def _single_query(weights: Tensor) -> bool:
    return weights.ndim == 2 or weights.shape[-2] == 1
