"""What all published models are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from faithattn._checks import require_device, require_floating, require_tensor

SITE = "attention"
FEATURE = "embedding"

_T = TypeVar("_T")


def choose(argument: str, name: str, table: Mapping[str, _T]) -> _T:
    """Returns the named entry of a table."""
    if name not in table:
        raise ValueError(
            f"{argument} must be one of {', '.join(table)}; got {name!r}. Choose one of those."
        )
    return table[name]


def make_embedding(
    vocabulary_size: int, embedding_size: int, vectors: Tensor | None, *, std: float
) -> nn.Embedding:
    """Makes an embedding from given vectors, or normal; padding is zero and stays so."""
    shape = (vocabulary_size, embedding_size)
    embedding = nn.Embedding(*shape, padding_idx=0)
    if vectors is not None and vectors.shape != shape:
        raise ValueError(
            f"vectors must have shape {shape}; got {tuple(vectors.shape)}. "
            "Give one vector for each token id, and embedding_size as their length."
        )
    with torch.no_grad():
        if vectors is None:
            embedding.weight.normal_(std=std)
        else:
            embedding.weight.copy_(vectors)
        embedding.weight[0] = 0
    return embedding


def embedded(embedding: nn.Embedding, ids: Tensor, features: Mapping[str, Tensor] | None) -> Tensor:
    """Returns the embeddings of ids, or those given; with gradient where gradients are on."""
    given = _only(FEATURE, features, "features")
    if given is None:
        vectors: Tensor = embedding(ids)
    else:
        vectors = require_floating("features", given)
        _require_shape("features", vectors, (*ids.shape, embedding.embedding_dim))
        require_device("features", vectors, "inputs", ids)
    if torch.is_grad_enabled() and not vectors.requires_grad:
        vectors = vectors.detach().requires_grad_()
    return vectors


def override(attention: Mapping[str, Tensor] | None, mask: Tensor) -> Tensor | None:
    """Returns attention to use as given, None where the model is to make its own."""
    given = _only(SITE, attention, "attention")
    if given is None:
        return None
    weights = require_floating("attention", given)
    _require_shape("attention", weights, tuple(mask.shape))
    require_device("attention", weights, "inputs", mask)
    return weights


def alternatives(attention: Mapping[str, Tensor], values: Tensor) -> Tensor:
    """Returns the alternatives ``(K, B, L)`` for states ``(B, L, M)``."""
    given = _only(SITE, attention, "attention")
    if given is None:
        raise ValueError(f"attention must name the site {SITE!r}; got none. Pass one tensor.")
    weights = require_floating("attention", given)
    _require_shape("attention", weights, (*weights.shape[:1], *values.shape[:2]))
    require_device("attention", weights, "state", values)
    return weights


def pool(weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sums over positions: ``(K, B, L)`` and ``(B, L, M)`` to ``(K, B, M)``."""
    return torch.bmm(weights.transpose(0, 1).to(values.dtype), values).transpose(0, 1)


def require_entries(inputs: object, keys: Sequence[str], collate: str) -> Mapping[str, Tensor]:
    """Returns inputs that are a mapping with every key."""
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f"inputs must be a mapping with {', '.join(keys)}; got {type(inputs).__name__}. "
            f"Collate examples with {collate}."
        )
    missing = [key for key in keys if key not in inputs]
    if missing:
        raise ValueError(
            f"inputs must have the keys {', '.join(keys)}; got no {', '.join(missing)}. "
            f"Collate examples with {collate}."
        )
    return inputs


def check_candidates(candidates: object, passage: Tensor, n_classes: int) -> Tensor:
    """Returns candidates that leave every passage something to choose from."""
    flags = require_tensor("candidates", candidates)
    if flags.dtype != torch.bool:
        raise TypeError(f"candidates must be boolean; got {flags.dtype}. Convert with .bool().")
    _require_shape("candidates", flags, (len(passage), n_classes))
    require_device("candidates", flags, "passage", passage)
    empty = ~flags.any(1)
    if bool(empty.any()):
        raise ValueError(
            f"candidates must hold an answer for every passage; got none in row "
            f"{int(empty.nonzero()[0])}. Allow at least one entity."
        )
    return flags


def _require_shape(argument: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raises unless a tensor has the expected shape."""
    if value.shape != shape:
        raise ValueError(
            f"{argument} must have shape {shape}; got {tuple(value.shape)}. Pad it as the inputs."
        )


def _only(name: str, given: Mapping[str, Tensor] | None, argument: str) -> Tensor | None:
    """Returns the one tensor a mapping may hold, None where it holds nothing."""
    if not given:
        return None
    unknown = [key for key in given if key != name]
    if unknown:
        raise ValueError(
            f"{argument} must have the key {name!r} only; got {', '.join(map(repr, unknown))}. "
            "These models have one site and one feature."
        )
    return given[name]
