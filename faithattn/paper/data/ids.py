"""Token ids as the published models read them: what is a word, what is padding, deletion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faithattn._checks import require_device

PADDING, UNKNOWN, START, END = 0, 1, 2, 3


def word_mask(ids: Tensor) -> Tensor:
    """Returns True where an id is a word: neither padding nor a special token."""
    return (ids > END) | (ids == UNKNOWN)


def check_ids(ids: object, embedding: nn.Embedding, argument: str) -> Tensor:
    """Returns ``ids`` if they are a right-padded batch of ids that the embedding knows."""
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"{argument} must be a tensor of token ids; got {type(ids).__name__}. "
            "Encode texts with Vocabulary.encode and collate them."
        )
    if ids.dtype != torch.int64:
        raise TypeError(f"{argument} must be int64; got {ids.dtype}. Convert with .long().")
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(
            f"{argument} must have shape (batch, positions), neither empty; "
            f"got {tuple(ids.shape)}. Pass at least one text."
        )
    require_device(argument, ids, "the model", embedding.weight)
    _check_values(ids, embedding.num_embeddings, argument)
    return ids


def _check_values(ids: Tensor, vocabulary_size: int, argument: str) -> None:
    """Raises if an id is unknown to the embedding or padding precedes a token."""
    low, high = (int(value) for value in ids.aminmax())
    if low < 0 or high >= vocabulary_size:
        raise ValueError(
            f"{argument} must lie in 0..{vocabulary_size - 1}; got {low if low < 0 else high}. "
            "Encode texts with the vocabulary the model was made for."
        )
    if low == PADDING and bool(((ids[:, 1:] != PADDING) & (ids[:, :-1] == PADDING)).any()):
        raise ValueError(
            f"{argument} must be padded (id {PADDING}) only at the end; got padding before a "
            "token. Pad on the right."
        )


def delete_positions(ids: Tensor, positions: Tensor) -> Tensor:
    """Deletes one word a row, ``(rows, L)`` to at most ``L`` columns, without dead columns."""
    _check_positions(ids, positions)
    source = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return _taken(ids, source + (source >= positions.unsqueeze(1)))


def delete_sets(ids: Tensor, gone: Tensor) -> Tensor:
    """Deletes the words ``gone`` (rows, L) of each row, be they more in some rows than in others.

    Raises:
        ValueError: If something else than a word is to go.
    """
    if gone.shape != ids.shape or bool((gone & ~word_mask(ids)).any()):
        raise ValueError(
            f"gone must mark words of ids {tuple(ids.shape)}; got {tuple(gone.shape)}, "
            f"{int(gone.sum())} marked. Choose positions where the mask is True."
        )
    # What is kept moves to the left in its order; what goes is padding behind it.
    order = gone.byte().argsort(dim=1, stable=True)
    return _taken(ids.masked_fill(gone, PADDING), order)


def _taken(ids: Tensor, source: Tensor) -> Tensor:
    """Columns ``source`` (rows, L) of ids, of which one more is padding; no dead columns."""
    shorter = F.pad(ids, (0, 1), value=PADDING).gather(1, source)
    longest = int((shorter != PADDING).sum(1).max())
    return shorter[:, : max(1, longest)]


def _check_positions(ids: Tensor, positions: Tensor) -> None:
    """Raises unless every row names one of its words."""
    rows, length = ids.shape
    if positions.dtype != torch.int64 or positions.shape != (rows,):
        raise ValueError(
            f"positions must be int64 with shape ({rows},); got {positions.dtype} "
            f"{tuple(positions.shape)}. Name one position for each row."
        )
    inside = (positions >= 0) & (positions < length)
    valid = inside & word_mask(ids).gather(1, positions.clamp(0, length - 1)[:, None])[:, 0]
    if not bool(valid.all()):
        row = int((~valid).nonzero()[0])
        raise ValueError(
            f"positions must name a word of each row; got {int(positions[row])} in row {row}. "
            "Choose positions where the mask is True."
        )
