"""Scores of positions that belong together, as one: words of sub-words, regions of patches."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from faithattn._checks import (
    require_count,
    require_device,
    require_floating,
    require_mask,
    require_tensor,
)

REDUCTIONS = ("sum", "mean", "max")


class _WordIds(Protocol):
    """What a fast tokenizer of Hugging Face returns."""

    def word_ids(self, batch_index: int = 0) -> list[int | None]: ...

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]: ...


def aggregate_scores(
    scores: Tensor,
    groups: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: str = "sum",
) -> tuple[Tensor, Tensor]:
    """Scores of groups of positions: of words, say, whose sub-words were scored.

    Attention and gradients times inputs are shares, which add up; hence the
    default.

    Args:
        scores: Scores of positions, shape ``(B, L)``, floating point.
        groups: Number of each position's group, from 0; -1 for none. Shape
            ``(B, L)``, or ``(L,)`` for the same in every instance; integers.
        mask: True at the positions that count, shape ``(B, L)``, bool; None
            for all.
        reduction: ``"sum"``, ``"mean"`` or ``"max"`` over a group's positions
            that count.

    Returns:
        Scores ``(B, G)`` in the dtype of ``scores``, where G is the highest
        number and one, and the mask ``(B, G)`` of groups with a position that
        counts; 0 in the others. nan stays nan. Differentiable in the scores.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes or devices differ, or an argument is out of range.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[0.1, 0.5, 0.2, 0.2]])
        >>> words = torch.tensor([[-1, 0, 0, 1]])
        >>> aggregate_scores(scores, words)
        (tensor([[0.7000, 0.2000]]), tensor([[True, True]]))
    """
    if require_floating("scores", scores).ndim != 2:
        raise ValueError(
            f"scores must have shape (batch, positions); got {tuple(scores.shape)}. "
            "Add or choose dimensions."
        )
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}. "
            "Shares of a whole add up."
        )
    numbers = _checked_groups(groups, scores)
    counts = numbers >= 0
    if mask is not None:
        counts = counts & require_mask(mask, "scores", scores)
    n_groups = int(numbers.max()) + 1 if numbers.numel() else 0
    # What does not count goes to a column of its own, which is cut off.
    index = torch.where(counts, numbers, n_groups)
    shape = (len(scores), n_groups + 1)
    sizes = torch.zeros(shape, dtype=scores.dtype, device=scores.device).scatter_add(
        1, index, counts.to(scores.dtype)
    )
    filled = torch.where(counts, scores, 0)
    if reduction == "max":
        empty = torch.full(shape, -math.inf, dtype=scores.dtype, device=scores.device)
        total = empty.scatter_reduce(1, index, filled, "amax").masked_fill(sizes == 0, 0)
    else:
        total = torch.zeros_like(sizes).scatter_add(1, index, filled)
        total = total / sizes.clamp_min(1) if reduction == "mean" else total
    return total[:, :-1], sizes[:, :-1] > 0


def word_groups(encoding: Any) -> Tensor:
    """Groups of sub-words that make a word, from a fast tokenizer's output.

    Args:
        encoding: What a fast tokenizer of Hugging Face returns for a text, a
            batch, or a batch of pairs: anything with ``word_ids(i)`` and
            ``sequence_ids(i)``. Words of a second text are numbered on.

    Returns:
        Groups ``(B, L)``, int64, for :func:`aggregate_scores`: the number of
        each token's word; -1 for special tokens and padding.

    Raises:
        TypeError: If ``encoding`` does not know its words, as the output of a
            slow tokenizer does not.

    Examples:
        >>> class Encoding(dict):
        ...     def word_ids(self, i=0):
        ...         return [None, 0, 0, 1, None]
        ...     def sequence_ids(self, i=0):
        ...         return [None, 0, 0, 0, None]
        >>> word_groups(Encoding(input_ids=[[101, 7592, 2088, 999, 102]]))
        tensor([[-1,  0,  0,  1, -1]])
    """
    rule = (
        f"encoding must know the words of its tokens; got {type(encoding).__name__}. "
        "Use a fast tokenizer, and pass all that it returns."
    )
    if not (hasattr(encoding, "word_ids") and hasattr(encoding, "sequence_ids")):
        raise TypeError(rule)
    ids = encoding["input_ids"]
    one = ids.ndim == 1 if isinstance(ids, Tensor) else not hasattr(ids[0], "__len__")
    try:
        rows = [_words_of(encoding, index) for index in range(1 if one else len(ids))]
    except ValueError as error:  # a slow tokenizer's output has the methods, which refuse
        raise TypeError(rule) from error
    length = max(len(row) for row in rows)
    return torch.tensor(
        [row + [-1] * (length - len(row)) for row in rows],
        dtype=torch.int64,
        device=ids.device if isinstance(ids, Tensor) else None,
    )


def patch_groups(height: int, width: int, *, size: int, prefix: int = 0) -> Tensor:
    """Groups of neighbouring image patches that make a region.

    Args:
        height: Rows of patches.
        width: Columns of patches; tokens run along the rows.
        size: Rows and columns of patches in a region; those at the right and
            lower edge are smaller where it does not divide.
        prefix: Tokens before the patches that belong to none, such as CLS.

    Returns:
        Groups ``(prefix + height * width,)``, int64, for
        :func:`aggregate_scores`, which takes them for every image.

    Raises:
        TypeError: If an argument is no whole number.
        ValueError: If ``prefix`` is negative or another argument is below 1.

    Examples:
        >>> patch_groups(2, 4, size=2, prefix=1)
        tensor([-1,  0,  0,  1,  1,  0,  0,  1,  1])
    """
    rows, columns = require_count("height", height), require_count("width", width)
    side = require_count("size", size)
    special = require_count("prefix", prefix, least=0)
    down, across = torch.arange(rows) // side, torch.arange(columns) // side
    regions = down[:, None] * math.ceil(columns / side) + across
    return torch.cat([torch.full((special,), -1), regions.flatten()])


def _checked_groups(groups: object, scores: Tensor) -> Tensor:
    """Group numbers (B, L), int64."""
    numbers = require_tensor("groups", groups)
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(
            f"groups must be integers, the number of each position's group; got {numbers.dtype}. "
            "Use torch.int64."
        )
    if numbers.shape not in (scores.shape, scores.shape[1:]):
        raise ValueError(
            f"groups must have shape {tuple(scores.shape)} or {tuple(scores.shape[1:])}, as the "
            f"scores; got {tuple(numbers.shape)}. Give one number a position, -1 for none."
        )
    require_device("groups", numbers, "scores", scores)
    numbers = numbers.long().expand(scores.shape)
    if (numbers < -1).any():
        raise ValueError(
            f"groups must be numbered from 0, with -1 for none; got {int(numbers.min())}. "
            "Renumber them."
        )
    return numbers


def _words_of(encoding: _WordIds, index: int) -> list[int]:
    """Numbers of the words of one text or pair."""
    words, texts = encoding.word_ids(index), encoding.sequence_ids(index)
    pairs = list(zip(words, texts, strict=True))
    first = 1 + max((word for word, text in pairs if word is not None and text == 0), default=-1)
    return [-1 if word is None else word + (first if text == 1 else 0) for word, text in pairs]
