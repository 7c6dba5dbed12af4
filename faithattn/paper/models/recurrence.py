"""States of texts that differ in places from texts that a BiLSTM has read.

A direction has the states of the text that was read up to the first difference
in its way, and the projection W x of a vector that occurs in several places is
computed once. What is left are the products with the state before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faithattn.paper.models.differences import Differences, differences
from faithattn.paper.models.encoders import BiLSTMEncoder, Encoder

_CLOSED = -1e4  # a gate's input that makes its sigmoid 0: padding leaves no state


class Edited(NamedTuple):
    """Texts and where they first differ from those that were read, by their first difference.

    Attributes:
        order: Number ``(n,)`` of each text as the caller counts them.
        rows: The text ``(n,)`` that was read.
        codes: Number ``(n, L)`` of the vector at each position; 0 is padding.
        apart: Where each text differs.
    """

    order: Tensor
    rows: Tensor
    codes: Tensor
    apart: Differences


class ReadTexts:
    """What a BiLSTM made of a batch, and what it makes of other texts from there.

    Args:
        encoder: One that :func:`is_recurrent` allows.
        vectors: The distinct vectors ``(V, E)`` of the texts; that of padding
            comes first, whatever it is.
        codes: Which of them is where ``(B, L)``; 0 at padding, at the end only.
    """

    def __init__(self, encoder: BiLSTMEncoder, vectors: Tensor, codes: Tensor) -> None:
        self.codes = codes
        self._right, self._left = _Direction(encoder.rightward), _Direction(encoder.leftward)
        self._tables = [each.table(vectors) for each in (self._right, self._left)]
        self._more = vectors[:0], self._tables  # with other vectors behind them
        (size, length), hidden = codes.shape, self._right.hidden
        states, cells = self._read = vectors.new_empty(2, size, length, 2 * hidden)
        right, left = _halves(hidden)
        forth = [(at, slice(0, size)) for at in range(length)]
        for direction, table, way, half in (
            (self._right, self._tables[0], forth, right),
            (self._left, self._tables[1], forth[::-1], left),
        ):
            cell = vectors.new_zeros(size, hidden)
            direction.walk(table, codes, way, states[..., half], cell, cells[..., half])

    @property
    def states_read(self) -> Tensor:
        """States ``(B, L, 2 * hidden)`` of the texts that were read."""
        return self._read[0]

    def edited(self, codes: Tensor, rows: Tensor) -> Edited:
        """Finds where texts ``(n, L)`` differ from the rows ``(n,)`` that were read."""
        apart = differences(self.codes[rows], codes)
        order = apart.first.argsort(stable=True)
        return Edited(
            order, rows[order], codes[order], Differences(*(each[order] for each in apart))
        )

    def states(self, edited: Edited, vectors: Tensor) -> Tensor:
        """States ``(n, L, 2 * hidden)`` of texts; ``vectors`` (K, E) have the codes from V on."""
        rows, codes, (first, last, offset) = edited.rows, edited.codes, edited.apart
        places = torch.arange(codes.shape[1], device=codes.device)
        # Whoever starts before the first difference comes to the same: texts that have started
        # are kept together, in the order of their differences from the left.
        last = last.cummax(0).values
        begun = torch.searchsorted(first, places, right=True).tolist()
        late = torch.searchsorted(last, places).tolist()
        forth = [(at, slice(0, end)) for at, end in enumerate(begun)]
        back = [(at, slice(start, len(rows))) for at, start in enumerate(late)][::-1]
        states, tables = self._shared(rows, offset, codes.shape[1]), self._with(vectors)
        right, left = _halves(self._right.hidden)
        cell = self._cell(rows, first - 1, right)
        self._right.walk(tables[0], codes, forth, states[..., right], cell)
        cell = self._cell(rows, last + 1 + offset, left)
        self._left.walk(tables[1], codes, back, states[..., left], cell)
        return states

    def _shared(self, rows: Tensor, offset: Tensor, length: int) -> Tensor:
        """The states of the texts that were read, from the left and, moved, from the right."""
        states, width = self._read[0], self.codes.shape[1]
        if length > width:
            states = nn.functional.pad(states, (0, 0, 0, length - width))
        shared = states[:, :length].index_select(0, rows)
        moved = offset.nonzero()[:, 0]
        if len(moved):
            left = _halves(self._right.hidden)[1]
            source = torch.arange(length, device=rows.device) + offset[moved, None]
            found = states[rows[moved, None], source.clamp(0, width - 1), left]
            shared[moved, :, left] = found.masked_fill_((source >= width)[..., None], 0)
        return shared

    def _cell(self, rows: Tensor, places: Tensor, half: slice) -> Tensor:
        """The cell ``(n, hidden)`` at one place of each row; 0 outside of the text."""
        width = self.codes.shape[1]
        found = self._read[1, rows, places.clamp(0, width - 1), half]
        outside = (places < 0) | (places >= width)
        return found.masked_fill_(outside[:, None], 0)

    def _with(self, vectors: Tensor) -> list[Tensor]:
        """The tables with what other vectors give behind them; often they are those as before."""
        known, tables = self._more
        if not torch.equal(known, vectors):
            both = zip(self._tables, (self._right, self._left), strict=True)
            tables = [torch.cat([table, each.projected(vectors)]) for table, each in both]
            self._more = vectors, tables
        return tables


class _Direction:
    """The weights of one direction, the gates in their order: input, forget, cell, output."""

    def __init__(self, lstm: nn.LSTM) -> None:
        self.hidden = lstm.hidden_size
        weights = {name: each.detach() for name, each in lstm.named_parameters()}
        self._inputs = weights["weight_ih_l0"].T
        self._states = weights["weight_hh_l0"].T.contiguous()  # for the small products
        self._bias = self._inputs.new_zeros(4 * self.hidden)
        if lstm.bias:
            self._bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]

    def projected(self, vectors: Tensor) -> Tensor:
        """What vectors ``(V, E)`` give the gates ``(V, 4 * hidden)``."""
        return torch.addmm(self._bias, vectors, self._inputs)

    def table(self, vectors: Tensor) -> Tensor:
        """The same, with gates closed for the first, which is padding."""
        table = self.projected(vectors)
        table[0] = _CLOSED
        return table

    def walk(
        self,
        table: Tensor,
        codes: Tensor,
        spans: Iterable[tuple[int, slice]],
        states: Tensor,
        cell: Tensor,
        cells: Tensor | None = None,
    ) -> None:
        """Writes states ``(n, L, hidden)``, step by step.

        Args:
            table: What each vector gives the gates.
            codes: The vectors ``(n, L)``.
            spans: Each position in turn, with the rows to do.
            states: Where the states go; a row's first step goes on from the
                position before, as it is found there.
            cell: The cell ``(n, hidden)`` that each row goes on from; used up.
            cells: Where the cells go, if they are wanted.
        """
        before, done = torch.zeros_like(cell), slice(0)
        gates, shown = cell.new_empty(len(cell), 4 * self.hidden), torch.empty_like(cell)
        columns, targets = codes.T.contiguous().unbind(0), states.unbind(1)
        for at, part in spans:
            if part.start < part.stop:
                if part != done:
                    done, gate, now, seen = part, gates[part], cell[part], shown[part]
                    both = gate[:, : 2 * self.hidden]
                    opened, kept, new, out = gate.chunk(4, 1)
                torch.index_select(table, 0, columns[at][part], out=gate)
                gate.addmm_(before[part], self._states)
                both.sigmoid_()
                now.mul_(kept).addcmul_(opened, new.tanh_())
                torch.mul(torch.tanh(now, out=seen), out.sigmoid_(), out=targets[at][part])
                if cells is not None:
                    cells[part, at] = now
            before = targets[at]


def is_recurrent(encoder: Encoder) -> bool:
    """Whether ``ReadTexts`` knows all that an encoder does."""
    if type(encoder) is not BiLSTMEncoder:
        return False
    lstms = [encoder.rightward, encoder.leftward]
    return all(map(_is_plain, lstms)) and lstms[0].hidden_size == lstms[1].hidden_size


def _is_plain(lstm: nn.LSTM) -> bool:
    return (
        type(lstm) is nn.LSTM
        and lstm.num_layers == 1
        and lstm.batch_first
        and not (lstm.bidirectional or lstm.proj_size)
    )


def _halves(hidden: int) -> tuple[slice, slice]:
    return slice(hidden), slice(hidden, None)
