"""Portions of texts that fit the memory budget whatever their length."""

from __future__ import annotations

from collections.abc import Sequence

from faithattn._memory import chunk_size

# Numbers that the published BiLSTM keeps for each word while gradients are on, roughly: the
# embedding, gates, cells and states of two directions. The other encoders keep fewer.
_PER_WORD = 3000


def portions(lengths: Sequence[int], most: int) -> list[range]:
    """Cuts a row of texts into portions that fit the memory budget when padded.

    Args:
        lengths: Words of each text, in the order of the row.
        most: Texts in a portion at most.

    Returns:
        Ranges of places that follow each other and cover the row, of one text
        at least.

    Examples:
        >>> portions([10, 20, 4000, 4000, 30], most=2)
        [range(0, 2), range(2, 4), range(4, 5)]
        >>> from faithattn import memory_budget
        >>> with memory_budget(64):
        ...     portions([10, 20, 4000, 4000, 30], most=2)
        [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    found, start, longest = [], 0, 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        size = place - start + 1
        if size > 1 and (size > most or size > chunk_size(_PER_WORD * longest)):
            found.append(range(start, place))
            start, longest = place, length
    if lengths:
        found.append(range(start, len(lengths)))
    return found
