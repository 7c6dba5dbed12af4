"""Which tensors of the inputs go with the positions: by identity, by name, by content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.source import Path
from faithattn.adapters.inputs.structure import described, holds_counts, is_integer
from faithattn.errors import AdapterError

WAY_OUT = "Write an adapter with remove(), or use removal='zero_embedding'."


@dataclass(frozen=True)
class Text:
    """The tensor that positions belong to, among all the inputs.

    Attributes:
        path: Where it is in the inputs.
        value: The tensor, ``(B, L)`` or ``(B, L, E)``.
        real: ``(B, L)`` bool, False at padding.
        marks: What may mark its positions: ``real``, and what can be explained.
        told: Whether the caller named it; else it was found.
        others: Tensors that the caller said have positions of their own.
        rivals: Other texts, said to be or found, each with its path.
        leaves: Every tensor of the inputs, and lists of numbers as tensors.
    """

    path: Path
    value: Tensor
    real: Tensor
    marks: tuple[Tensor, ...]
    told: bool
    others: Sequence[Tensor]
    rivals: list[tuple[Path, Tensor]]
    leaves: list[tuple[Path, Tensor]]


def find_text(
    leaves: list[tuple[Path, Tensor]],
    marks: tuple[Tensor, ...],
    ids: Tensor | None,
    others: Sequence[Tensor],
) -> Text:
    """The tensor that positions belong to: the one named, or the only one it can be."""
    real = marks[0]
    if ids is not None:
        path, value = _told(leaves, real, ids)
    else:
        path, value = _found(leaves, marks, others)
    rivals = [
        (other, each)
        for other, each in leaves
        if each is not value and (is_one_of(each, others) or _is_other_text(other, each, path))
    ]
    return Text(path, value, real, marks, ids is not None, others, rivals, leaves)


def relation(text: Text, path: Path) -> str:
    """Whether a name says that a tensor is "ours", "theirs" (another text's), or "unknown"."""
    own_key = text.path[-1] if text.path else None
    if _side(path) != _side(text.path):
        return "theirs"
    if path[:-1] != text.path[:-1]:
        apart = any(rival[:-1] == path[:-1] for rival, _ in text.rivals)
        return "theirs" if apart else "unknown"
    known = names.parsed(path[-1]) if path else None
    if known is None:
        return "unknown"
    own = names.affixes(own_key)
    if text.rivals and names.parsed(own_key) is None:
        own = own - {names.PLAIN}  # a plain name may speak of either text
    if known[0] in own:
        return "ours"
    claimed = {each for rival, _ in text.rivals for each in names.affixes(rival[-1])}
    return "theirs" if known[0] in claimed - {names.PLAIN} else "unknown"


def _side(path: Path) -> str:
    """What a name speaks of where an encoder feeds a decoder; most names have no side."""
    first = next((step for step in path if isinstance(step, str)), "")
    return next((side for side in ("decoder_", "encoder_") if first.startswith(side)), "")


def agrees(value: Tensor, marks: tuple[Tensor, ...]) -> bool:
    """Whether a tensor ``(B, L)`` marks the same positions, or exactly the others."""
    if value.shape != marks[0].shape or not is_flags(value):
        return False
    marked = value.bool().to(marks[0].device)
    return any(torch.equal(marked, each) or torch.equal(marked, ~each) for each in marks)


def is_flags(value: Tensor) -> bool:
    """Whether all values are 0 or 1."""
    return value.dtype == torch.bool or bool(((value == 0) | (value == 1)).all())


def counts_up(value: Tensor) -> bool:
    """Whether rows all are 0, 1, 2, ... or all 1, 2, 3, ..."""
    if not is_integer(value) or value.ndim not in (1, 2) or value.shape[-1] < 2:
        return False
    places = torch.arange(value.shape[-1], device=value.device)
    return any(bool((value == places + start).all()) for start in (0, 1))


def is_disputed(text: Text, path: Path, value: Tensor) -> bool:
    """Whether marks or lengths may be this text's or another's: both have some that fit."""
    if relation(text, path) == "ours":
        return False
    counts = text.real.sum(1)
    marks = value.shape == text.real.shape
    fitting = [
        id(each)
        for _, each in companions(text)
        if (agrees(each, text.marks) if marks else holds_counts(each, counts))
    ]
    rivals = [each for _, each in text.rivals if not marks or each.shape[:2] == value.shape]
    return bool(rivals) and len(set(fitting)) > 1


def companions(text: Text) -> list[tuple[Path, Tensor]]:
    """Tensors that are no text, and that no name gives to another text."""
    texts = [text.value, *(each for _, each in text.rivals)]
    return [
        (path, each)
        for path, each in text.leaves
        if not is_one_of(each, texts) and relation(text, path) != "theirs"
    ]


def is_one_of(value: Tensor, others: Sequence[Tensor]) -> bool:
    """Whether a tensor is, itself, among others."""
    return any(value is other for other in others)


def number_lists(inputs: Any, size: int, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Lists of one whole number for each row, as tensors."""
    if isinstance(inputs, list) and len(inputs) == size and all(type(n) is int for n in inputs):
        yield path, torch.tensor(inputs)
    elif isinstance(inputs, Mapping):
        for key, each in inputs.items():
            yield from number_lists(each, size, (*path, key))
    elif isinstance(inputs, tuple | list):
        for at, each in enumerate(inputs):
            yield from number_lists(each, size, (*path, at))


def labelled(path: Path, value: Tensor) -> str:
    """A tensor by its place in the inputs, for messages."""
    if not path:
        return described(value)
    head = str(path[0]) if isinstance(path[0], str) else f"inputs[{path[0]}]"
    return f"{head}{''.join(f'[{step!r}]' for step in path[1:])}: {described(value)}"


def _told(leaves: list[tuple[Path, Tensor]], real: Tensor, ids: Tensor) -> tuple[Path, Tensor]:
    for path, each in leaves:
        if each is ids:
            if each.shape[:2] != real.shape:
                raise AdapterError(
                    f"positions must be those of one of the inputs, {tuple(real.shape)}; "
                    f"got {labelled(path, each)}. {WAY_OUT}"
                )
            return path, each
    raise ValueError("ids must be one of the tensors in the inputs; got another. Pass it itself.")


def _found(
    leaves: list[tuple[Path, Tensor]], marks: tuple[Tensor, ...], others: Sequence[Tensor]
) -> tuple[Path, Tensor]:
    """By name; else the only ids, or the only continuous input."""
    real = marks[0]
    long = [
        (path, each)
        for path, each in leaves
        if each.shape[:2] == real.shape
        and not is_one_of(each, others)
        and not (path and (names.is_label(path[-1]) or names.is_no_text(path[-1])))
    ]
    named = [(path, each) for path, each in long if path and names.is_text(path[-1])]
    for name in names.TEXTS:
        plain = [(path, each) for path, each in named if path[-1] == name]
        if plain:
            return _only(plain)
    free = [(path, each) for path, each in long if not (path and names.parsed(path[-1]))]
    kinds = [_is_ids, _is_sequence, _is_series]
    if all(each.ndim < 2 or _is_discrete(each) for _, each in leaves):
        kinds += [_is_discrete]  # ids of a vocabulary of two, or in order
    for kind in kinds:
        fitting = named or [(path, each) for path, each in free if kind(each)]
        unlike = [(path, each) for path, each in fitting if not agrees(each, marks)]
        if fitting:
            return _only(unlike or fitting)
    raise _nothing_as_long(leaves, real)


def _only(fitting: list[tuple[Path, Tensor]]) -> tuple[Path, Tensor]:
    """The one tensor, which may be there several times."""
    if len({id(each) for _, each in fitting}) == 1:
        return fitting[0]
    listing = ", ".join(labelled(path, each) for path, each in fitting)
    raise AdapterError(
        "inputs must not hold other tensors as long as the text, any of which may be the text; "
        f"got {listing}. Name the text input_ids, or {WAY_OUT[0].lower()}{WAY_OUT[1:]}"
    )


def _is_ids(value: Tensor) -> bool:
    return value.ndim == 2 and is_integer(value) and not is_flags(value) and not counts_up(value)


def _is_sequence(value: Tensor) -> bool:
    """Vectors, or several ids a position; a square of flags says what is next to what."""
    return value.ndim == 3 and not (value.shape[1] == value.shape[2] and is_flags(value))


def _is_series(value: Tensor) -> bool:
    return value.ndim == 2 and value.is_floating_point() and not is_flags(value)


def _is_discrete(value: Tensor) -> bool:
    return value.ndim == 2 and not value.is_floating_point()


def _is_other_text(path: Path, value: Tensor, own: Path) -> bool:
    """Ids or embeddings of another text, by name or because they are no companion of this one."""
    if path and names.is_text(path[-1]):
        known = names.parsed(own[-1]) if path[:-1] == own[:-1] else None
        return known is None or known[0] not in names.affixes(path[-1])
    if path and (names.parsed(path[-1]) or names.is_label(path[-1])):
        return False
    return value.ndim == 2 and value.shape[1] > 1 and _is_ids(value)


def _nothing_as_long(leaves: list[tuple[Path, Tensor]], real: Tensor) -> AdapterError:
    listing = ", ".join(labelled(path, each) for path, each in leaves) or "no tensor"
    image = any(each.ndim == 4 and each.is_floating_point() for _, each in leaves)
    remedy = (
        "An image has no shorter form: use removal=mask_patch(size), 'zero_embedding' or "
        "'mask_attention'."
        if image
        else WAY_OUT
    )
    return AdapterError(
        "inputs must hold a tensor that the positions are positions of, "
        f"{tuple(real.shape)} or longer in dimensions; got {listing}. {remedy}"
    )
