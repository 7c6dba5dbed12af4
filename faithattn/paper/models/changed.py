"""Logits of texts that differ in places from texts that a published model was run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from faithattn._memory import chunk_size
from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.paper.data.ids import PADDING
from faithattn.paper.models.attention import ATTENTIONS, LogOddsAttention
from faithattn.paper.models.common import FEATURE
from faithattn.paper.models.encoders import BiLSTMEncoder
from faithattn.paper.models.places import Head, ReadPlaces
from faithattn.paper.models.recurrence import ReadTexts, is_recurrent
from faithattn.paper.models.windows import ReadWindows, is_windowed

_DTYPES = (torch.float32, torch.float64)
_SCORED = (*ATTENTIONS.values(), LogOddsAttention)
_KEPT = 10  # features of a state kept for each position, projections included, by any encoder

Read = Callable[[Any, Tensor], "Tensor | None"]
Decode = Callable[[Tensor, Tensor, Tensor], Run]


class ChangedTexts:
    """Goes on from texts that were run, as :class:`faithattn.adapters.beside.Beside` says.

    Args:
        model: A published model that :func:`can_share` allows.
        ids: The texts ``(B, L)``.
        run: Their run; None to make one.
        read: Takes the texts from inputs made of rows ``(n,)``; None if these
            differ in something else.
        decode: Makes a run, without features, of states ``(n, L, H)``, of the texts
            ``(n, L)`` and of rows ``(n,)``.
        head: The same in its parts.
    """

    def __init__(
        self, model: Any, ids: Tensor, run: Run | None, read: Read, decode: Decode, head: Head
    ) -> None:
        self._model = model
        self._embedding: nn.Embedding = model.embedding
        self._ids, self._read = ids, read
        # Padding comes first: its id is the least.
        words = torch.unique(torch.cat([ids.new_tensor([PADDING]), ids.flatten()]))
        self._count = len(words)
        self._numbers = ids.new_full((self._embedding.num_embeddings,), -1)
        self._numbers[words] = torch.arange(len(words), device=ids.device)
        vectors, codes = self._embedding(words), self._numbers[ids]
        with evaluating(model):
            self._texts: _Recurrent | ReadPlaces
            if isinstance(model.encoder, BiLSTMEncoder):
                self._texts = _Recurrent(ReadTexts(model.encoder, vectors, codes), decode)
            else:
                windows = ReadWindows(model.encoder, vectors)
                self._texts = ReadPlaces(windows, ids, codes, head, self._count)
            self.run = self._run(decode) if run is None else run

    def _run(self, decode: Decode) -> Run:
        """The run of the texts as they are."""
        ids, embedded = self._ids, self._embedding(self._ids)
        if isinstance(self._texts, _Recurrent):
            states = self._texts.states_read
        else:
            states = self._model.encoder(embedded, ids != PADDING)
        run = decode(states, ids, torch.arange(len(ids), device=ids.device))
        return replace(run, features={FEATURE: embedded})

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
        with evaluating(self._model):
            changed, same = self._texts.logits(ids, codes, rows, vectors)
        # What is the same gives what the run gave, to the last bit.
        return self.run.logits[rows].where(same[:, None], changed)


class _Recurrent:
    """What a BiLSTM read, and what its model makes of it."""

    def __init__(self, texts: ReadTexts, decode: Decode) -> None:
        self._texts, self._decode = texts, decode
        self.states_read = texts.states_read

    def logits(
        self, ids: Tensor, codes: Tensor, rows: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`ReadPlaces.logits`."""
        edited = self._texts.edited(codes, rows)
        states = self._texts.states(edited, vectors)
        found = self._decode(states, ids[edited.order], edited.rows).logits
        logits, same = torch.empty_like(found), torch.empty_like(edited.apart.same)
        logits[edited.order], same[edited.order] = found, edited.apart.same
        return logits, same


def can_share(model: Any, shape: Sequence[int]) -> bool:
    """Whether it is known all that a published model does, and there is room for texts.

    Args:
        model: The model; somebody may watch or change its parts.
        shape: That of the texts, ``(B, L)``.
    """
    encoder, weights = model.encoder, list(model.parameters())
    if not is_recurrent(encoder) and not (
        is_windowed(encoder) and type(model.attention) in _SCORED
    ):
        return False
    if any(map(_is_altered, model.modules())):
        return False
    if not all(each.device.type == "cpu" and each.dtype in _DTYPES for each in weights):
        return False
    elements = _KEPT * encoder.size * shape[1]
    return chunk_size(elements, bytes_per_element=weights[0].element_size()) >= shape[0]


def _is_altered(part: nn.Module) -> bool:
    """Whether somebody has put something in the way of what a part does."""
    own = {"forward", "run"} & vars(part).keys()
    return bool(own or part._forward_hooks or part._forward_pre_hooks)
