"""Where the positions of a feature come from: which of the inputs, which ids, which padding."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.structure import is_integer, rebuilt, remapped

SPECIAL = "special_tokens_mask"
# What a tokenizer gives besides the model's inputs.
_ONLY_TOKENIZERS = (SPECIAL, "offset_mapping", "overflow_to_sample_mapping", "length")

Path = tuple[Any, ...]  # keys and indices that lead to a tensor in the inputs; () is the inputs


@dataclass(frozen=True)
class Source:
    """The positions that a feature has.

    Attributes:
        name: Name of the feature; "" where there is none.
        length: Number L of positions.
        ids: Ids ``(B, L)`` that were embedded; None where the input is continuous.
        padding: Id of the padding that the embedding declares.
        path: Where the ids or values are in the inputs; None if not found there.
    """

    name: str
    length: int
    ids: Tensor | None = None
    padding: int | None = None
    path: Path | None = None

    @property
    def of_decoder(self) -> bool:
        """Whether the positions are those of a decoder's input."""
        return bool(self.path) and str((self.path or ("",))[0]).startswith("decoder_")


def paths(inputs: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in the inputs and the way to it, in order."""
    if isinstance(inputs, Tensor):
        yield path, inputs
    elif isinstance(inputs, Mapping):
        for key, each in inputs.items():
            yield from paths(each, (*path, key))
    elif isinstance(inputs, tuple | list):
        for index, each in enumerate(inputs):
            yield from paths(each, (*path, index))


def find_path(inputs: Any, value: Tensor, taken: set[Path]) -> Path | None:
    """The way to ids in the inputs: the tensor itself, one with the same content, or the only one.

    The last is for models that change their ids before they embed them.
    """
    same, alike = None, []
    for path, each in paths(inputs):
        if each is value:
            return path
        if path in taken or each.shape != value.shape or not is_integer(each):
            continue
        if same is None and same_content(each, value):
            same = path
        if not path or not _is_companion(path[-1]):
            alike.append((path, each))
    if same is None and len(alike) > 1:
        named = [(path, each) for path, each in alike if path and path[-1] == "input_ids"]
        alike = named or [(path, each) for path, each in alike if not _is_flags(each)]
    if same is not None:
        return same
    return alike[0][0] if len(alike) == 1 else _beginning_of(inputs, value)


def _beginning_of(inputs: Any, value: Tensor) -> Path | None:
    """The way to ids that a model has padded on the right to a length of its own."""
    for path, each in paths(inputs):
        shorter = each.ndim == 2 and is_integer(each) and 1 < each.shape[1] < value.shape[-1]
        if shorter and same_content(each.to(value.dtype), value[..., : each.shape[1]]):
            return path
    return None


def _is_companion(key: Any) -> bool:
    """Whether a name says that a tensor goes with a text, and is none."""
    known = names.parsed(key)
    return names.is_label(key) or (known is not None and known[1] not in names.TEXTS)


def _is_flags(value: Tensor) -> bool:
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return False
    return bool(((value == 0) | (value == 1)).all())


def tensor_at(inputs: Any, path: Path) -> Tensor | None:
    """The tensor at the end of a way, None if the inputs have another structure."""
    for known, each in paths(inputs):
        if known == path:
            return each
    return None


def replaced_at(inputs: Any, path: Path, value: Tensor) -> Any:
    """The inputs with another tensor at the end of a way."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(inputs, Mapping):
        changed = {
            name: replaced_at(each, rest, value) if name == key else each
            for name, each in inputs.items()
        }
        return remapped(inputs, changed)
    return rebuilt(
        inputs,
        [
            replaced_at(each, rest, value) if index == key else each
            for index, each in enumerate(inputs)
        ],
    )


def with_special_tokens(inputs: Any) -> Any:
    """A tokenizer's output as a mapping that tells its special tokens itself.

    A fast tokenizer keeps them beside the tensors, where a selection of rows
    or a deletion would lose them.
    """
    encodings = getattr(inputs, "encodings", None)
    if not encodings or not isinstance(inputs, Mapping) or SPECIAL in inputs:
        return inputs
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.tolist() != [encoding.ids for encoding in encodings]:
        return inputs  # changed by hand since
    told = torch.tensor([encoding.special_tokens_mask for encoding in encodings])
    if not isinstance(inputs, UserDict):
        return {**inputs, SPECIAL: told.to(ids.device)}
    known = copy.copy(inputs)
    known[SPECIAL] = told.to(ids.device)
    return known


def without_special_tokens(inputs: Any) -> Any:
    """The inputs without what :func:`with_special_tokens` adds, for a caller's function."""
    if not isinstance(inputs, Mapping) or SPECIAL not in inputs:
        return inputs
    kept = {key: each for key, each in inputs.items() if key != SPECIAL}
    if not isinstance(inputs, UserDict):
        return kept
    plain = copy.copy(inputs)
    plain.data = kept
    return plain


def without_extras(inputs: Mapping[str, Any], accepted: frozenset[str] | None) -> dict[str, Any]:
    """What a model is called with: no keys that only a tokenizer's caller uses."""
    if accepted is None:
        return {key: each for key, each in inputs.items() if key != SPECIAL}
    return {
        key: each for key, each in inputs.items() if key in accepted or key not in _ONLY_TOKENIZERS
    }


def same_content(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same numbers."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if any(torch._C._functorch.is_functorch_wrapped_tensor(each) for each in (first, second)):
        return False  # their content is not one tensor's
    return first.device == second.device and torch.equal(first, second)
