"""Relevance through layers of attention, weighted by its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from faithattn.measures.attention.layers import (
    checked_layers,
    checked_rows,
    over_heads,
    require_dtype,
)


def attention_relevance(
    attention: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    rows: Tensor | None = None,
) -> Tensor:
    """Relevance of positions: attention times its gradient, accumulated over self-attention layers.

    Starting from R = I, each layer from the first to the last adds to it:
    ``R <- R + E_h[(grad A * A)^+] R``, with the elementwise product, its
    positive part, and the mean over heads. The identity is part of the result:
    subtract one-hot rows to leave a query's own start out.

    Args:
        attention: Self-attention by layer, the first layer first, each
            ``(B, L, L)`` or ``(B, H, L, L)``, floating point.
        gradients: Gradient of the explained output by each of them, same shapes.
        rows: What to read R with, ``(B, Q, L)``, for instance one-hot queries;
            None is every position.

    Returns:
        ``rows @ R``, ``(B, Q, L)``, zero or more where the rows are. Where no
        gradient is positive, R is the identity.

    Raises:
        TypeError: If an input is not floating point.
        ValueError: If shapes differ.

    References:
        Chefer, Gur & Wolf (2021), "Generic attention-model explainability for
        interpreting bi-modal and encoder-decoder transformers".

    Examples:
        >>> import torch
        >>> layer = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]])
        >>> gradient = torch.tensor([[[2.0, -1.0], [1.0, 0.0]]])
        >>> attention_relevance([layer], [gradient])
        tensor([[[2.0000, 0.0000],
                 [0.2000, 1.0000]]])
    """
    layers = checked_layers("attention", attention)
    slopes = checked_layers("gradients", gradients)
    shapes = [[tuple(each.shape) for each in group] for group in (layers, slopes)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"gradients must have the shapes of attention; got attention {shapes[0]} and "
            f"gradients {shapes[1]}. Differentiate by each layer's weights."
        )
    require_dtype("gradients[0]", slopes[0], "attention[0]", layers[0])
    read = checked_rows(rows, layers[-1])
    for layer, slope in zip(reversed(layers), reversed(slopes), strict=True):
        read = read + read @ over_heads((slope * layer).clamp_min(0))
    return read
