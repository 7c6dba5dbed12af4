"""The three encoders of the published models: embeddings in, one state a position out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL_SIZES = (1, 3, 5, 7)


class Encoder(nn.Module):
    """Turns word embeddings into states of ``size`` features.

    A padded batch gives at real positions what each text gives alone.

    Attributes:
        size: Features of one state.
    """

    size: int

    def summary(self, states: Tensor, real: Tensor, words: Tensor) -> Tensor:
        """One vector a text: the mean state over its words.

        Args:
            states: States of a batch, shape ``(B, L, size)``.
            real: True where there is no padding, shape ``(B, L)``.
            words: True at words, special tokens left out, shape ``(B, L)``.

        Returns:
            Shape ``(B, size)``; zeros for a text without words.

        Examples:
            >>> encoder = AverageEncoder(4, 2)
            >>> states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
            >>> words = torch.tensor([[True, True, False]])
            >>> encoder.summary(states, words, words)
            tensor([[2., 3.]])
        """
        del real
        kept = words.unsqueeze(-1).to(states.dtype)
        return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


class BiLSTMEncoder(Encoder):
    """A bidirectional LSTM; a state holds both directions.

    Args:
        embedding_size: Features of one embedding.
        hidden_size: Features of one direction; ``size`` is twice that.

    Examples:
        >>> encoder = BiLSTMEncoder(4, 3)
        >>> encoder(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 6])
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.size = 2 * hidden_size
        self.rightward = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.leftward = nn.LSTM(embedding_size, hidden_size, batch_first=True)

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        """Encodes a batch.

        Args:
            embedded: Word embeddings, shape ``(B, L, embedding_size)``.
            real: True where there is no padding, shape ``(B, L)``; padding
                only at the end of a text.

        Returns:
            States, shape ``(B, L, size)``, zero at padding.
        """
        # Turning every text around in place, padding left at its end, gives the leftward direction
        # without packing: the same states, and a training step takes little more than half as long.
        turned = _turned(real)
        rightward: Tensor = self.rightward(embedded)[0]
        leftward: Tensor = self.leftward(_take(embedded, turned))[0]
        states = torch.cat([rightward, _take(leftward, turned)], dim=-1)
        return states * real.unsqueeze(-1).to(states.dtype)

    def summary(self, states: Tensor, real: Tensor, words: Tensor) -> Tensor:
        """One vector a text: the last state of both directions.

        Args:
            states: States of a batch, shape ``(B, L, size)``.
            real: True where there is no padding, shape ``(B, L)``.
            words: True at words, shape ``(B, L)``; not used, since the last
                states have read the special tokens too.

        Returns:
            Shape ``(B, size)``: the rightward state at the last token beside
            the leftward state at the first.
        """
        del words
        half = self.size // 2
        last = (real.sum(1) - 1).clamp(min=0)
        rightward = _take(states[..., :half], last.unsqueeze(1))[:, 0]
        return torch.cat([rightward, states[:, 0, half:]], dim=-1)


def _turned(real: Tensor) -> Tensor:
    """Returns the positions ``(B, L)`` of every text read backward, padding in its place."""
    lengths = real.sum(1, keepdim=True)
    places = torch.arange(real.shape[1], device=real.device)
    return torch.where(places < lengths, lengths - 1 - places, places)


def _take(values: Tensor, positions: Tensor) -> Tensor:
    """Returns ``values[b, positions[b]]``."""
    rows = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[rows, positions]


class ConvEncoder(Encoder):
    """Convolutions of width 1, 3, 5 and 7 side by side, each with a ReLU.

    Args:
        embedding_size: Features of one embedding.
        hidden_size: Half of ``size``, as in the BiLSTM; even, since the four
            widths share ``2 * hidden_size`` filters (64 each at 128).

    Raises:
        ValueError: If ``hidden_size`` is odd.

    Examples:
        >>> encoder = ConvEncoder(4, 2)
        >>> encoder(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 4])
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        filters, rest = divmod(2 * hidden_size, len(KERNEL_SIZES))
        if rest:
            raise ValueError(
                f"hidden_size must be even for the CNN; got {hidden_size}. "
                "Its four kernel widths share twice that many filters."
            )
        self.size = 2 * hidden_size
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding_size, filters, width, padding=width // 2) for width in KERNEL_SIZES
        )

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        """Encodes a batch; arguments and result as in ``BiLSTMEncoder.forward``."""
        kept = real.unsqueeze(-1).to(embedded.dtype)
        # Padding must look like the zeros beyond the end, whatever features were passed in.
        channels = (embedded * kept).transpose(1, 2)
        maps = [convolution(channels) for convolution in self.convolutions]
        return torch.cat(maps, dim=1).relu().transpose(1, 2) * kept


class AverageEncoder(Encoder):
    """Each embedding projected by itself, with a ReLU: a bag of words, no context.

    Args:
        embedding_size: Features of one embedding.
        hidden_size: Half of ``size``, as in the BiLSTM.

    Examples:
        >>> encoder = AverageEncoder(4, 3)
        >>> encoder(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 6])
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.size = 2 * hidden_size
        self.projection = nn.Linear(embedding_size, self.size)

    def forward(self, embedded: Tensor, real: Tensor) -> Tensor:
        """Encodes a batch; arguments and result as in ``BiLSTMEncoder.forward``."""
        projected: Tensor = self.projection(embedded).relu()
        return projected * real.unsqueeze(-1).to(projected.dtype)


ENCODERS: dict[str, type[BiLSTMEncoder] | type[ConvEncoder] | type[AverageEncoder]] = {
    "bilstm": BiLSTMEncoder,
    "cnn": ConvEncoder,
    "average": AverageEncoder,
}
