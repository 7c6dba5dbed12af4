"""Positions of each row taken out of the inputs, with all that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.belonging import (
    WAY_OUT,
    Text,
    agrees,
    companions,
    counts_up,
    find_text,
    is_disputed,
    is_flags,
    is_one_of,
    labelled,
    number_lists,
    relation,
)
from faithattn.adapters.inputs.columns import (
    at_padding,
    checked_positions,
    kept_columns,
    with_padding,
)
from faithattn.adapters.inputs.source import Path, paths
from faithattn.adapters.inputs.structure import (
    described,
    holds_counts,
    is_integer,
    rebuilt,
    remapped,
)
from faithattn.errors import AdapterError

_CLOSED = -1e4  # an additive mask holds 0, and less than this where attention is closed


def delete_positions(
    inputs: Any,
    positions: Tensor,
    real: Tensor,
    *,
    ids: Tensor | None = None,
    others: Sequence[Tensor] = (),
    mask: Tensor | None = None,
) -> Any:
    """Deletes as many positions of each row from a text, and from all that goes with it.

    Shortened are the text itself (ids or vectors), what has a known name
    (``attention_mask``, ``token_type_ids``, with the ``decoder_`` or other
    affix that the text has), masks over pairs of positions, marks ``(B, L)``
    that agree with ``real`` or ``mask``, and position ids, which lose their last numbers;
    lengths ``(B,)``, tensors or lists, become less by as many. What is known to
    belong to another text stays. Columns that no row needs any more are cut:
    as many as positions always go, and so do those behind the last real one.

    Args:
        inputs: A tensor, tuple or mapping; a tokenizer's comes back as one, another as a dict.
        positions: One position for each row, ``(B,)``, or k different ones, ``(B, k)``.
        real: ``(B, L)`` bool, False at padding.
        ids: The tensor of the inputs that the positions belong to; None finds
            the only one that it can be.
        others: Tensors of the inputs that have positions of their own.
        mask: ``(B, L)`` bool, True where a position can be explained.

    Raises:
        AdapterError: If a tensor may or may not belong to the positions.
        TypeError: If the positions are no tensor of whole numbers.
        ValueError: If a position is not there, or padding.
    """
    positions = checked_positions(positions, real)
    gone = torch.zeros_like(real).scatter_(1, positions, True)
    return _deleted(inputs, gone, real, ids, others, mask, None)


def delete_sets(
    inputs: Any,
    gone: Tensor,
    real: Tensor,
    *,
    ids: Tensor | None = None,
    others: Sequence[Tensor] = (),
    mask: Tensor | None = None,
    padding: int | None = None,
) -> Any:
    """Deletes positions as :func:`delete_positions`, more in some rows than in others.

    Rows that lose more are padded on the right, with what is at padding
    already; where nothing is, marks say that it is padding, and ids are ``padding``.

    Args:
        inputs: A tensor, tuple or mapping.
        gone: ``(B, L)`` bool, True at what goes.
        real: ``(B, L)`` bool, False at padding, which is on the right.
        ids: As in :func:`delete_positions`.
        others: Likewise.
        mask: Likewise.
        padding: The padding id, if it is known.

    Raises:
        AdapterError: If a tensor may or may not belong to the positions, or
            nothing says what it holds at padding.
        ValueError: If what goes is padding.
    """
    if (gone & ~real).any():
        raise ValueError("gone must mark real positions; got padding. Mark them by the mask.")
    return _deleted(inputs, gone, real, ids, others, mask, padding)


def _deleted(
    inputs: Any,
    gone: Tensor,
    real: Tensor,
    ids: Tensor | None,
    others: Sequence[Tensor],
    mask: Tensor | None,
    padding: int | None,
) -> Any:
    """The inputs without the marked positions."""
    lists = dict(number_lists(inputs, len(real)))
    leaves = [*paths(inputs), *lists.items()]
    marks = (real,) if mask is None else (real, mask.to(real.device))
    text = find_text(leaves, marks, ids, others)
    edit = _Edit(text, *kept_columns(gone, real), gone.sum(1), padding)

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, Tensor):
            return edit.tensor(path, value)
        if isinstance(value, Mapping):
            return remapped(value, {key: walk(each, (*path, key)) for key, each in value.items()})
        if path in lists:
            return edit.tensor(path, lists[path]).tolist()
        if isinstance(value, tuple | list):
            return rebuilt(value, [walk(each, (*path, at)) for at, each in enumerate(value)])
        return value

    return walk(inputs, ())


@dataclass(frozen=True)
class _Edit:
    """What is done to each tensor.

    Attributes:
        text: Whose positions they are.
        order: The columns ``(B, L')`` that each row keeps.
        blank: ``(B, L')`` bool, where they are padding that has to be made; None if nowhere.
        count: Number ``(B,)`` of positions that go.
        padding: The padding id, if it is known.
    """

    text: Text
    order: Tensor
    blank: Tensor | None
    count: Tensor
    padding: int | None

    def tensor(self, path: Path, value: Tensor) -> Tensor:
        """The tensor after the deletion; the same one where it has no part in it."""
        text, key = self.text, path[-1] if path else None
        if value is text.value:
            return self._without(value, (1,))
        if is_one_of(value, [rival for _, rival in text.rivals]):
            return self._rival(path, value)
        belongs, known = relation(text, path), names.parsed(key)
        if belongs == "theirs":
            return value
        if known is not None and known[1] == names.PLACES:
            return self._places(path, value)
        if known is not None and belongs == "ours" and self._spans(value):
            pairs = names.holds_pairs(known[1]) and self._of_pairs(value)
            return self._mask(path, value) if pairs else self._without(value, (1,))
        return self._by_content(path, value)

    def _by_content(self, path: Path, value: Tensor) -> Tensor:
        """Decides by what a tensor without a telling name holds."""
        text, shape = self.text, self.text.real.shape
        if is_integer(value) and value.shape in {shape[:1], (shape[0], 1)}:
            return self._lengths(path, value)
        if self._counts_in_floats(path, value):
            return self._lengths(path, value)
        if path and names.is_label(path[-1]) and value.shape[:2] == shape:
            raise _undecided(path, value)
        if agrees(value, text.marks):
            if is_disputed(text, path, value):
                raise _undecided(path, value)
            return self._without(value, (1,))
        if value.ndim > 0 and value.shape[-1] == shape[1] and counts_up(value):
            return value[..., : self.order.shape[1]]
        if _is_mask_of_pairs(value, shape):
            return self._mask(path, value)
        if value.shape[:2] == shape:
            raise _undecided(path, value)
        return value

    def _rival(self, path: Path, value: Tensor) -> Tensor:
        """Another text stays; where nothing tells the two apart, that is no safe guess."""
        text = self.text
        sure = text.told or is_one_of(value, text.others) or value.shape[:2] != text.real.shape
        if not sure and relation(text, path) == "unknown":
            raise _undecided(path, value)
        return value

    def _spans(self, value: Tensor) -> bool:
        size, length = self.text.real.shape
        first = value.shape[:1] in {(size,), (1,)} or value.shape == (length, length)
        return first and length in value.shape[1:]

    def _of_pairs(self, value: Tensor) -> bool:
        """Whether a mask is square; where there are as many rows as positions, by its content."""
        if value.ndim != 2 or value.shape[0] != value.shape[1]:
            return value.ndim > 2
        rows = value.shape == self.text.real.shape
        return not rows or (_is_alike_everywhere(value) and not agrees(value, self.text.marks))

    def _without(self, value: Tensor, axes: tuple[int, ...]) -> Tensor:
        """The kept columns of each row along some axes."""
        size, own = len(self.order), value is self.text.value
        whole = value = value.expand(size, *value.shape[1:])
        for axis in axes:
            shape = [size] + [1] * (value.ndim - 1)
            shape[axis] = self.order.shape[1]
            index = self.order.to(value.device).view(shape)
            index = index.expand(*value.shape[:axis], -1, *value.shape[axis + 1 :])
            value = value.gather(axis, index)
        if self.blank is None:
            return value
        text = self.text
        told = any(agrees(each, text.marks[:1]) for _, each in text.leaves)
        padding = self.padding if own else None
        unknown = own and padding is None and not told and bool(text.real.all())
        known = None if axes != (1,) or unknown else at_padding(whole, text.real, padding)
        if known is None:
            raise AdapterError(
                "inputs must tell what padding is, for rows that lose different numbers of "
                f"positions; got {described(whole)}. Delete as many from each row."
            )
        return with_padding(value, self.blank, known)

    def _mask(self, path: Path, value: Tensor) -> Tensor:
        """A mask over pairs of positions; one that all rows share must look alike everywhere."""
        length, width = self.text.real.shape[1], self.order.shape[1]
        shared = value.shape[-2:] == (length, length) and value.numel() == length**2
        if shared and _is_alike_everywhere(value.view(length, length)):
            return value[..., :width, :width]
        if value.ndim == 2:
            raise _undecided(path, value)
        if self.blank is not None:
            raise AdapterError(
                "inputs must not hold a mask of pairs where rows lose different numbers of "
                f"positions; got {labelled(path, value)}. Delete as many from each row."
            )
        axes = range(max(1, value.ndim - 2), value.ndim)
        return self._without(value, tuple(axis for axis in axes if value.shape[axis] == length))

    def _places(self, path: Path, value: Tensor) -> Tensor:
        """Position ids: those left are numbered as if they had been alone."""
        real = self.text.real.to(value.device)
        if value.ndim == 0 or value.shape[-1] != real.shape[1]:
            return value
        steps = value[..., 1:] - value[..., :-1]
        if ((steps != 1) & real[:, 1:] & real[:, :-1]).any():
            raise AdapterError(
                "inputs must not hold position ids that do not count by one, which deletion "
                f"cannot number again; got {labelled(path, value)}. {WAY_OUT}"
            )
        return value[..., : self.order.shape[1]]

    def _counts_in_floats(self, path: Path, value: Tensor) -> bool:
        """Whether floats are lengths; others, and what a name calls a label, say something else."""
        real = self.text.real
        label = bool(path) and names.is_label(path[-1])
        floats = value.is_floating_point() and value.shape != real.shape
        return floats and not label and holds_counts(value, real.sum(1))

    def _lengths(self, path: Path, value: Tensor) -> Tensor:
        """Lengths after the deletion; anything that is no count of positions as it is."""
        text, length = self.text, self.text.real.shape[1]
        counts = text.real.sum(1)
        if holds_counts(value, counts):
            if is_disputed(text, path, value):
                raise self._uncounted(path, value)
            return value - self.count.to(value).view(value.shape)
        label = bool(path) and names.is_label(path[-1])
        if label or not bool(((value >= 1) & (value <= length)).all()):
            return value
        counted = any(holds_counts(each, counts) for _, each in companions(text))
        if text.rivals and counted:  # the lengths of the other text
            return value
        raise self._uncounted(path, value)

    def _uncounted(self, path: Path, value: Tensor) -> AdapterError:
        unknown = bool(self.text.real.all())  # nothing says what padding is
        more = " Or give the padding id, as in adapt(model, mask=0)." if unknown else ""
        return AdapterError(
            "inputs must not hold lengths that deletion cannot adjust; "
            f"got {labelled(path, value)}. {WAY_OUT}{more}"
        )


def _is_alike_everywhere(square: Tensor) -> bool:
    """Whether a mask (L, L) depends only on how far two positions are apart, as causal ones do."""
    return torch.equal(square[1:, 1:], square[:-1, :-1])


def _is_mask_of_pairs(value: Tensor, shape: torch.Size) -> bool:
    """Marks over keys or pairs of positions, with a dimension for heads or shared by all rows."""
    size, length = shape
    if value.ndim not in (2, 4) or value.shape[-1] != length:
        return False
    shared = value.numel() == length**2 and value.shape[-2] == length
    headed = value.ndim == 4 and value.shape[0] in (1, size) and value.shape[1] == 1
    if not shared and not (headed and value.shape[2] in (1, length)):
        return False
    additive = value.is_floating_point() and bool(((value == 0) | (value <= _CLOSED)).all())
    return additive or is_flags(value)


def _undecided(path: Path, value: Tensor) -> AdapterError:
    if path and names.is_label(path[-1]):
        return AdapterError(
            "inputs must not hold labels as long as the text, which may make a decoder's input; "
            f"got {labelled(path, value)}. Leave them out: logits do not need them."
        )
    return AdapterError(
        "inputs must not hold other tensors as long as the text, which deletion may or may not "
        f"have to shorten; got {labelled(path, value)}. {WAY_OUT}"
    )
