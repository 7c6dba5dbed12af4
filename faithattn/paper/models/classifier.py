"""The published models: one text to one logit, or a passage and a question to an entity.

Both are modules to train and adapters to measure: ``run``, ``replay``, ``remove`` and ``select``.
"""

from __future__ import annotations

from collections.abc import Mapping

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
)
from faithattn.paper.models.encoders import ENCODERS
from faithattn.paper.models.places import Head


class TextClassifier(nn.Module):
    """One text, one logit: embedding, encoder, attention, linear decoder.

    The logit is ``w . sum_t(a_t h_t) + c``, affine in the attention. Inputs
    are token ids ``(B, L)``: 0 padding, 1 unknown, 2 start, 3 end, from 4 on
    words. Attention goes to words, known or not; a text without any has none,
    and its logit is the bias.

    Args:
        vocabulary_size: Number of token ids, the four above included.
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        attention: ``"additive"`` or ``"scaled_dot"``.
        embedding_size: Features of one embedding.
        hidden_size: Half the features of one state.
        vectors: Embeddings to start from, ``(vocabulary_size, embedding_size)``;
            by default normal with standard deviation .1.

    Attributes:
        config: The arguments but ``vectors``, ready for JSON.
        output: How logits become probabilities: ``"sigmoid"``.

    Raises:
        ValueError: If a name is unknown or a size does not fit.

    References:
        Jain and Wallace (2019), "Attention is not Explanation".

    Examples:
        >>> import torch
        >>> from faithattn.paper.training import build
        >>> model = build(lambda: TextClassifier(9, embedding_size=4, hidden_size=2), seed=0)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
        >>> run = model.run(ids)
        >>> run.logits.shape, run.mask.sum(1)
        (torch.Size([2, 1]), tensor([3, 1]))
        >>> model.replay(run.state, {"attention": run.attention["attention"][None]}).shape
        torch.Size([1, 2, 1])
        >>> model.remove(ids, torch.tensor([2, 1]))
        tensor([[2, 5, 7, 3],
                [2, 3, 0, 0]])
    """

    output = "sigmoid"

    def __init__(
        self,
        vocabulary_size: int,
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
            "encoder": encoder,
            "attention": attention,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
        }
        self.embedding = make_embedding(vocabulary_size, embedding_size, vectors, std=0.1)
        self.encoder = choose("encoder", encoder, ENCODERS)(embedding_size, hidden_size)
        self.attention = choose("attention", attention, ATTENTIONS)(self.encoder.size)
        self.decoder = nn.Linear(self.encoder.size, 1)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps token ids ``(B, L)`` to logits ``(B, 1)``."""
        ids = self._check(ids)
        return self._trace(ids, self.embedding(ids), None).logits

    def run(
        self,
        inputs: Tensor,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once; see ``faithattn.AttentionModel``.

        Args:
            inputs: Token ids, shape ``(B, L)``.
            attention: ``{"attention": (B, L)}`` to use as given.
            features: ``{"embedding": (B, L, embedding_size)}`` to use instead
                of the embeddings of the ids.

        Raises:
            TypeError: If an input has the wrong type.
            ValueError: If a shape or a value is wrong.
        """
        with evaluating(self):
            ids = self._check(inputs)
            return self._trace(ids, embedded(self.embedding, ids, features), attention)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        """Decodes alternatives ``{"attention": (K, B, L)}`` to logits ``(K, B, 1)``."""
        weights = alternatives(attention, state)
        return pool(weights, state) + self.decoder.bias

    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """Deletes one word a row, ``positions`` of shape ``(rows,)``, and closes the gap."""
        return delete_positions(self._check(inputs), positions)

    def remove_sets(self, inputs: Tensor, gone: Tensor) -> Tensor:
        """Deletes the words ``gone`` (rows, L) of each row."""
        return delete_sets(self._check(inputs), gone)

    def select(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Returns the given rows, which may repeat."""
        selected: Tensor = select_rows(inputs, rows)
        return selected

    def beside(self, inputs: Tensor, run: Run | None = None) -> Beside | None:
        """What was read in a run, for inputs that differ in places; see :class:`Beside`."""
        ids = self._check(inputs)
        if type(self) is not TextClassifier or not can_share(self, ids.shape):
            return None

        def decode(states: Tensor, mask: Tensor, _: Tensor) -> Run:
            return self._decoded(states, mask, None, {})

        head = Head(
            lambda states, _: self.attention.scores(states[:, None], None)[:, 0],
            self._values,
            lambda sums, _: sums + self.decoder.bias,
        )
        return ChangedTexts(self, ids, run, lambda changed, _: self._check(changed), decode, head)

    def _check(self, ids: object) -> Tensor:
        """Returns valid token ids."""
        return check_ids(ids, self.embedding, "inputs")

    def _trace(self, ids: Tensor, vectors: Tensor, attention: Mapping[str, Tensor] | None) -> Run:
        """Runs everything after the embedding."""
        states = self.encoder(vectors, ids != PADDING)
        return self._decoded(states, word_mask(ids), attention, {FEATURE: vectors})

    def _decoded(
        self,
        states: Tensor,
        mask: Tensor,
        attention: Mapping[str, Tensor] | None,
        features: Mapping[str, Tensor],
    ) -> Run:
        """Runs everything after the encoder."""
        weights = override(attention, mask)
        if weights is None:
            weights = self.attention(states, mask)
        values = self._values(states)
        logits = self.replay(values, {SITE: weights.unsqueeze(0)})[0]
        return Run(logits, {SITE: weights}, mask, features, state=values)

    def _values(self, states: Tensor) -> Tensor:
        """What is summed: the logit of each state.

        Decoding before pooling is the same sum, and all that a replay then needs is (B, L, 1).
        """
        return nn.functional.linear(states, self.decoder.weight)
