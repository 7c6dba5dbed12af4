"""The published question-answering model; import it from ``faithattn.paper.models``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
    check_candidates,
    choose,
    embedded,
    make_embedding,
    override,
    pool,
    require_entries,
)
from faithattn.paper.models.encoders import ENCODERS
from faithattn.paper.models.places import Head


class QuestionState(NamedTuple):
    """What a :class:`QuestionAnswerer` needs to decode other attention.

    Attributes:
        values: Projected passage states, shape ``(B, L, M)``.
        question: Projected question, shape ``(B, M)``.
        candidates: True at answers on offer, shape ``(B, C)``.
    """

    values: Tensor
    question: Tensor
    candidates: Tensor


class QuestionAnswerer(nn.Module):
    """A passage and a question, one of several entities as the answer.

    Passage and question share the embedding and have encoders of their own.
    The question's vector (BiLSTM: last state of both directions; otherwise the
    mean over its words) is the query of the attention over the passage. The
    logits are ``W_o tanh(W_p sum_t(a_t h_t) + W_q q + b) + c``; entities that
    are not candidates get the lowest finite number, hence probability 0.

    Inputs are a mapping: ``"passage"`` ids ``(B, L)``, ``"question"`` ids
    ``(B, Lq)``, ``"candidates"`` bool ``(B, n_classes)``; ids as in
    :class:`TextClassifier`. What is explained is the passage.

    Args:
        vocabulary_size: Number of token ids, the four special ones included.
        n_classes: Number of entities.
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        attention: ``"additive"`` or ``"scaled_dot"``.
        embedding_size: Features of one embedding.
        hidden_size: Half the features of one state.
        vectors: Embeddings to start from, ``(vocabulary_size, embedding_size)``;
            by default normal with standard deviation 1: from .1, matching the
            question to a sentence takes twice the epochs to begin.

    Attributes:
        config: The arguments but ``vectors``, ready for JSON.
        output: How logits become probabilities: ``"softmax"``.

    Raises:
        ValueError: If a name is unknown or a size does not fit.

    References:
        Jain and Wallace (2019), "Attention is not Explanation".

    Examples:
        >>> from faithattn.paper.training import build
        >>> make = lambda: QuestionAnswerer(9, 3, embedding_size=4, hidden_size=2)
        >>> inputs = {
        ...     "passage": torch.tensor([[2, 5, 6, 7, 3]]),
        ...     "question": torch.tensor([[2, 8, 3]]),
        ...     "candidates": torch.tensor([[True, True, False]]),
        ... }
        >>> run = build(make, seed=0).run(inputs)
        >>> run.logits.softmax(-1)[0, 2].item(), run.mask.sum().item()
        (0.0, 3)
    """

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
        self.encoder = make_encoder(embedding_size, hidden_size)
        self.question_encoder = make_encoder(embedding_size, hidden_size)
        size = self.encoder.size
        self.attention = choose("attention", attention, ATTENTIONS)(size, size)
        self.passage_projection = nn.Linear(size, hidden_size, bias=False)
        self.question_projection = nn.Linear(size, hidden_size)
        self.decoder = nn.Linear(hidden_size, n_classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Maps a mapping of inputs to logits ``(B, n_classes)``."""
        passage, question, candidates = self._check(inputs)
        return self._trace(passage, question, candidates, self.embedding(passage), None).logits

    def run(
        self,
        inputs: Mapping[str, Tensor],
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once; see ``faithattn.AttentionModel``.

        Args:
            inputs: ``"passage"``, ``"question"`` and ``"candidates"``.
            attention: ``{"attention": (B, L)}`` over the passage, used as given.
            features: ``{"embedding": (B, L, embedding_size)}`` to use instead
                of the embeddings of the passage.

        Raises:
            TypeError: If an input has the wrong type.
            ValueError: If a key is missing, or a shape or a value is wrong.
        """
        with evaluating(self):
            passage, question, candidates = self._check(inputs)
            vectors = embedded(self.embedding, passage, features)
            return self._trace(passage, question, candidates, vectors, attention)

    def replay(self, state: QuestionState, attention: Mapping[str, Tensor]) -> Tensor:
        """Decodes alternatives ``{"attention": (K, B, L)}`` to logits ``(K, B, n_classes)``."""
        weights = alternatives(attention, state.values)
        return self._answered(pool(weights, state.values), state.question, state.candidates)

    def remove(self, inputs: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
        """Deletes one word of each passage, ``positions`` of shape ``(rows,)``."""
        passage, question, candidates = self._check(inputs)
        shorter = delete_positions(passage, positions)
        return {"passage": shorter, "question": question, "candidates": candidates}

    def remove_sets(self, inputs: Mapping[str, Tensor], gone: Tensor) -> dict[str, Tensor]:
        """Deletes the words ``gone`` (rows, L) of each passage."""
        passage, question, candidates = self._check(inputs)
        shorter = delete_sets(passage, gone)
        return {"passage": shorter, "question": question, "candidates": candidates}

    def select(self, inputs: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Returns the given rows, which may repeat."""
        return {key: select_rows(value, rows) for key, value in inputs.items()}

    def beside(self, inputs: Mapping[str, Tensor], run: Run | None = None) -> Beside | None:
        """What was read in a run, for passages that differ in places; see :class:`Beside`."""
        passage, question, candidates = self._check(inputs)
        if type(self) is not QuestionAnswerer or not can_share(self, passage.shape):
            return None
        with evaluating(self):
            query = self._read(question)
            asked, projected = self.attention.asked(query), self.question_projection(query)

        def read(changed: object, rows: Tensor) -> Tensor | None:
            passage, *others = self._check(changed)
            same = zip(others, (question, candidates), strict=True)
            return passage if all(torch.equal(one, own[rows]) for one, own in same) else None

        def decode(states: Tensor, mask: Tensor, rows: Tensor) -> Run:
            return self._decoded(states, mask, (query[rows], candidates[rows]), None, {})

        def scores(states: Tensor, rows: Tensor) -> Tensor:
            own = None if asked is None else asked[rows]
            return self.attention.scores(states[:, None], own)[:, 0]

        head = Head(
            scores,
            self.passage_projection,
            lambda sums, rows: self._answered(sums, projected[rows], candidates[rows]),
        )
        return ChangedTexts(self, passage, run, read, decode, head)

    def _check(self, inputs: object) -> tuple[Tensor, Tensor, Tensor]:
        """Returns valid passage, question and candidates."""
        entries = require_entries(inputs, ("passage", "question", "candidates"))
        passage = check_ids(entries["passage"], self.embedding, "passage")
        question = check_ids(entries["question"], self.embedding, "question")
        if len(question) != len(passage):
            raise ValueError(
                f"question must have a row for each passage; got {len(question)} for "
                f"{len(passage)}. Pair them up."
            )
        candidates = check_candidates(entries["candidates"], passage, self.decoder.out_features)
        return passage, question, candidates

    def _trace(
        self,
        passage: Tensor,
        question: Tensor,
        candidates: Tensor,
        vectors: Tensor,
        attention: Mapping[str, Tensor] | None,
    ) -> Run:
        """Runs everything after the embedding of the passage."""
        asked = self._read(question), candidates
        states = self.encoder(vectors, passage != PADDING)
        return self._decoded(states, word_mask(passage), asked, attention, {FEATURE: vectors})

    def _decoded(
        self,
        states: Tensor,
        mask: Tensor,
        asked: tuple[Tensor, Tensor],
        attention: Mapping[str, Tensor] | None,
        features: Mapping[str, Tensor],
    ) -> Run:
        """Runs everything after the encoder; ``asked`` is the question read, and candidates."""
        query, candidates = asked
        weights = override(attention, mask)
        if weights is None:
            weights = self.attention(states, mask, query)
        # Projecting before pooling is the same sum, and a replay then leaves the states alone.
        values = self.passage_projection(states)
        state = QuestionState(values, self.question_projection(query), candidates)
        logits = self.replay(state, {SITE: weights.unsqueeze(0)})[0]
        return Run(logits, {SITE: weights}, mask, features, state=state)

    def _answered(self, sums: Tensor, question: Tensor, candidates: Tensor) -> Tensor:
        """Logits ``(..., n, n_classes)`` of sums ``(..., n, M)`` and questions ``(n, M)``."""
        logits: Tensor = self.decoder((sums + question).tanh())
        return logits.masked_fill(~candidates, torch.finfo(logits.dtype).min)

    def _read(self, question: Tensor) -> Tensor:
        """Encodes questions to one vector each."""
        real = question != PADDING
        states = self.question_encoder(self.embedding(question), real)
        return self.question_encoder.summary(states, real, word_mask(question))
