"""The published models once more: one instance at a time, word by word, no batch and no padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from small_models import Inputs, Model
from torch import Tensor, nn


def slow_logits(
    model: Model,
    instance: Inputs,
    *,
    attention: list[float] | None = None,
    features: Tensor | None = None,
) -> Tensor:
    """Logits ``(C,)`` of one instance ``(1, L)`` without padding.

    Args:
        model: The model whose weights are used.
        instance: Its inputs.
        attention: Weights of its words, in their order; the model's own if None.
        features: Embeddings ``(L, E)`` instead of those of its ids.
    """
    keys = [] if isinstance(instance, Tensor) else list(instance)
    ids = (instance if isinstance(instance, Tensor) else instance[keys[0]])[0].tolist()
    vectors = model.embedding.weight[ids] if features is None else features
    states = encode(model.encoder, vectors)
    words = [at for at, word in enumerate(ids) if word not in (0, 2, 3)]
    query = None if isinstance(instance, Tensor) else _query(model, instance[keys[1]][0].tolist())
    if attention is None:
        attention = softmax([_score(model, ids[at], states[at], query) for at in words])
    pooled = sum((attention[n] * states[at] for n, at in enumerate(words)), states[0] * 0)
    if query is None:
        return model.decoder.weight @ pooled + model.decoder.bias
    asked = model.question_projection.weight @ query + model.question_projection.bias
    hidden = (model.passage_projection.weight @ pooled + asked).tanh()
    logits = model.decoder.weight @ hidden + model.decoder.bias
    if len(keys) == 3:
        for number, offered in enumerate(instance[keys[2]][0].tolist()):
            if not offered:
                logits[number] = torch.finfo(logits.dtype).min
    return logits


def encode(encoder: Any, vectors: Tensor) -> list[Tensor]:
    """One state for each of the vectors ``(L, E)``."""
    length = len(vectors)
    if hasattr(encoder, "projection"):
        return [encoder.projection(vector).relu() for vector in vectors]
    if hasattr(encoder, "convolutions"):
        return [
            torch.cat([_convolved(part, vectors, at) for part in encoder.convolutions]).relu()
            for at in range(length)
        ]
    right = _recurrent(encoder.rightward, list(vectors))
    left = _recurrent(encoder.leftward, list(vectors)[::-1])[::-1]
    return [torch.cat(both) for both in zip(right, left, strict=True)]


def softmax(scores: list[Tensor]) -> list[Any]:
    """Weights of scores; of no score, no weight."""
    powers = [score.exp() for score in scores]
    return [power / sum(powers) for power in powers]


def _convolved(part: nn.Conv1d, vectors: Tensor, at: int) -> Tensor:
    """What a convolution finds around one position; beyond the ends there is nothing."""
    found, width = part.bias, part.kernel_size[0]
    for tap in range(width):
        place = at + tap - width // 2
        if 0 <= place < len(vectors):
            found = found + part.weight[:, :, tap] @ vectors[place]
    return found


def _recurrent(lstm: nn.LSTM, vectors: list[Tensor]) -> list[Tensor]:
    """States of an LSTM, step by step."""
    state = cell = torch.zeros(lstm.hidden_size, dtype=vectors[0].dtype)
    states = []
    for vector in vectors:
        gates = lstm.weight_ih_l0 @ vector + lstm.bias_ih_l0
        gates = gates + lstm.weight_hh_l0 @ state + lstm.bias_hh_l0
        opened, kept, new, out = gates.chunk(4)
        cell = kept.sigmoid() * cell + opened.sigmoid() * new.tanh()
        state = out.sigmoid() * cell.tanh()
        states.append(state)
    return states


def _query(model: Any, ids: list[int]) -> Tensor:
    """The vector of the text that asks."""
    states = encode(model.question_encoder, model.embedding.weight[ids])
    if hasattr(model.question_encoder, "rightward"):
        half = len(states[0]) // 2
        return torch.cat([states[-1][:half], states[0][half:]])
    words = [state for state, word in zip(states, ids, strict=True) if word not in (2, 3)]
    return torch.stack(words).mean(0) if words else states[0] * 0


def _score(model: Any, word: int, state: Tensor, query: Tensor | None) -> Tensor:
    """The score of one word before the softmax."""
    attend = model.attention
    if hasattr(attend, "strength"):
        return attend.strength[word]
    if hasattr(attend, "scale"):
        other = attend.score.weight[0] if query is None else query
        return (state @ other) / math.sqrt(len(state))
    hidden = attend.key.weight @ state + attend.key.bias
    if query is not None:
        hidden = hidden + attend.query.weight @ query
    return attend.score.weight[0] @ hidden.tanh()
