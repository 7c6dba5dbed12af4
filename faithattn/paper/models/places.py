"""Logits of changed texts where a state depends on its window alone.

A position whose window is as it was keeps its score and its value, wherever it
is now. What is left is to score the others, and the softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faithattn._memory import chunk_size
from faithattn.measures.draws import spans
from faithattn.paper.data.ids import word_mask
from faithattn.paper.models.attention import masked_softmax
from faithattn.paper.models.differences import Differences, differences
from faithattn.paper.models.windows import ReadWindows

_ROW = 2**32  # more than there are vectors: a row and a vector in one number


class Head(NamedTuple):
    """What a published model makes of states, in its parts.

    Attributes:
        scores: Scores ``(K,)`` of states ``(K, size)`` in rows ``(K,)``.
        values: What is summed ``(K, M)``, of states ``(K, size)``.
        logits: Logits ``(n, C)`` of sums ``(n, M)`` in rows ``(n,)``.
        fixed: Scores ``(n, L)`` of ids ``(n, L)`` where no state has a say in
            them; None where ``scores`` counts.
    """

    scores: Callable[[Tensor, Tensor], Tensor]
    values: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor, Tensor], Tensor]
    fixed: Callable[[Tensor], Tensor] | None = None


class ReadPlaces:
    """Scores and values of the words of a batch, and what other texts get from them.

    Args:
        windows: What the encoder makes of windows of the batch.
        ids: The texts ``(B, L)``.
        codes: Their vectors ``(B, L)``; 0 at padding.
        head: What comes after the encoder.
        count: How many vectors V there are.
    """

    def __init__(
        self, windows: ReadWindows, ids: Tensor, codes: Tensor, head: Head, count: int
    ) -> None:
        self._windows, self._codes, self._head, self._count = windows, codes, head, count
        words = word_mask(ids)
        rows = words.nonzero()[:, 0]
        # Words are numbered from 1: whatever is no word has nothing, at 0.
        self._numbers = torch.zeros_like(codes)
        self._numbers[words] = torch.arange(1, 1 + len(rows), device=codes.device)
        scores, values = self._judged(windows.around(codes, words), rows, windows.none)
        self._scores = nn.functional.pad(scores, (1, 0))
        self._values = nn.functional.pad(values, (0, 0, 1, 0))
        self._keys, self._order = (rows * _ROW + codes[words]).sort(stable=True)

    def logits(
        self, ids: Tensor, codes: Tensor, rows: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(n, C)`` of texts made from rows ``(n,)``, and whether each is the same.

        Args:
            ids: The texts ``(n, L)``.
            codes: The vectors ``(n, L)`` at their positions.
            rows: The row of each.
            vectors: The vectors ``(K, E)`` that have the codes from V on.
        """
        words, apart = word_mask(ids), differences(self._codes[rows], codes)
        if self._windows.reach:
            numbers = self._unmoved(rows, codes.shape[1], apart)
        else:
            numbers = self._found(rows, codes)
        fresh = words & (numbers == 0)
        scores, values = self._scores, self._values
        texts = fresh.nonzero()[:, 0]
        if len(texts):
            around, of_rows = self._windows.around(codes, fresh), rows[texts]
            places = torch.arange(len(texts), device=ids.device)
            if self._windows.reach == 0:  # the same word comes back in many texts of a row
                keys, places = torch.unique(of_rows * _ROW + around[:, 0], return_inverse=True)
                of_rows, around = keys // _ROW, (keys % _ROW)[:, None]
            numbers[fresh] = places + len(scores)
            more = self._judged(around, of_rows, vectors)
            scores, values = torch.cat([scores, more[0]]), torch.cat([values, more[1]])
        fixed = self._head.fixed
        weights = masked_softmax(scores[numbers] if fixed is None else fixed(ids), words)
        sums = nn.functional.embedding_bag(numbers, values, per_sample_weights=weights, mode="sum")
        return self._head.logits(sums, rows), apart.same

    def _found(self, rows: Tensor, codes: Tensor) -> Tensor:
        """The number ``(n, L)`` of the same word in the same row; 0 where there is none."""
        keys = rows[:, None] * _ROW + codes
        if len(self._keys) == 0:
            return torch.zeros_like(keys)
        at = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
        return torch.where(self._keys[at] == keys, self._order[at] + 1, 0)

    def _unmoved(self, rows: Tensor, length: int, apart: Differences) -> Tensor:
        """The number ``(n, L)`` of the same window in the same row; 0 where it is another."""
        places = torch.arange(length, device=rows.device)
        left = places + self._windows.reach < apart.first[:, None]
        right = places - self._windows.reach > apart.last[:, None]
        source = torch.where(left, places, places + apart.offset[:, None])
        width = self._codes.shape[1]
        numbers = self._numbers[rows[:, None], source.clamp(0, width - 1)]
        return numbers.masked_fill_(~(left | right), 0)

    def _judged(self, around: Tensor, rows: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(K,)`` and values ``(K, M)`` of windows in rows ``(K,)``, within the budget."""
        elements = self._windows.elements + 6 * self._windows.size
        step = chunk_size(elements, bytes_per_element=self._windows.element_size)
        parts = []
        for first, last in spans(len(rows), step) or [(0, 0)]:
            part, needed = around[first:last], vectors
            if len(vectors) and len(rows) > step:
                part, needed = self._narrowed(part, vectors)
            states = self._windows.states(part, needed)
            parts.append((self._head.scores(states, rows[first:last]), self._head.values(states)))
        if len(parts) == 1:
            return parts[0]
        scores, values = zip(*parts, strict=True)
        return torch.cat(scores), torch.cat(values)

    def _narrowed(self, around: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Windows with no other vectors than they need."""
        other = around >= self._count
        needed, places = torch.unique(around[other], return_inverse=True)
        around = around.clone()
        around[other] = places + self._count
        return around, vectors[needed - self._count]
