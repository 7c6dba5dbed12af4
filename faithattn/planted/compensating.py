"""A text model that uses its attention to a known degree, at the same output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faithattn._checks import require_count
from faithattn.adapters.protocol import Run
from faithattn.paper.data.ids import END, UNKNOWN, check_ids, delete_positions, word_mask
from faithattn.paper.models.attention import masked_softmax
from faithattn.paper.models.common import FEATURE, SITE, alternatives, embedded, override, pool
from faithattn.planted.case import Planted

_KEYS = 4  # numbers of an embedding that each layer of the mixer compares
_SHARP = 2.0  # of the mixer's choice of neighbours
_MIXED = 0.5  # share of a state that comes from other words, in each layer
_PEAKED = 1.5  # standard deviation of what the softmax is taken of
_LOUD = 3.0  # largest logit, about
_SUPPORTING = 0.8  # share of words that speak for a text's own class


class _Parts(NamedTuple):
    """Used and shown attention, values before compensation and after, (B, L) each."""

    used: Tensor
    shown: Tensor
    values: Tensor
    compensated: Tensor


class Compensating(nn.Module):
    """Attention that the output uses, or only seems to use, to a known degree.

    Each word has a value, about 1 or -1, and two numbers that attention may
    read. The output is the mean of the values under attention by the first
    number, for every ``unused``. The attention that is shown turns from the
    first number to the second, which means nothing, and the states turn from
    values of their own to what makes up for it: every state then holds the
    answer, as in an encoder that has read the whole text.

    ===========  ====================================  ====================
    ``unused``   shown attention                       states
    ===========  ====================================  ====================
    0            what the output uses                  the words' values
    between      correlated with it, cos(pi/2 unused)  values scaled down, plus a shared constant
    1            unrelated                             the answer, all alike
    ===========  ====================================  ====================

    Inputs are ids ``(B, L)`` as in :class:`TextClassifier`; ``mask_token_id``
    is the unknown word, whose numbers are 0.

    Args:
        depth: Layers of a mixer, between the words and what attention reads:
            each state becomes half itself and half an average of others.
        unused: How far the output does without the shown attention, 0..1.
        n_words: Words of each class, at least 1; the first half of the ids
            after the special ones speak for class 1.
        seed: Seed of the embedding.

    Attributes:
        output: How logits become probabilities: ``"sigmoid"``.
        mask_token_id: Id of the word that says nothing.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> ids = torch.tensor([[4, 5, 6, 204, 205]])
        >>> used, unused = (Compensating(unused=share) for share in (0.0, 1.0))
        >>> torch.allclose(used.run(ids).logits, unused.run(ids).logits)
        True
    """

    output = "sigmoid"
    mask_token_id = UNKNOWN

    def __init__(
        self, *, depth: int = 0, unused: float = 0.0, n_words: int = 200, seed: int = 0
    ) -> None:
        super().__init__()
        self.depth = require_count("depth", depth, least=0)
        if not 0 <= unused <= 1:
            raise ValueError(f"unused must lie in 0..1; got {unused}. Pass 0 for used attention.")
        self.unused = float(unused)
        weight = _embedding(self.depth, require_count("n_words", n_words), seed)
        self.embedding = nn.Embedding(len(weight), weight.shape[1], _weight=weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps ids ``(B, L)`` to logits ``(B, 1)``."""
        return self.run(ids).logits

    def run(
        self,
        inputs: Tensor,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model; see ``faithattn.AttentionModel``."""
        ids = check_ids(inputs, self.embedding, "inputs")
        mask = word_mask(ids)
        vectors = embedded(self.embedding, ids, features)
        parts = self._parts(vectors, mask)
        weights = override(attention, mask)
        shown = parts.shown if weights is None else weights
        state = _LOUD * parts.compensated[..., None]
        logits = self.replay(state, {SITE: shown[None]})[0]
        return Run(logits, {SITE: shown}, mask, {FEATURE: vectors}, state=state)

    def replay(self, state: Tensor, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, 1)`` under other attention ``(K, B, L)``."""
        return pool(alternatives(attention, state), state)

    def remove(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """Deletes one word a row and closes the gap."""
        return delete_positions(inputs, positions)

    def truth(self, ids: Tensor) -> Tensor:
        """What each word adds to the logit of the predicted class, attention and mixing given.

        Args:
            ids: Inputs, shape ``(B, L)``.

        Returns:
            Shape ``(B, L)``, 0 outside the words; the sum is the logit's size.
        """
        with torch.no_grad():
            vectors, mask = self.embedding(ids), word_mask(ids)
            used = self._parts(vectors, mask).used
            for layer in reversed(range(self.depth)):
                used = (used[:, None] @ self._neighbours(vectors, mask, layer))[:, 0]
            each: Tensor = _LOUD * used * vectors[..., 2]
            return each * each.sum(-1, keepdim=True).sign()

    def _parts(self, vectors: Tensor, mask: Tensor) -> _Parts:
        """Reads off the mixed states what attention and output are made of."""
        states = vectors[..., :3]
        for layer in range(self.depth):
            states = self._neighbours(vectors, mask, layer) @ states
        read, other, values = states.unbind(-1)
        angle = self.unused * math.pi / 2
        # Numbers of the same spread at every angle, so that no attention is more peaked.
        turned = math.cos(angle) * read + math.sin(angle) * other
        gain = _PEAKED * (1 / math.hypot(_MIXED, 1 - _MIXED)) ** self.depth
        used, shown = (masked_softmax(gain * each, mask) for each in (read, turned))
        kept = (1 - self.unused) * values
        missing = (used * values).sum(-1) - (shown * kept).sum(-1)
        return _Parts(used, shown, values, kept + missing[:, None])

    def _neighbours(self, vectors: Tensor, mask: Tensor, layer: int) -> Tensor:
        """One layer of the mixer as weights (B, L, L): half a word itself, half others by keys."""
        keys = vectors[..., 3 + layer * _KEYS : 3 + (layer + 1) * _KEYS]
        length = mask.shape[1]
        own = torch.eye(length, dtype=torch.bool, device=mask.device)
        others = masked_softmax(_SHARP * keys @ keys.transpose(1, 2), mask[:, None] & ~own)
        alone = ~(mask[:, None] & ~own).any(-1, keepdim=True)
        share = torch.where(alone, 0.0, _MIXED).to(others.dtype)
        return (1 - share) * own.to(others.dtype) + share * others


def compensating(
    size: int = 6,
    length: int = 9,
    *,
    unused: float = 0.0,
    depth: int = 0,
    seed: int = 0,
) -> Planted:
    """Texts for a model that uses its attention to a known degree.

    Models that differ in ``unused`` alone have the same outputs on the same
    texts: such pairs are what :func:`faithattn.calibrate` asks metrics about.

    Args:
        size: Number of texts.
        length: Words of each; no word occurs twice in one.
        unused: How far the output does without the attention, 0..1; see
            :class:`Compensating`.
        depth: Layers of mixing between the words and what attention reads.
        seed: Seed of model and texts.

    Returns:
        The model with texts; the truth is what each word adds to the logit of
        the predicted class.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> case = compensating(unused=1.0)
        >>> from faithattn import permutation_test
        >>> permutation_test(*case, seed=0).median_tvd.max().item() < 1e-12
        True
    """
    n_words = max(200, length)
    model = Compensating(depth=depth, unused=unused, n_words=n_words, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    ids = draw_texts(size, length, n_words, generator)
    expected = (
        "attention is what the output uses: tau with gradients is near 1 without mixing"
        if unused == 0
        else "the output is that of unused=0, and the more is unused, the less shuffling changes "
        "it and the nearer tau with gradients is to 0"
    )
    return Planted("compensating", model, ids, expected, truth=model.truth(ids))


def draw_texts(size: int, length: int, n_words: int, generator: torch.Generator) -> Tensor:
    """Draws texts (size, length) of which most words speak for one class; none occurs twice."""
    require_count("size", size)
    require_count("length", length)
    kinds = torch.rand(size, 2, n_words, generator=generator).argsort(-1)
    supporting = torch.rand(size, length, generator=generator) < _SUPPORTING
    own = torch.rand(size, 1, generator=generator) < 0.5
    of_other = (supporting ^ own).long()  # 1 where the word is of the second kind
    place = torch.arange(length).expand(size, length)
    chosen = kinds[torch.arange(size)[:, None], of_other, place]
    return chosen + n_words * of_other + END + 1


def _embedding(depth: int, n_words: int, seed: int) -> Tensor:
    """What attention reads, what it reads instead, value and keys; special ids hold zeros."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2 * n_words, 3 + depth * _KEYS, generator=generator, dtype=torch.float64)
    size = 1 + 0.2 * weight[:, 2].clamp(-2, 2)
    weight[:, 2] = torch.where(torch.arange(2 * n_words) < n_words, size, -size)
    return torch.cat([torch.zeros(END + 1, weight.shape[1], dtype=torch.float64), weight])
