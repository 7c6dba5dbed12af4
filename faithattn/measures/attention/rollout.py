"""Attention rollout: what reaches a position through all layers, as a product."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from faithattn.measures.attention.layers import checked_layers, checked_rows, with_residual


def attention_rollout(attention: Sequence[Tensor], *, rows: Tensor | None = None) -> Tensor:
    """Attention rollout: the product over layers of attention with its residual.

    Each layer is the mean over heads plus the identity, each row divided by its
    sum, ``(A + I) / row sum``; the product goes from the last layer to the
    first. Rows are multiplied from the left, so that a few of them cost L x L a
    layer and no product of matrices.

    Args:
        attention: Self-attention by layer, the first layer first, each
            ``(B, L, L)`` or ``(B, H, L, L)``, floating point, rows sum to 1.
        rows: What to start from above the last layer, ``(B, Q, L)``: a row of
            pooling attention, or one-hot queries. None is every position.

    Returns:
        ``(B, Q, L)``, dtype of the attention; rows sum to what ``rows`` sum to.
        With ``rows=None`` it is the whole rollout ``(B, L, L)``.

    Raises:
        TypeError: If an input is not floating point.
        ValueError: If the layers are not square and of one size.

    References:
        Abnar & Zuidema (2020), "Quantifying attention flow in transformers".

    Examples:
        >>> import torch
        >>> layer = torch.full((1, 2, 2), 0.5)
        >>> attention_rollout([layer, layer])
        tensor([[[0.6250, 0.3750],
                 [0.3750, 0.6250]]])
    """
    layers = checked_layers("attention", attention)
    reached = checked_rows(rows, layers[-1])
    for layer in reversed(layers):
        reached = reached @ with_residual(layer)
    return reached
