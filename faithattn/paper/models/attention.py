"""The attention of the published models: two that are learned, one that is fixed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_UNEXPECTED_QUERY = (
    "query must be None; got a tensor. This attention was made without one: pass query_size."
)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the positions of ``mask``, zero elsewhere.

    Args:
        scores: Scores, shape ``(..., L)``, floating point.
        mask: True where attention may go, same shape, bool.

    Returns:
        Weights, shape ``(..., L)``; each row sums to 1, or to 0 where its mask
        has no True. Gradients are finite in both cases.

    Examples:
        >>> scores = torch.tensor([[0.0, 0.0, 5.0], [1.0, 2.0, 3.0]])
        >>> mask = torch.tensor([[True, True, False], [False, False, False]])
        >>> masked_softmax(scores, mask)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    # A finite minimum: a row without True is then uniform, not nan, before it is zeroed.
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = F.softmax(filled, dim=-1)
    return weights * mask.any(-1, keepdim=True).to(weights.dtype)


def _given(query: Tensor | None) -> Tensor:
    """Returns the query of an attention that needs one."""
    if query is None:
        raise ValueError("query must be given; got None. This attention was made with one.")
    return query


class AdditiveAttention(nn.Module):
    """Additive (tanh) attention: scores ``v . tanh(W1 h + W2 q + b)``.

    Half as many hidden units as a state has features. Without a query the
    second term is left out.

    Args:
        size: Features of one state.
        query_size: Features of the query; None for attention without one.

    References:
        Bahdanau, Cho, Bengio (2015), "Neural machine translation by jointly
        learning to align and translate".

    Examples:
        >>> attend = AdditiveAttention(6)
        >>> mask = torch.tensor([[True, True, False]])
        >>> attend(torch.zeros(1, 3, 6), mask)
        tensor([[0.5000, 0.5000, 0.0000]], grad_fn=<MulBackward0>)
    """

    def __init__(self, size: int, query_size: int | None = None) -> None:
        super().__init__()
        hidden = size // 2
        self.key = nn.Linear(size, hidden)
        self.query = None if query_size is None else nn.Linear(query_size, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor, query: Tensor | None = None) -> Tensor:
        """Attends to the positions of ``mask``.

        Args:
            states: Encoder states, shape ``(B, L, size)``.
            mask: True where attention may go, shape ``(B, L)``.
            query: Shape ``(B, query_size)``; exactly if the module has a query.

        Returns:
            Weights, shape ``(B, L)``; see ``masked_softmax``.
        """
        return masked_softmax(self.scores(states, self.asked(query)), mask)

    def asked(self, query: Tensor | None) -> Tensor | None:
        """What a query gives to all scores of its row, shape ``(B, hidden)``; None without one."""
        if self.query is not None:
            found: Tensor = self.query(_given(query))
            return found
        if query is not None:
            raise ValueError(_UNEXPECTED_QUERY)
        return None

    def scores(self, states: Tensor, asked: Tensor | None) -> Tensor:
        """Scores ``(B, L)`` of states before the softmax; each depends on its own state alone."""
        hidden: Tensor = self.key(states)
        if asked is not None:
            hidden = hidden + asked.unsqueeze(1)
        found: Tensor = self.score(hidden.tanh()).squeeze(-1)
        return found


class ScaledDotAttention(nn.Module):
    """Scaled dot-product attention: scores ``h . q / sqrt(size)``.

    Without a query one learned vector takes its place.

    Args:
        size: Features of one state.
        query_size: Features of the query, which must equal ``size``; None for
            attention without one.

    Raises:
        ValueError: If ``query_size`` differs from ``size``.

    References:
        Vaswani et al. (2017), "Attention is all you need".

    Examples:
        >>> attend = ScaledDotAttention(6, 6)
        >>> mask = torch.tensor([[True, True, False]])
        >>> attend(torch.zeros(1, 3, 6), mask, torch.ones(1, 6))
        tensor([[0.5000, 0.5000, 0.0000]])
    """

    def __init__(self, size: int, query_size: int | None = None) -> None:
        super().__init__()
        if query_size not in (None, size):
            raise ValueError(
                f"query_size must equal size; got {query_size} and {size}. Project the query first."
            )
        self.scale = 1 / math.sqrt(size)
        self.score = nn.Linear(size, 1, bias=False) if query_size is None else None

    def forward(self, states: Tensor, mask: Tensor, query: Tensor | None = None) -> Tensor:
        """Attends to the positions of ``mask``; arguments as in ``AdditiveAttention.forward``."""
        return masked_softmax(self.scores(states, self.asked(query)), mask)

    def asked(self, query: Tensor | None) -> Tensor | None:
        """The query, shape ``(B, size)``; None where a learned vector takes its place."""
        if self.score is None:
            return _given(query)
        if query is not None:
            raise ValueError(_UNEXPECTED_QUERY)
        return None

    def scores(self, states: Tensor, asked: Tensor | None) -> Tensor:
        """Scores ``(B, L)`` of states before the softmax; each depends on its own state alone."""
        if self.score is None:
            scores = torch.matmul(states, _given(asked).unsqueeze(-1))
        else:
            scores = self.score(states)
        return scores.squeeze(-1) * self.scale


ATTENTIONS: dict[str, type[AdditiveAttention] | type[ScaledDotAttention]] = {
    "additive": AdditiveAttention,
    "scaled_dot": ScaledDotAttention,
}


class LogOddsAttention(nn.Module):
    """Attention that each word has by itself: a softmax over the words' given strength.

    Nothing of it is learned, and no state goes into it.

    Args:
        strength: How strong each token id is, shape ``(V,)``.

    References:
        Jain and Wallace (2019), "Attention is not Explanation", section 4.2.1.

    Examples:
        >>> attend = LogOddsAttention(torch.tensor([0.0, 0.0, 0.0, 0.0, 3.0]).log1p())
        >>> attend(torch.tensor([[2, 4, 1, 3]]), torch.tensor([[False, True, True, False]]))
        tensor([[0.0000, 0.8000, 0.2000, 0.0000]])
    """

    strength: Tensor

    def __init__(self, strength: Tensor) -> None:
        super().__init__()
        self.register_buffer("strength", strength)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Weights ``(B, L)`` of ids over the positions of ``mask``, both ``(B, L)``."""
        return masked_softmax(self.scores(ids), mask)

    def scores(self, ids: Tensor) -> Tensor:
        """Scores ``(B, L)`` of ids before the softmax."""
        return self.strength[ids]
