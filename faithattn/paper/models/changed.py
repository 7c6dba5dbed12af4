"""Logits of texts that differ in places from texts that a published model was run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from faithattn._memory import chunk_size
from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.measures.draws import spans
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
_WORTH = 2  # texts made from one that is read for them, so that reading it pays

Read = Callable[[Any, Tensor], "Tensor | None"]
Decode = Callable[[Tensor, Tensor, Tensor], Run]


class ChangedTexts:
    """Goes on from texts that were run, as :class:`faithattn.adapters.beside.Beside` says.

    What was made of the texts is kept, of as many as the budget has room for:
    of a batch that is larger, those that are asked for are read when they are.

    Args:
        model: A published model that :func:`can_share` allows.
        inputs: What was run.
        ids: The texts ``(B, L)`` of it.
        run: Their run; None to make one.
        read: Takes the texts from inputs made of rows ``(n,)``; None if these
            differ in something else.
        decode: Makes a run, without features, of states ``(n, L, H)``, of the texts
            ``(n, L)`` and of rows ``(n,)``.
        head: The same in its parts.
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        ids: Tensor,
        run: Run | None,
        read: Read,
        decode: Decode,
        head: Head,
    ) -> None:
        self._model, self._ids, self._read = model, ids, read
        self._decode, self._head = decode, head
        self._room = kept_at_once(model, ids.shape[1])
        self._kept: _Texts | None = None
        if len(ids) <= self._room:
            self._kept = self._texts(torch.arange(len(ids), device=ids.device))
            if run is None:
                with evaluating(model):
                    run = self._kept.run(decode)
        self.run: Run = model.run(inputs) if run is None else run

    def with_inputs(self, inputs: Any, rows: Tensor, gone: Tensor | None = None) -> Tensor | None:
        """Logits ``(n, C)`` of inputs made from rows; see :class:`Beside`."""
        ids = self._read(inputs, rows)
        if ids is None or len(ids) != len(rows):
            return None
        if gone is not None:
            before = self._ids[rows][:, : ids.shape[1]]
            if not before.shape == ids.shape == gone.shape or bool(((before != ids) & ~gone).any()):
                return None

        def logits(texts: _Texts, part: Tensor) -> tuple[Tensor, Tensor]:
            return texts.with_ids(ids[part], rows[part])

        return self._in_parts(rows, logits)

    def with_features(self, rows: Tensor, gone: Tensor, values: Tensor) -> Tensor | None:
        """Logits ``(n, C)`` of rows with other embeddings in places; see :class:`Beside`."""
        owners = gone.nonzero()[:, 0]

        def logits(texts: _Texts, part: Tensor) -> tuple[Tensor, Tensor]:
            own = values if len(values) == 1 else values[torch.isin(owners, part)]
            return texts.with_vectors(rows[part], gone[part], own)

        return self._in_parts(rows, logits)

    def _in_parts(
        self, rows: Tensor, logits: Callable[[_Texts, Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor | None:
        """What ``logits`` gives for numbers of rows ``(n,)``, those of some texts at a time.

        None where texts would be read for hardly more of others than they are.
        """
        wanted = torch.unique(rows)
        texts = self._kept
        kept = texts is not None and texts.holds(wanted)
        if not kept and len(rows) < _WORTH * len(wanted):
            return None
        found = self.run.logits[rows]
        for first, last in [(0, len(wanted))] if kept else spans(len(wanted), self._room):
            some = wanted[first:last]
            if texts is None or not kept:
                texts = self._kept = None  # before others take their place
                texts = self._kept = self._texts(some)
            part = torch.isin(rows, some).nonzero()[:, 0]
            with evaluating(self._model):
                changed, same = logits(texts, part)
            # What is the same gives what the run gave, to the last bit.
            found[part] = found[part].where(same[:, None], changed)
        return found

    def _texts(self, rows: Tensor) -> _Texts:
        with evaluating(self._model):
            return _Texts(self._model, self._ids[rows], rows, self._decode, self._head)


class _Texts:
    """Some of the texts that were run, as a model's encoder read them.

    Args:
        model: The model.
        ids: The texts ``(m, L)``.
        rows: Their numbers ``(m,)``, ascending, by which ``decode`` and ``head`` know them.
        decode: As in :class:`ChangedTexts`.
        head: The same in its parts.
    """

    def __init__(self, model: Any, ids: Tensor, rows: Tensor, decode: Decode, head: Head) -> None:
        self._embedding: nn.Embedding = model.embedding
        self._encoder, self._ids, self._rows = model.encoder, ids, rows
        # Padding comes first: its id is the least.
        words = torch.unique(torch.cat([ids.new_tensor([PADDING]), ids.flatten()]))
        self._count = len(words)
        self._numbers = ids.new_full((self._embedding.num_embeddings,), -1)
        self._numbers[words] = torch.arange(len(words), device=ids.device)
        vectors, codes = self._embedding(words), self._numbers[ids]
        self._read: _Recurrent | ReadPlaces
        if isinstance(model.encoder, BiLSTMEncoder):
            read = ReadTexts(model.encoder, vectors, codes)
            self._read = _Recurrent(
                read, lambda states, texts, local: decode(states, texts, rows[local])
            )
        else:
            windows, own = ReadWindows(model.encoder, vectors), _among(head, rows)
            self._read = ReadPlaces(windows, ids, codes, own, self._count)

    def run(self, decode: Decode) -> Run:
        """The run of the texts as they are."""
        embedded = self._embedding(self._ids)
        if isinstance(self._read, _Recurrent):
            states = self._read.states_read
        else:
            states = self._encoder(embedded, self._ids != PADDING)
        return replace(decode(states, self._ids, self._rows), features={FEATURE: embedded})

    def holds(self, rows: Tensor) -> bool:
        """Whether all of these numbers of texts are here."""
        return bool(torch.isin(rows, self._rows).all())

    def with_ids(self, ids: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(n, C)`` of texts made from rows, and whether each is the same."""
        codes = self._numbers[ids]
        unknown = codes < 0
        words, places = torch.unique(ids[unknown], return_inverse=True)
        codes[unknown] = places + self._count
        return self._read.logits(ids, codes, self._local(rows), self._embedding(words))

    def with_vectors(self, rows: Tensor, gone: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same of rows with other vectors where ``gone``, one for all or for each."""
        local = self._local(rows)
        ids = self._ids[local]
        longest = int((ids != PADDING).sum(1).max())
        ids, gone = ids[:, :longest], gone[:, :longest]
        codes = self._numbers[ids]
        codes[gone] = self._count + torch.arange(len(values), device=ids.device)
        return self._read.logits(ids, codes, local, values)

    def _local(self, rows: Tensor) -> Tensor:
        """Where numbers of texts are among those that are here."""
        return torch.searchsorted(self._rows, rows)


def _among(head: Head, rows: Tensor) -> Head:
    """The parts of a model for texts that are numbered from 0, and known as ``rows``."""
    return head._replace(
        scores=lambda states, local: head.scores(states, rows[local]),
        logits=lambda sums, local: head.logits(sums, rows[local]),
    )


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


def can_share(model: Any) -> bool:
    """Whether it is known all that a published model does: nobody watches or changes its parts."""
    encoder, weights = model.encoder, list(model.parameters())
    if not is_recurrent(encoder) and not (
        is_windowed(encoder) and type(model.attention) in _SCORED
    ):
        return False
    if any(map(_is_altered, model.modules())):
        return False
    return all(each.device.type == "cpu" and each.dtype in _DTYPES for each in weights)


def kept_at_once(model: Any, length: int) -> int:
    """Of how many texts of a length the budget keeps what was made of them; one at the least."""
    size = next(model.parameters()).element_size()
    return chunk_size(_KEPT * model.encoder.size * length, bytes_per_element=size)


def _is_altered(part: nn.Module) -> bool:
    """Whether somebody has put something in the way of what a part does."""
    own = {"forward", "run"} & vars(part).keys()
    return bool(own or part._forward_hooks or part._forward_pre_hooks)
