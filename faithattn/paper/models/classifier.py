"""The published model of one text, with one logit, several classes or several labels.

It is a module to train and an adapter to measure: ``run``, ``replay``, ``remove`` and ``select``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from faithattn._checks import require_count, require_floating
from faithattn.adapters.beside import Beside
from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.measures.outputs import resolve_output
from faithattn.paper.data.ids import PADDING, check_ids, delete_positions, delete_sets, word_mask
from faithattn.paper.models.attention import (
    ATTENTIONS,
    AdditiveAttention,
    LogOddsAttention,
    ScaledDotAttention,
)
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

LOG_ODDS = "log_odds"
_OUTPUTS = ("auto", "sigmoid", "softmax")


class TextClassifier(nn.Module):
    """One text, one logit or several: embedding, encoder, attention, linear decoder.

    The logits are ``W sum_t(a_t h_t) + c``, affine in the attention. One makes
    a probability of class 1; several are classes, one of which is right, or
    labels, each of which holds or not. Inputs are token ids ``(B, L)``: 0
    padding, 1 unknown, 2 start, 3 end, from 4 on words. Attention goes to
    words, known or not; a text without any has none, and its logits are the
    bias.

    Args:
        vocabulary_size: Number of token ids, the four above included.
        n_outputs: Number of logits C.
        output: ``"sigmoid"``, each logit by itself, or ``"softmax"``, several
            together; ``"auto"`` is a sigmoid for one logit and else a softmax.
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        attention: ``"additive"``, ``"scaled_dot"`` or ``"log_odds"``: fixed, a
            softmax over the words' ``strength``, whatever their states are.
        embedding_size: Features of one embedding.
        hidden_size: Half the features of one state.
        vectors: Embeddings to start from, ``(vocabulary_size, embedding_size)``;
            by default normal with standard deviation .1.
        strength: Of each token id, ``(vocabulary_size,)``, such as
            ``LogOdds.strength()``; zeros, hence uniform attention, by default.

    Attributes:
        config: The arguments but ``vectors`` and ``strength``, ready for JSON.
        output: How logits become probabilities: ``"sigmoid"`` or ``"softmax"``.

    Raises:
        TypeError: If ``strength`` is not floating point.
        ValueError: If a name is unknown, a size does not fit, or arguments
            contradict each other.

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
        >>> make = lambda: TextClassifier(9, n_outputs=5, output="sigmoid", encoder="average")
        >>> labels = build(make, seed=0)
        >>> labels.run(ids).logits.shape, labels.output
        (torch.Size([2, 5]), 'sigmoid')
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        n_outputs: int = 1,
        output: str = "auto",
        encoder: str = "bilstm",
        attention: str = "additive",
        embedding_size: int = 300,
        hidden_size: int = 128,
        vectors: Tensor | None = None,
        strength: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.output = _resolved(output, require_count("n_outputs", n_outputs))
        self.config: dict[str, int | str] = {
            "vocabulary_size": vocabulary_size,
            "n_outputs": n_outputs,
            "output": self.output,
            "encoder": encoder,
            "attention": attention,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
        }
        self.embedding = make_embedding(vocabulary_size, embedding_size, vectors, std=0.1)
        self.encoder = choose("encoder", encoder, ENCODERS)(embedding_size, hidden_size)
        self.attention = self._make_attention(attention, strength)
        self.decoder = nn.Linear(self.encoder.size, n_outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps token ids ``(B, L)`` to logits ``(B, n_outputs)``."""
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
        """Decodes alternatives ``{"attention": (K, B, L)}`` to logits ``(K, B, n_outputs)``."""
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
        if type(self) is not TextClassifier or not can_share(self):
            return None

        def decode(states: Tensor, changed: Tensor, _: Tensor) -> Run:
            return self._decoded(states, changed, None, {})

        def read(changed: object, _: Tensor) -> Tensor:
            return self._check(changed)

        return ChangedTexts(self, inputs, ids, run, read, decode, self._head())

    def _check(self, ids: object) -> Tensor:
        """Returns valid token ids."""
        return check_ids(ids, self.embedding, "inputs")

    def _trace(self, ids: Tensor, vectors: Tensor, attention: Mapping[str, Tensor] | None) -> Run:
        """Runs everything after the embedding."""
        states = self.encoder(vectors, ids != PADDING)
        return self._decoded(states, ids, attention, {FEATURE: vectors})

    def _decoded(
        self,
        states: Tensor,
        ids: Tensor,
        attention: Mapping[str, Tensor] | None,
        features: Mapping[str, Tensor],
    ) -> Run:
        """Runs everything after the encoder."""
        mask = word_mask(ids)
        weights = override(attention, mask)
        if weights is None:
            fixed = isinstance(self.attention, LogOddsAttention)
            weights = self.attention(ids if fixed else states, mask)
        values = self._values(states)
        logits = self.replay(values, {SITE: weights.unsqueeze(0)})[0]
        return Run(logits, {SITE: weights}, mask, features, state=values)

    def _values(self, states: Tensor) -> Tensor:
        """What is summed: the logits of each state.

        Decoding before pooling is the same sum, and all that a replay then needs is (B, L, C).
        """
        return nn.functional.linear(states, self.decoder.weight)

    def _head(self) -> Head:
        """What comes after the encoder, in its parts."""
        attend = self.attention

        def decode(sums: Tensor, _: Tensor) -> Tensor:
            return sums + self.decoder.bias

        if isinstance(attend, LogOddsAttention):
            return Head(
                lambda states, _: states.new_zeros(len(states)), self._values, decode, attend.scores
            )
        return Head(
            lambda states, _: attend.scores(states[:, None], None)[:, 0], self._values, decode
        )

    def _make_attention(
        self, name: str, strength: Tensor | None
    ) -> AdditiveAttention | ScaledDotAttention | LogOddsAttention:
        """Makes attention that is learned, or fixed by the words' strength."""
        if name == LOG_ODDS:
            return LogOddsAttention(_strength(strength, self.embedding.weight))
        if strength is not None:
            raise ValueError(
                f"strength must be None where attention is learned; got a tensor and {name!r}. "
                f"Pass attention={LOG_ODDS!r}, or leave it out."
            )
        choose("attention", name, {**ATTENTIONS, LOG_ODDS: LogOddsAttention})
        return ATTENTIONS[name](self.encoder.size)


def _resolved(output: str, n_outputs: int) -> str:
    """Returns how so many logits become probabilities."""
    choose("output", output, dict.fromkeys(_OUTPUTS))
    if output == "softmax" and n_outputs == 1:
        raise ValueError(
            "output must be 'sigmoid' for one logit; got 'softmax', under which its probability "
            "is 1 always. Leave it out, or give n_outputs of 2 or more."
        )
    return resolve_output(output, n_outputs)


def _strength(strength: Tensor | None, embeddings: Tensor) -> Tensor:
    """Returns a strength for each of the embeddings, a copy of what is given."""
    vocabulary_size = len(embeddings)
    if strength is None:
        return embeddings.new_zeros(vocabulary_size)
    found = require_floating("strength", strength)
    if found.shape != (vocabulary_size,) or not bool(found.isfinite().all()):
        raise ValueError(
            f"strength must be {vocabulary_size} finite numbers, one for each token id; got shape "
            f"{tuple(found.shape)}, {int((~found.isfinite()).sum())} not finite. "
            "Fit the log-odds with the model's vocabulary."
        )
    return found.detach().to(embeddings, copy=True)
