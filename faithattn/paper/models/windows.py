"""States of an encoder that sees a window: the CNN, and the average, whose window is one word.

What a vector adds to the states around it is one product for each place in a
window. These are computed once for each vector, however often it occurs; the
state at a position is then a sum over its window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faithattn.paper.models.encoders import AverageEncoder, ConvEncoder, Encoder


class ReadWindows:
    """What such an encoder makes of windows.

    Args:
        encoder: One that :func:`is_windowed` allows.
        vectors: The distinct vectors ``(V, E)`` of the texts that were read; that
            of padding comes first, and counts as the zeros beyond the ends.

    Attributes:
        reach: How far a window goes to each side.
        size: Features of one state.
        elements: Numbers kept for each vector.
        element_size: Bytes of each.
        none: No other vectors, ``(0, E)``.
    """

    def __init__(self, encoder: Encoder, vectors: Tensor) -> None:
        kernels = _kernels(encoder)
        self._widths = [weight.shape[2] for weight, _ in kernels]
        self.reach = max(self._widths) // 2
        taps = [weight.detach().permute(2, 0, 1) for weight, _ in kernels]
        self._filters = taps[0].shape[1]
        self._weights = torch.cat(taps).flatten(0, 1).T
        # Only states of words are asked for: what a word gives its own state can hold the bias.
        self._bias = vectors.new_zeros(sum(self._widths), self._filters)
        start = 0
        for (_, bias), width in zip(kernels, self._widths, strict=True):
            if bias is not None:
                self._bias[start + width // 2] = bias.detach()
            start += width
        self.size, self.elements = len(self._widths) * self._filters, self._bias.numel()
        self.element_size = vectors.element_size()
        self._table = self._projected(vectors)
        self._table[0] = 0
        self.none = vectors[:0]
        self._more = self.none, self._table  # with other vectors behind them

    def around(self, codes: Tensor, real: Tensor) -> Tensor:
        """The vectors ``(K, 2 * reach + 1)`` around marked positions of texts ``(n, L)``."""
        padded = nn.functional.pad(codes, (self.reach, self.reach))
        return padded.unfold(1, 2 * self.reach + 1, 1)[real]

    def states(self, windows: Tensor, vectors: Tensor) -> Tensor:
        """States ``(K, size)`` of windows around words; ``vectors`` have the codes from V on."""
        table = self._with(vectors).view(-1, self._filters)
        rows, found, start = windows * len(self._bias), [], 0
        for width in self._widths:
            side = self.reach - width // 2
            tap = torch.arange(start, start + width, device=windows.device)
            places = rows[:, side : side + width] + tap
            found.append(nn.functional.embedding_bag(places, table, mode="sum"))
            start += width
        return torch.cat(found, 1).relu_()

    def _projected(self, vectors: Tensor) -> Tensor:
        """What vectors ``(V, E)`` add at every place of a window ``(V, places * filters)``."""
        return torch.addmm(self._bias.flatten(), vectors, self._weights)

    def _with(self, vectors: Tensor) -> Tensor:
        """The table with what other vectors give behind it; often they are those as before."""
        known, table = self._more
        if not torch.equal(known, vectors):
            table = torch.cat([self._table, self._projected(vectors)])
            self._more = vectors, table
        return table


def is_windowed(encoder: Encoder) -> bool:
    """Whether ``ReadWindows`` knows all that an encoder does."""
    if type(encoder) is AverageEncoder:
        return type(encoder.projection) is nn.Linear
    if type(encoder) is not ConvEncoder:
        return False
    parts = list(encoder.convolutions)
    return all(map(_is_plain, parts)) and len({each.out_channels for each in parts}) == 1


def _is_plain(part: nn.Module) -> bool:
    """Whether a part is a convolution over a window around each position."""
    return (
        type(part) is nn.Conv1d
        and part.padding == (part.kernel_size[0] // 2,)
        and part.padding_mode == "zeros"
        and part.kernel_size[0] % 2 == part.stride[0] == part.dilation[0] == part.groups == 1
    )


def _kernels(encoder: Encoder) -> list[tuple[Tensor, Tensor | None]]:
    """Weights ``(filters, E, width)`` and bias of each convolution."""
    if isinstance(encoder, AverageEncoder):
        return [(encoder.projection.weight[..., None], encoder.projection.bias)]
    return [(each.weight, each.bias) for each in encoder.modules() if isinstance(each, nn.Conv1d)]
