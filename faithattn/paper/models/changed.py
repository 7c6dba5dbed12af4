"""Logits of texts that differ in places from texts that a published model was run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.paper.data.ids import PADDING, word_mask
from faithattn.paper.models.common import FEATURE
from faithattn.paper.models.recurrence import ReadTexts

Read = Callable[[Any, Tensor], "Tensor | None"]
Decode = Callable[[Tensor, Tensor, Tensor], Run]


class ChangedTexts:
    """Goes on from texts that were run, as :class:`faithattn.adapters.beside.Beside` says.

    Args:
        model: A published model whose encoder can share.
        ids: The texts ``(B, L)``.
        run: Their run; None to make one.
        read: Takes the texts from inputs made of rows ``(n,)``; None if these
            differ in something else.
        decode: Makes a run, without features, of states ``(n, L, H)``, of the mask
            ``(n, L)`` and of rows ``(n,)``.
    """

    def __init__(
        self, model: Any, ids: Tensor, run: Run | None, read: Read, decode: Decode
    ) -> None:
        self._model: nn.Module = model
        self._embedding: nn.Embedding = model.embedding
        self._ids, self._read, self._decode = ids, read, decode
        # Padding comes first: its id is the least.
        words = torch.unique(torch.cat([ids.new_tensor([PADDING]), ids.flatten()]))
        self._count = len(words)
        self._numbers = ids.new_full((self._embedding.num_embeddings,), -1)
        self._numbers[words] = torch.arange(len(words), device=ids.device)
        self._texts = ReadTexts(model.encoder, self._embedding(words), self._numbers[ids])
        self.run = self._run() if run is None else run

    def _run(self) -> Run:
        """The run of the texts as they are."""
        ids, model = self._ids, self._model
        with evaluating(model):
            run = self._decode(
                self._texts.states_read, word_mask(ids), torch.arange(len(ids), device=ids.device)
            )
            return replace(run, features={FEATURE: self._embedding(ids)})

    def with_inputs(self, inputs: Any, rows: Tensor, gone: Tensor | None = None) -> Tensor | None:
        """Logits ``(n, C)`` of inputs made from rows; see :class:`Beside`."""
        ids = self._read(inputs, rows)
        if ids is None or len(ids) != len(rows):
            return None
        if gone is not None:
            before = self._ids[rows][:, : ids.shape[1]]
            if not before.shape == ids.shape == gone.shape or bool(((before != ids) & ~gone).any()):
                return None
        codes = self._numbers[ids]
        unknown = codes < 0
        words, places = torch.unique(ids[unknown], return_inverse=True)
        codes[unknown] = places + self._count
        return self._decoded(ids, codes, rows, self._embedding(words))

    def with_features(self, rows: Tensor, gone: Tensor, values: Tensor) -> Tensor:
        """Logits ``(n, C)`` of rows with other embeddings in places; see :class:`Beside`."""
        ids = self._ids[rows]
        longest = int((ids != PADDING).sum(1).max())
        ids, gone = ids[:, :longest], gone[:, :longest]
        codes = self._numbers[ids]
        codes[gone] = self._count + torch.arange(len(values), device=ids.device)
        return self._decoded(ids, codes, rows, values)

    def _decoded(self, ids: Tensor, codes: Tensor, rows: Tensor, vectors: Tensor) -> Tensor:
        edited = self._texts.edited(codes, rows)
        states = self._texts.states(edited, vectors)
        with evaluating(self._model):
            changed = self._decode(states, word_mask(ids[edited.order]), edited.rows).logits
        logits = torch.empty_like(changed)
        # What is the same gives what the run gave, to the last bit.
        logits[edited.order] = self.run.logits[edited.rows].where(edited.same[:, None], changed)
        return logits
