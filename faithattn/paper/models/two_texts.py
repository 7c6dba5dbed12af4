"""What the published models of two texts share: one is explained, the other asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from faithattn.adapters.beside import Beside
from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.paper.data.ids import PADDING, check_ids, delete_positions, delete_sets, word_mask
from faithattn.paper.models.attention import ATTENTIONS
from faithattn.paper.models.changed import ChangedTexts, can_share
from faithattn.paper.models.common import (
    FEATURE,
    SITE,
    alternatives,
    choose,
    embedded,
    make_embedding,
    override,
    pool,
    require_entries,
)
from faithattn.paper.models.encoders import ENCODERS
from faithattn.paper.models.places import Head


class TwoTextsState(NamedTuple):
    """What a :class:`TwoTexts` needs to decode other attention.

    Attributes:
        values: Projected states of the explained text, shape ``(B, L, M)``.
        asked: Projected vector of the other text, shape ``(B, M)``.
        offered: True at classes on offer, shape ``(B, C)``; None where all are.
    """

    values: Tensor
    asked: Tensor
    offered: Tensor | None


class TwoTexts(nn.Module):
    """A text that is explained, and another whose vector is the query of its attention.

    Both share the embedding and have encoders of their own. The vector of the
    text that asks is, of a BiLSTM, the last state of both directions, otherwise
    the mean over its words. The logits are
    ``W_o tanh(W_p sum_t(a_t h_t) + W_q q + b) + c``.

    Inputs are a mapping: ids ``(B, L)`` of the explained text, ids ``(B, Lq)``
    of the other, and what a model of its kind adds to them.

    Args:
        vocabulary_size: Number of token ids, the four special ones included.
        n_classes: Number of classes.
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        attention: ``"additive"`` or ``"scaled_dot"``.
        embedding_size: Features of one embedding.
        hidden_size: Half the features of one state.
        vectors: Embeddings to start from, ``(vocabulary_size, embedding_size)``;
            by default normal with standard deviation 1: from .1, matching one
            text to a sentence of the other takes twice the epochs to begin.

    Attributes:
        keys: Names of the inputs: of the explained text, of the other, others.
        collate: What makes them, for messages.
        config: The arguments but ``vectors``, ready for JSON.
        output: How logits become probabilities: ``"softmax"``.

    Raises:
        ValueError: If a name is unknown or a size does not fit.
    """

    keys: ClassVar[tuple[str, ...]]
    collate: ClassVar[str]
    output = "softmax"

    def __init__(
        self,
        vocabulary_size: int,
        n_classes: int,
        *,
        encoder: str = "bilstm",
        attention: str = "additive",
        embedding_size: int = 300,
        hidden_size: int = 128,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, int | str] = {
            "vocabulary_size": vocabulary_size,
            "n_classes": n_classes,
            "encoder": encoder,
            "attention": attention,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
        }
        self.embedding = make_embedding(vocabulary_size, embedding_size, vectors, std=1.0)
        make_encoder = choose("encoder", encoder, ENCODERS)
        # The names of the parts are those in checkpoints.
        self.encoder = make_encoder(embedding_size, hidden_size)
        self.question_encoder = make_encoder(embedding_size, hidden_size)
        size = self.encoder.size
        self.attention = choose("attention", attention, ATTENTIONS)(size, size)
        self.passage_projection = nn.Linear(size, hidden_size, bias=False)
        self.question_projection = nn.Linear(size, hidden_size)
        self.decoder = nn.Linear(hidden_size, n_classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Maps a mapping of inputs to logits ``(B, n_classes)``."""
        text, *asking = self._check(inputs)
        return self._trace(text, asking, self.embedding(text), None).logits

    def run(
        self,
        inputs: Mapping[str, Tensor],
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once; see ``faithattn.AttentionModel``.

        Args:
            inputs: The texts, and what the model takes beside them.
            attention: ``{"attention": (B, L)}`` over the explained text, used as
                given.
            features: ``{"embedding": (B, L, embedding_size)}`` to use instead
                of the embeddings of the explained text.

        Raises:
            TypeError: If an input has the wrong type.
            ValueError: If a key is missing, or a shape or a value is wrong.
        """
        with evaluating(self):
            text, *asking = self._check(inputs)
            vectors = embedded(self.embedding, text, features)
            return self._trace(text, asking, vectors, attention)

    def replay(self, state: TwoTextsState, attention: Mapping[str, Tensor]) -> Tensor:
        """Decodes alternatives ``{"attention": (K, B, L)}`` to logits ``(K, B, n_classes)``."""
        weights = alternatives(attention, state.values)
        return self._answered(pool(weights, state.values), state.asked, state.offered)

    def remove(self, inputs: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
        """Deletes one word of each explained text, ``positions`` of shape ``(rows,)``."""
        text, *_ = self._check(inputs)
        return self._with(inputs, delete_positions(text, positions))

    def remove_sets(self, inputs: Mapping[str, Tensor], gone: Tensor) -> dict[str, Tensor]:
        """Deletes the words ``gone`` (rows, L) of each explained text."""
        text, *_ = self._check(inputs)
        return self._with(inputs, delete_sets(text, gone))

    def select(self, inputs: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Returns the given rows, which may repeat."""
        return {key: select_rows(value, rows) for key, value in inputs.items()}

    def _with(self, inputs: Mapping[str, Tensor], text: Tensor) -> dict[str, Tensor]:
        """The inputs with another text to explain."""
        return {**{key: inputs[key] for key in self.keys}, self.keys[0]: text}

    def _beside(self, inputs: Mapping[str, Tensor], run: Run | None) -> Beside | None:
        """What was read in a run, for explained texts that differ in places."""
        text, *asking = self._check(inputs)
        if not can_share(self):
            return None
        with evaluating(self):
            query = self._read(asking[0])
            asked, projected = self.attention.asked(query), self.question_projection(query)
        offered = self._offered(asking)

        def read(changed: object, rows: Tensor) -> Tensor | None:
            other, *others = self._check(changed)
            same = zip(others, asking, strict=True)
            return other if all(torch.equal(one, own[rows]) for one, own in same) else None

        def decode(states: Tensor, ids: Tensor, rows: Tensor) -> Run:
            chosen = None if offered is None else offered[rows]
            return self._decoded(states, ids, (query[rows], chosen), None, {})

        def scores(states: Tensor, rows: Tensor) -> Tensor:
            own = None if asked is None else asked[rows]
            return self.attention.scores(states[:, None], own)[:, 0]

        def answered(sums: Tensor, rows: Tensor) -> Tensor:
            chosen = None if offered is None else offered[rows]
            return self._answered(sums, projected[rows], chosen)

        head = Head(scores, self.passage_projection, answered)
        return ChangedTexts(self, inputs, text, run, read, decode, head)

    def _check(self, inputs: object) -> list[Tensor]:
        """Returns valid inputs, in the order of their names."""
        entries = require_entries(inputs, self.keys, self.collate)
        explained, asking = self.keys[:2]
        text = check_ids(entries[explained], self.embedding, explained)
        other = check_ids(entries[asking], self.embedding, asking)
        if len(other) != len(text):
            raise ValueError(
                f"{asking} must have a row for each {explained}; got {len(other)} for "
                f"{len(text)}. Pair them up."
            )
        return [text, other, *(entries[key] for key in self.keys[2:])]

    def _offered(self, asking: list[Tensor]) -> Tensor | None:
        """The classes on offer ``(B, C)`` among the inputs that ask; None where all are."""
        return asking[1] if len(asking) > 1 else None

    def _trace(
        self,
        text: Tensor,
        asking: list[Tensor],
        vectors: Tensor,
        attention: Mapping[str, Tensor] | None,
    ) -> Run:
        """Runs everything after the embedding of the explained text."""
        asked = self._read(asking[0]), self._offered(asking)
        states = self.encoder(vectors, text != PADDING)
        return self._decoded(states, text, asked, attention, {FEATURE: vectors})

    def _decoded(
        self,
        states: Tensor,
        ids: Tensor,
        asked: tuple[Tensor, Tensor | None],
        attention: Mapping[str, Tensor] | None,
        features: Mapping[str, Tensor],
    ) -> Run:
        """Runs everything after the encoder; ``asked`` is the query, and what is on offer."""
        query, offered = asked
        mask = word_mask(ids)
        weights = override(attention, mask)
        if weights is None:
            weights = self.attention(states, mask, query)
        # Projecting before pooling is the same sum, and a replay then leaves the states alone.
        values = self.passage_projection(states)
        state = TwoTextsState(values, self.question_projection(query), offered)
        logits = self.replay(state, {SITE: weights.unsqueeze(0)})[0]
        return Run(logits, {SITE: weights}, mask, features, state=state)

    def _answered(self, sums: Tensor, asked: Tensor, offered: Tensor | None) -> Tensor:
        """Logits ``(..., n, n_classes)`` of sums ``(..., n, M)`` and what asks ``(n, M)``."""
        logits: Tensor = self.decoder((sums + asked).tanh())
        if offered is None:
            return logits
        return logits.masked_fill(~offered, torch.finfo(logits.dtype).min)

    def _read(self, asking: Tensor) -> Tensor:
        """Encodes the texts that ask to one vector each."""
        real = asking != PADDING
        states = self.question_encoder(self.embedding(asking), real)
        return self.question_encoder.summary(states, real, word_mask(asking))
